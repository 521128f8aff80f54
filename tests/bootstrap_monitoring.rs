//! Monitoring by `apiproxy bootstrap apply` on booted machines: real Prometheus, three Alertmanagers that
//! know each other, node-exporter and etcd; kubeadm and kubelet are doubles, and so are the control plane's
//! programs unless `KUBEBUILDER_ASSETS` has them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "monitoring/data.rs"]
mod data;
#[path = "monitoring/panels.rs"]
mod panels;
#[path = "monitoring/webhook.rs"]
mod webhook;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::machines::{Lab, Machine};
use common::operator::Operator;
use common::{doubles, report, run, wait_for};
use serde_json::Value;
use webhook::Webhook;

/// Debian's etcd is 3.4, which kubeadm takes until 1.33.
const VERSION: &str = "v1.33.4";

/// Within this time people have to know.
const TOLD: Duration = Duration::from_secs(90);

/// What runs as a `DaemonSet`, which the double of kubelet does not start.
const ABSENT: &str = "kube-proxy";

/// Alerts about what all machines share: disk, memory and clock of this host.
const SHARED: &str = "HostDisk.*|HostMemoryLow|HostClockWrong";

/// What monitoring leaves on a host when it is taken away, one a line.
const LEFT: &str = "ls -d /etc/apiproxy/monitoring* /etc/systemd/system/apiproxy-prometheus* \
    /etc/systemd/system/apiproxy-alertmanager* /etc/systemd/system/*/apiproxy-node-exporter* \
    /etc/systemd/system/apiproxy-node-exporter* /etc/systemd/system/apiproxy-pushgateway* \
    2>/dev/null; pgrep -a prometheus; true";

struct Site {
    operator: Operator,
    webhook: Webhook,
    machines: Vec<Machine>,
}

impl Site {
    /// No worker is among them: its proxy would run from an image.
    fn new(lab: &Lab) -> Self {
        let machines: Vec<_> = lab.boot_all(["cp1", "e1", "e2", "e3", "m1", "m2", "m3"]).into();
        doubles::install_images(&machines[0], VERSION);
        let operator = Operator::new(lab);
        doubles::collect(operator.folder(), VERSION, &common::program());
        let webhook = Webhook::start(&lab.gateway());
        Self { operator, webhook, machines }
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name() == name).unwrap()
    }

    /// Writes the cluster's file with this about monitoring.
    fn write(&self, monitoring: &str) {
        let mut spec = format!(
            "  kubernetesVersion: {VERSION}\n  topology: external\n  ssh: {{ user: root }}\n  \
             network: {{ cni: {{ manifest: ./network.yaml }} }}\n  \
             artifacts: {{ from: directory, path: ./artifacts }}\n  monitoring: {monitoring}\n  hosts:\n"
        );
        for machine in &self.machines {
            let (name, address) = (machine.name(), machine.address());
            let roles = match &name[..1] {
                "c" => "controlPlane",
                "e" => "etcd",
                _ => "monitoring",
            };
            writeln!(spec, "    - {{ name: {name}, address: {address}, roles: [{roles}] }}")
                .unwrap();
        }
        self.operator.write(&spec);
    }

    /// What a Prometheus answers.
    fn ask(&self, name: &str, path: &str, query: Option<&str>) -> Value {
        let url = format!("http://{}:9090/api/v1/{path}", self.machine(name).address());
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "10", &url]);
        if let Some(query) = query {
            curl.arg("--data-urlencode").arg(format!("query={query}"));
        }
        let answer: Value = serde_json::from_str(&run(&mut curl)).unwrap();
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    fn series(&self, query: &str) -> Vec<Value> {
        let data = self.ask("m2", "query", Some(query));
        data["result"].as_array().unwrap().clone()
    }

    /// `JOB@INSTANCE` of each target that is not up.
    fn down(&self, name: &str) -> BTreeSet<String> {
        let targets = self.ask(name, "targets?state=active", None);
        let targets = targets["activeTargets"].as_array().unwrap().clone();
        assert!(targets.len() > 20, "{targets:#?}");
        let label = |target: &Value, label: &str| {
            target["labels"][label].as_str().unwrap_or_default().to_owned()
        };
        let down = targets.iter().filter(|target| target["health"] != "up");
        down.map(|target| format!("{}@{}", label(target, "job"), label(target, "instance")))
            .collect()
    }
}

#[test]
fn a_cluster_is_watched_and_people_are_told_once() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let site = Site::new(&lab);
    let url = site.webhook.url();
    let wished = format!("{{ interval: 5s, pushgateway: true, alerts: {{ webhook: \"{url}\" }} }}");
    site.write(&wished);
    let (_, time) = site.operator.apply(&[]);
    report(&format!("a cluster that is watched in {:.1} s", time.as_secs_f64()));
    site.operator.apply_again(&[]);

    everything_is_seen(&site);
    data::each_has_data_or_names_what_is_absent(|query| site.series(query));
    two_faults_are_told_once_each(&site);
    a_bad_configuration_loses_nothing(&site);

    site.write("{ enabled: false }");
    site.operator.apply(&[]);
    site.operator.apply_again(&[]);
    for machine in &site.machines {
        assert_eq!(machine.exec(LEFT), "", "on {}", machine.name());
    }
    // What others put there, and what was recorded, stays.
    site.machine("e1").exec("dpkg -s prometheus-node-exporter; systemctl is-active apiproxy-etcd");
    site.machine("e1").exec("ls /var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom");
    site.machine("m1").exec("ls -d /var/lib/apiproxy-monitoring/prometheus/*");
    let rights = site.machine("cp1").exec(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf get clusterroles,clusterrolebindings -o name",
    );
    assert!(!rights.contains("apiproxy-monitoring"), "{rights}");
}

fn everything_is_seen(site: &Site) {
    // What backups leave, with a class of its own.
    let backup =
        "newest_timestamp_seconds last_run_success copies_complete duration_seconds stored";
    let backup = backup.split(' ').fold(String::new(), |text, name| {
        text + &format!("apiproxy_etcd_backup_{name}{{cluster=\"test\"}} 1\n")
    });
    let path = "/var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom";
    site.machine("e1").write(path, backup.as_bytes(), 0o644);
    let expected = BTreeSet::from([format!("{ABSENT}@cp1")]);
    let hosts = site.machines.len();
    for name in ["m1", "m2", "m3"] {
        wait_for(&format!("every target of {name} is up"), Duration::from_mins(1), || {
            (site.down(name) == expected).then_some(())
        });
    }
    // What is known to be absent is told to nobody, and neither what the machines have of the host that runs
    // them: this is how maintenance is done.
    let amtool = format!("amtool --alertmanager.url http://{}:9093", site.machine("m1").address());
    for quiet in [format!("job={ABSENT}"), format!("alertname=~'{SHARED}'")] {
        let silence = "silence add --comment maintenance --duration 1h";
        site.machine("m1").exec(&format!("{amtool} {silence} {quiet}"));
    }
    for (query, count) in [
        (format!(r#"count(up{{class="hosts"}} == 1) == {hosts}"#).as_str(), 1),
        (r#"etcd_server_has_leader{job="etcd",class="components"} == 1"#, 3),
        // One apiserver, and one Node.
        (r#"apiserver_storage_objects{class="objects",resource="nodes"} == 1"#, 1),
        (r#"apiproxy_etcd_backup_last_run_success{class="components",instance="e1"}"#, 1),
        ("alertmanager_cluster_members == 3", 3),
        (r#"up{job="pushgateway",instance="m1"}"#, 1),
    ] {
        wait_for(query, Duration::from_secs(30), || {
            (site.series(query).len() == count).then_some(())
        });
    }
    assert_eq!(site.webhook.told(), []);
}

fn two_faults_are_told_once_each(site: &Site) {
    let (cp1, e3) = (site.machine("cp1"), site.machine("e3"));
    let both = ["EtcdQuorumAtRisk@e3", "KubeApiserversAllDown@"].map(str::to_owned);
    let wait = |status: &str| {
        let begun = Instant::now();
        wait_for(&format!("{both:?} are {status}"), TOLD, || {
            (site.webhook.of(status) == both).then_some(())
        });
        let times = site.webhook.told().into_iter().filter(|told| told.status == status);
        let times: Vec<_> =
            times.map(|told| told.at.saturating_duration_since(begun).as_secs()).collect();
        report(&format!("{status} was told after {times:?} s"));
    };
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    e3.exec("systemctl kill --signal=KILL apiproxy-etcd; systemctl stop apiproxy-etcd");
    cp1.exec(&format!("mv {manifest} /root/"));
    wait("firing");
    e3.exec("systemctl start apiproxy-etcd");
    cp1.exec(&format!("mv /root/kube-apiserver.yaml {manifest}"));
    wait("resolved");
    assert_eq!(site.webhook.of("firing"), both, "nobody is told twice");
}

fn a_bad_configuration_loses_nothing(site: &Site) {
    let m1 = site.machine("m1");
    let hash = "sha256sum /etc/apiproxy/monitoring/*.yml";
    let before = m1.exec(hash);
    fs::write(site.operator.folder().join("raw.yml"), "route: { receiver: nobody }\n").unwrap();
    site.write("{ interval: 5s, pushgateway: true, alerts: { configFile: raw.yml } }");
    let outcome = site.operator.run(&["apply", "--yes", "--host", "m1"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(told.contains("amtool refuses alertmanager.yml"), "{told}");
    assert!(told.contains("undefined receiver"), "{told}");
    assert_eq!(m1.exec(hash), before);
    m1.exec("systemctl is-active apiproxy-alertmanager apiproxy-prometheus; ! ls /etc/apiproxy/monitoring.new");
}
