//! What the Prometheus of a whole cluster has for the panels of dashboards.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::report;
use crate::panels::panels;

/// Metrics that the doubles of components do not have.
const ABSENT: [(&str, &str); 5] = [
    ("kubelet_", "kubelet"),
    ("workqueue_", "kube-controller-manager"),
    ("scheduler_", "kube-scheduler"),
    ("apiserver_current_inflight_requests", "kube-apiserver"),
    ("apiserver_client_certificate", "kube-apiserver"),
];

/// Asks every query. One that returns nothing is about a component that is not there, and none of its
/// metrics is.
pub(crate) fn each_has_data_or_names_what_is_absent(ask: impl Fn(&str) -> Vec<Value>) {
    let (mut full, mut absent) = (0, Vec::new());
    for (title, queries) in panels() {
        for query in queries {
            // Rates and rules need a moment.
            let end = Instant::now() + Duration::from_secs(30);
            let names = ABSENT.iter().filter(|(metric, _)| query.contains(metric));
            let missing = names
                .clone()
                .any(|(metric, _)| ask(&format!("count({{__name__=~\"{metric}.*\"}})")).is_empty());
            let mut found = ask(&query);
            while found.is_empty() && !missing && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(500));
                found = ask(&query);
            }
            if found.is_empty() {
                assert!(missing, "no data in `{title}`: {query}");
                absent.extend(names.map(|(_, component)| *component));
            } else {
                full += 1;
            }
        }
    }
    absent.sort_unstable();
    absent.dedup();
    report(&format!("{full} queries of dashboards have data; absent here: {absent:?}"));
    assert!(full > 30, "only {full} queries have data");
}
