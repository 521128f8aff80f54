//! Rules, dashboards and configurations of monitoring, by promtool, amtool and a real Alertmanager.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "monitoring/panels.rs"]
mod panels;
#[path = "monitoring/webhook.rs"]
mod webhook;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use apiproxy::bootstrap::render::monitoring::{alertmanager, configuration};
use apiproxy::bootstrap::spec::{self, Cluster};
use common::{Running, free_port, has_program, run, wait_for};
use webhook::Webhook;

/// Files of rules, and what promtool holds against them.
const RULES: [(&str, &str); 2] = [
    ("packaging/rules/control-plane.yaml", "tests/prometheus/control-plane_test.yaml"),
    ("packaging/rules/hosts.yaml", "tests/prometheus/hosts_test.yaml"),
];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn cluster(topology: &str, monitoring: &str, folder: &Path) -> Cluster {
    let etcd = "  - { name: e1, address: 10.0.0.21, roles: [etcd] }\n";
    let etcd = if topology == "external" { etcd } else { "" };
    let text = format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
         kubernetesVersion: v1.34.2\n  topology: {topology}\n  hosts:\n  \
         - {{ name: 'cp[1-3]', address: '10.0.0.[11-13]', roles: [controlPlane] }}\n{etcd}  \
         - {{ name: w1, address: 10.0.0.31, roles: [worker] }}\n  \
         - {{ name: 'm[1-3]', address: '10.0.0.[71-73]', roles: [monitoring] }}\n  \
         monitoring: {monitoring}\n"
    );
    spec::parse("cluster.yaml", &text, folder, None).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_rules_pass_their_own_tests() {
    if !has_program("promtool") {
        skip!("promtool is not installed");
    }
    for (rules, tests) in RULES {
        run(Command::new("promtool").args(["check", "rules"]).arg(file(rules)));
        run(Command::new("promtool").args(["test", "rules"]).arg(file(tests)));
        let (rules, tests) = (fs::read_to_string(file(rules)), fs::read_to_string(file(tests)));
        for alert in alerts(&rules.unwrap()) {
            let fires = format!("alertname=\"{alert}\"");
            assert!(tests.as_ref().unwrap().contains(&fires), "{alert} is never seen to fire");
        }
    }
}

/// The names of the alerts in a text.
fn alerts(rules: &str) -> Vec<String> {
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

#[test]
fn every_alert_has_a_section_in_the_readme() {
    let readme = fs::read_to_string(file("README.md")).unwrap();
    let mut count = 0;
    for (rules, _) in RULES {
        let rules = fs::read_to_string(file(rules)).unwrap();
        for alert in alerts(&rules) {
            assert!(readme.contains(&format!("\n#### {alert}\n")), "no section for {alert}");
            let runbook = format!("runbook_url: README.md#{}\n", alert.to_lowercase());
            assert_eq!(rules.matches(&runbook).count(), 1, "{alert} has no runbook");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} alerts");
}

#[test]
fn prometheus_and_alertmanager_take_what_is_made_for_them() {
    if !has_program("promtool") || !has_program("amtool") {
        skip!("promtool and amtool are not both installed");
    }
    let sources = tempfile::tempdir().unwrap();
    for name in ["slack", "password"] {
        fs::write(sources.path().join(name), "https://x/secret\n").unwrap();
    }
    let all = "{ pushgateway: true, kubeStateMetrics: 'kube-system/ksm:8080', alerts: { webhook: 'http://a/b', \
               slack: { urlFile: slack, channel: '#ops' }, email: { to: a@b.c, from: d@e.f, \
               smarthost: 'm.b.c:587', username: u, passwordFile: password } } }";
    for (topology, monitoring) in [("stacked", "{}"), ("external", all)] {
        let cluster = cluster(topology, monitoring, sources.path());
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca.crt", "client.crt", "client.key"] {
            for name in [name.to_owned(), format!("etcd-{name}")] {
                fs::create_dir_all(folder.path().join("pki")).unwrap();
                fs::write(folder.path().join("pki").join(name), "").unwrap();
            }
        }
        let host = cluster.host("m2").unwrap();
        for made in configuration(&cluster, host, None).unwrap() {
            let path = folder.path().join(&made.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, made.content).unwrap();
        }
        let told = run(Command::new("promtool")
            .args(["check", "config"])
            .arg(folder.path().join("prometheus.yml")));
        assert!(told.contains("3 rule files found"), "{told}");
        run(Command::new("amtool").arg("check-config").arg(folder.path().join("alertmanager.yml")));
    }
}

#[test]
fn every_query_of_the_dashboards_can_be_read() {
    if !has_program("promtool") {
        skip!("promtool is not installed");
    }
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    for (title, queries) in panels::panels() {
        for (number, query) in queries.iter().enumerate() {
            // The title is a label, so that promtool's complaint names the panel.
            let label = serde_json::json!({ "panel": title, "n": number.to_string() });
            let rule = serde_json::json!({ "record": "panel", "expr": query, "labels": label });
            writeln!(rules, "  - {rule}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("panels.yaml");
    fs::write(&path, rules).unwrap();
    run(Command::new("promtool").args(["check", "rules"]).arg(path));
}

/// A running Alertmanager. Killed when dropped.
struct Alertmanager {
    _child: Running,
    _folder: tempfile::TempDir,
    url: String,
}

impl Alertmanager {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alertmanager.yml"), config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let flag =
            |name: &str, file: &str| format!("--{name}={}", folder.path().join(file).display());
        let child = Command::new("prometheus-alertmanager")
            .arg(flag("config.file", "alertmanager.yml"))
            .arg(flag("storage.path", "data"))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let own =
            Self { _child: Running(child), _folder: folder, url: format!("http://{address}") };
        wait_for("Alertmanager answers", Duration::from_secs(30), || {
            let ready =
                Command::new("curl").args(["-sf", &format!("{}/-/ready", own.url)]).output();
            ready.is_ok_and(|output| output.status.success()).then_some(())
        });
        own
    }

    /// Alerts begin, as `NAME LABEL=VALUE..`.
    fn begin(&self, alerts: &[&str]) {
        for alert in alerts {
            let mut amtool = Command::new("amtool");
            amtool.args(["--alertmanager.url", &self.url, "alert", "add"]);
            run(amtool.args(alert.split(' ')).arg("cluster=prod"));
        }
    }
}

#[test]
fn one_dead_master_is_one_alert() {
    if !has_program("prometheus-alertmanager") || !has_program("amtool") {
        skip!("prometheus-alertmanager is not installed");
    }
    let webhook = Webhook::start("127.0.0.1");
    let monitoring = format!("{{ interval: 1s, alerts: {{ webhook: \"{}\" }} }}", webhook.url());
    let cluster = cluster("stacked", &monitoring, Path::new(""));
    let alertmanager = Alertmanager::start(&alertmanager(&cluster).unwrap());
    // What the others see of it may be told first.
    alertmanager.begin(&[
        "EtcdQuorumAtRisk instance=cp1 severity=critical",
        "KubeApiserverDown instance=cp1 backend=cp1 severity=critical",
        "ApiproxyBackendDown backend=cp1 state=dead severity=warning",
        "KubeComponentDown instance=cp1 job=kubelet severity=warning",
        "HostDown instance=cp1 backend=cp1 severity=critical",
    ]);
    wait_for("somebody is told", Duration::from_secs(30), || {
        (!webhook.told().is_empty()).then_some(())
    });
    // Another one by itself, which comes after all that could have come of the first.
    std::thread::sleep(Duration::from_secs(5));
    alertmanager.begin(&[
        "ApiproxyBackendDown backend=cp2 state=dead severity=warning",
        "KubeApiserverDown instance=cp2 backend=cp2 severity=critical",
    ]);
    wait_for("the second is told", Duration::from_secs(30), || {
        (webhook.told().len() > 1).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(webhook.of("firing"), ["HostDown@cp1", "KubeApiserverDown@cp2"]);
}
