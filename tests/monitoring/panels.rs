//! The dashboards of packaging/ against the Prometheus of a test.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The dashboards that ask for hosts and components; tests/prometheus.rs has the proxies' own.
const DASHBOARDS: [&str; 3] =
    ["grafana-control-plane.json", "grafana-nodes.json", "grafana-backups.json"];

/// Each panel of each dashboard: its title and its queries.
pub(crate) fn panels() -> Vec<(String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let mut all = Vec::new();
    for name in DASHBOARDS {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().into_iter().flatten();
            let queries = targets.map(|target| filled_in(target["expr"].as_str().unwrap()));
            all.push((format!("{name}: {title}"), queries.collect()));
        }
    }
    assert!(all.len() > 40, "{all:?}");
    all
}

/// A query with what Grafana puts into it.
fn filled_in(query: &str) -> String {
    let query = query.replace("$__rate_interval", "30s").replace("$instance", ".*");
    assert!(!query.contains('$'), "an unknown variable: {query}");
    query
}
