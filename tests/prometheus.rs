//! The alerting rules and the dashboard, against a real Prometheus that scrapes a real proxy.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "prometheus/backups.rs"]
mod backups;
mod common;
#[path = "backup/rig.rs"]
#[expect(dead_code, reason = "the tests of backups use the rest of it")]
mod rig;
#[path = "prometheus/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiproxy::bootstrap::backup::METRICS;
use apiproxy::demo::ApiServer;
use apiproxy::metrics::CATALOGUE;
use common::{Cluster, Proxy, Running, has_program, report, run, wait_for};
use serde_json::Value;
use server::{Prometheus, hastened};

/// Metrics that are there only where something is configured or has happened.
const SOMETIMES: &[&str] = &["apiproxy_endpoints_age_seconds"];

const LONG: Duration = Duration::from_mins(1);

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}

/// Every query of the dashboard, with its panel.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("packaging/grafana-dashboard.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            found.push((panel["title"].as_str().unwrap().to_owned(), query.to_owned()));
        }
    }
    assert!(found.len() > 25, "the dashboard has {} queries", found.len());
    found
}

/// The names that begin with `apiproxy_` in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words.filter(|word| word.starts_with("apiproxy_")).collect()
}

#[test]
fn the_rules_pass_their_own_tests() {
    if !has_program("promtool") {
        skip!("promtool is not installed");
    }
    run(Command::new("promtool")
        .args(["check", "rules"])
        .arg(file("packaging/prometheus-rules.yaml")));
    run(Command::new("promtool")
        .args(["test", "rules"])
        .arg(file("tests/prometheus/rules_test.yaml")));
}

#[test]
fn every_metric_that_is_named_exists() {
    let dashboard: Vec<_> = queries().into_iter().map(|(_, query)| query).collect();
    let rules = text("packaging/prometheus-rules.yaml");
    for name in metrics(&(dashboard.join("\n") + &rules)) {
        let base = name.strip_suffix("_bucket").unwrap_or(name);
        let known = CATALOGUE.iter().any(|(metric, ..)| *metric == base)
            || METRICS.iter().any(|(metric, _)| *metric == base);
        assert!(known, "{name} is in no catalogue");
    }
}

#[test]
fn every_alert_has_a_section_in_the_readme() {
    let rules = text("packaging/prometheus-rules.yaml");
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 11, "{alerts:?}");
    let readme = text("README.md");
    for alert in alerts {
        assert!(readme.contains(&format!("\n#### {alert}\n")), "no section for {alert}");
        let runbook = format!("runbook_url: README.md#{}\n", alert.to_lowercase());
        assert_eq!(rules.matches(&runbook).count(), 1, "{alert} has no runbook");
    }
}

/// A proxy under observation.
struct Scene {
    held: Vec<TcpStream>,
    prometheus: Prometheus,
    proxy: Proxy,
    // Its folder holds the proxy's files, so that it goes last.
    cluster: Cluster,
}

impl Scene {
    fn start() -> Self {
        Self::of(Cluster::new(3), "")
    }

    fn of(cluster: Cluster, more: &str) -> Self {
        let lines = "connections: { max: 40 }\nrebalance: { enabled: false }\n".to_owned() + more;
        let proxy = cluster.proxy("interval: 500ms, fastInterval: 50ms,", &lines);
        let rules = hastened(&text("packaging/prometheus-rules.yaml"));
        let prometheus = Prometheus::start(proxy.admin, &rules);
        Self { cluster, proxy, prometheus, held: Vec::new() }
    }

    /// Opens connections that say nothing.
    fn hold(&mut self, count: usize) {
        self.held = (0..count).map(|_| TcpStream::connect(self.proxy.listen).unwrap()).collect();
        self.wait_active(count..);
    }

    fn release(&mut self) {
        self.held.clear();
        self.wait_active(..1);
    }

    fn wait_active(&self, wanted: impl RangeBounds<usize> + std::fmt::Debug) {
        wait_for(&format!("{wanted:?} connections"), LONG, || {
            let active: usize = self.proxy.status().backends.iter().map(|b| b.connections).sum();
            wanted.contains(&active).then_some(())
        });
    }

    fn server(&self, name: &str) -> &ApiServer {
        self.cluster.server(name)
    }

    fn crash(&self, name: &str) {
        self.server(name).crash();
        self.proxy.wait_state(name, "dead", LONG);
    }

    fn restart(&self, name: &str) {
        self.server(name).restart().unwrap();
        self.proxy.wait_state(name, "ready", LONG);
    }

    /// Waits until an alert fires. Nothing else may on the way but these.
    fn wait_firing(&self, alert: &str, others: &[&str]) {
        let start = Instant::now();
        wait_for(&format!("{alert} fires"), LONG, || {
            let firing = self.prometheus.firing();
            let stray =
                firing.iter().find(|name| *name != alert && !others.contains(&name.as_str()));
            assert_eq!(stray, None, "while waiting for {alert}");
            firing.iter().any(|name| name == alert).then_some(())
        });
        report(&format!("{alert} fired after {:.1} s", start.elapsed().as_secs_f64()));
    }

    fn wait_quiet(&self) {
        wait_for("no alert fires", LONG, || {
            let firing = self.prometheus.firing();
            firing.is_empty().then_some(())
        });
    }

    /// Nothing fires for so long.
    fn stays_quiet(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(self.prometheus.firing(), Vec::<String>::new());
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

#[test]
fn each_alert_fires_when_it_should_and_not_otherwise() {
    if !has_program("prometheus") || !has_program("prlimit") {
        skip!("prometheus and prlimit are not both installed");
    }
    let mut scene = Scene::start();
    // Longer than any alert waits.
    scene.hold(24);
    scene.stays_quiet(Duration::from_secs(20));

    // One backend dies for good: its connections are reset by its own kernel.
    scene.crash("cp3");
    scene.wait_firing("ApiproxyBackendDown", &[]);
    scene.crash("cp2");
    scene.wait_active(..24 - 8);

    // All load on one of three that are ready.
    scene.hold(24);
    scene.restart("cp2");
    scene.restart("cp3");
    scene.wait_firing("ApiproxyLoadOneSided", &["ApiproxyBackendDown"]);
    scene.release();
    scene.wait_quiet();

    // It comes and goes.
    for _ in 0..3 {
        scene.crash("cp1");
        scene.restart("cp1");
    }
    scene.wait_firing("ApiproxyBackendFlapping", &[]);
    scene.wait_quiet();

    // More clients than connections.max.
    scene.hold(40);
    drop(TcpStream::connect(scene.proxy.listen));
    scene.wait_firing("ApiproxyClientsRefused", &[]);
    scene.release();
    scene.wait_quiet();

    // Few file descriptors are left.
    let limits = |limit: usize| {
        let pid = format!("--pid={}", scene.proxy.child.id());
        run(Command::new("prlimit").arg(pid).arg(format!("--nofile={limit}:20000")));
    };
    let folder = format!("/proc/{}/fd", scene.proxy.child.id());
    limits(fs::read_dir(folder).unwrap().count() + 6);
    scene.wait_firing("ApiproxyFilesNearLimit", &[]);
    limits(20_000);
    scene.wait_quiet();

    // Nobody is left to serve a client.
    for server in &scene.cluster.servers {
        server.crash();
    }
    let consequences = ["ApiproxyBackendDown", "ApiproxyClientsUnserved"];
    scene.wait_firing("ApiproxyNoUsableBackend", &consequences);
    let nobody = || drop(TcpStream::connect(scene.proxy.listen));
    nobody();
    let consequences = ["ApiproxyBackendDown", "ApiproxyNoUsableBackend"];
    scene.wait_firing("ApiproxyClientsUnserved", &consequences);
    for name in ["cp1", "cp2", "cp3"] {
        scene.restart(name);
    }
    scene.wait_quiet();

    // The proxy itself is gone.
    scene.proxy.child.kill().unwrap();
    scene.wait_firing("ApiproxyDown", &[]);
}

#[test]
fn each_alert_of_an_operation_fires_when_it_goes_wrong_and_not_otherwise() {
    if !has_program("prometheus") {
        skip!("prometheus is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("servers");
    let discovery = format!("discovery: {{ file: \"{}\" }}\n", list.display());
    let cluster = Cluster::new(3);
    let found = format!("{}\n", cluster.server("cp3").address());
    fs::write(&list, &found).unwrap();
    let scene = Scene::of(cluster, &discovery);
    // Longer than any alert waits: what a source goes on saying is no old news.
    scene.stays_quiet(Duration::from_secs(20));
    // Nor are a reload and a handover that go well.
    let good = fs::read_to_string(&scene.proxy.file).unwrap();
    scene.proxy.replace_config(&(good.clone() + "zone: a\n"));
    scene.proxy.reload();
    assert!(scene.proxy.metric("apiproxy_config_reloads_total", &["applied"]) > 0.5);
    scene.stays_quiet(Duration::from_secs(3));

    scene.proxy.replace_config("kind: ProxyConfig\n");
    scene.proxy.reload();
    scene.wait_firing("ApiproxyReloadRefused", &[]);
    scene.proxy.replace_config(&(good + "zone: a\n"));
    scene.proxy.reload();
    scene.wait_quiet();

    // A process that reaches no backend, where this one does, does not take over.
    let blind = folder.path().join("blind.yaml");
    let lines = "backends: [{ address: \"127.0.0.1:1\" }]\nhealthCheck: { type: tcp }\n";
    fs::write(&blind, scene.proxy.config(lines)).unwrap();
    let successor = |file: &Path| {
        let mut command = Command::new(common::program());
        command.args(["run", "--take-over", "--config"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    };
    let mut blind = successor(&blind);
    let status = wait_for("it gives up", LONG, || blind.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    scene.wait_firing("ApiproxyHandoverFailed", &[]);
    scene.wait_quiet();

    // The list of servers is lost; the servers stay.
    fs::remove_file(&list).unwrap();
    scene.wait_firing("ApiproxyEndpointsStale", &[]);
    assert_eq!(scene.proxy.status().backends.len(), 3);
    fs::write(&list, &found).unwrap();
    scene.wait_quiet();

    // And a handover that goes well is none of them: the process that has taken over is scraped.
    let mut heir = successor(&scene.proxy.file);
    wait_for("it has taken over", LONG, || (scene.proxy.status().pid == heir.0.id()).then_some(()));
    scene.stays_quiet(Duration::from_secs(5));
    assert_eq!(heir.0.try_wait().unwrap(), None);
}

#[test]
fn every_query_of_the_dashboard_returns_data() {
    if !has_program("prometheus") {
        skip!("prometheus is not installed");
    }
    let mut scene = Scene::start();
    // Something of everything: a death under load, a doubt, and a return.
    let load = scene.cluster.load(&scene.proxy);
    let client = scene.cluster.client(&scene.proxy);
    scene.hold(12);
    scene.server("cp1").hang();
    scene.proxy.wait_state("cp1", "dead", LONG);
    scene.server("cp1").resume();
    scene.proxy.wait_state("cp1", "ready", LONG);
    let mut open = queries();
    // Those of backups come from another target.
    open.retain(|(_, query)| !backups::is_about_them(query));
    let end = Instant::now() + LONG / 2;
    while !open.is_empty() && Instant::now() < end {
        // Rates need something that goes on.
        let _ = client.ask();
        open.retain(|(_, query)| scene.prometheus.query(&filled_in(query)).is_empty());
    }
    drop(load);
    let exposed = scene.proxy.metrics();
    for (panel, query) in open {
        let names = metrics(&query);
        let sometimes = names.iter().find(|name| SOMETIMES.contains(name));
        assert!(sometimes.is_some(), "no data in panel `{panel}`: {query}");
        for name in names {
            assert!(!exposed.contains(name), "{name} is there, but panel `{panel}` shows nothing");
        }
    }
}

/// A query of the dashboard with what Grafana puts into it.
fn filled_in(query: &str) -> String {
    let variables =
        [("$__rate_interval", "20s"), ("$__range", "20s"), ("$job", ".*"), ("$instance", ".*")];
    let fill = |query: String, (name, value): &(&str, &str)| query.replace(name, value);
    let query = variables.iter().fold(query.to_owned(), fill);
    assert!(!query.contains('$'), "an unknown variable: {query}");
    query
}
