//! Monitoring by `apiproxy bootstrap apply` on booted machines: real Prometheus, three Alertmanagers that
//! know each other, node-exporter, Pushgateway, etcd and a worker's proxy; kubeadm and kubelet are doubles,
//! and so are the control plane's programs unless `KUBEBUILDER_ASSETS` has them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "monitoring/data.rs"]
mod data;
#[path = "monitoring/panels.rs"]
mod panels;
#[path = "monitoring/watched.rs"]
mod watched;
#[path = "monitoring/webhook.rs"]
mod webhook;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use common::machines::Lab;
use common::{doubles, report, wait_for};
use watched::{NAMES, Watched};

/// Debian's etcd is 3.4, which kubeadm takes until 1.33.
const VERSION: &str = "v1.33.4";

/// What it is upgraded to.
const NEXT: &str = "v1.33.5";

/// Within this time people have to know.
const TOLD: Duration = Duration::from_secs(90);

/// What runs as a `DaemonSet`, which the double of kubelet does not start.
const ABSENT: &str = "kube-proxy";

/// Alerts about what all machines share: disk, memory and clock of this host.
const SHARED: &str = "HostDisk.*|HostMemoryLow|HostClockWrong";

/// Where node-exporter finds what others tell.
const TEXTFILES: &str = "/var/lib/prometheus/node-exporter";

/// What monitoring puts on a host, one a line.
const OURS: &str = "ls -d /etc/apiproxy/monitoring* /etc/systemd/system/apiproxy-prometheus* \
    /etc/systemd/system/apiproxy-alertmanager* /etc/systemd/system/*/apiproxy-node-exporter* \
    /etc/systemd/system/apiproxy-node-exporter* /etc/systemd/system/apiproxy-pushgateway* \
    2>/dev/null; pgrep -a prometheus; true";

#[test]
fn a_cluster_is_watched_and_people_are_told_once() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let Some(proxy) = common::released() else {
        skip!("there is no static program; see tests/run.sh");
    };
    let lab = Lab::new();
    let site = Watched::new(&lab, VERSION, &proxy);
    let url = site.webhook.url();
    site.wish(&format!("{{ interval: 5s, pushgateway: true, alerts: {{ webhook: \"{url}\" }} }}"));
    site.case.done(&["apply", "--yes"]);
    site.case.idle(&["apply", "--yes"]);

    everything_is_seen(&site);
    data::each_has_data_or_names_what_is_absent(|query| site.series(query));
    two_faults_are_told_once_each(&site);
    an_upgrade_is_told_to_nobody(&site);
    a_bad_configuration_loses_nothing(&site, &url);
    all_of_it_goes(&site);
}

fn everything_is_seen(site: &Watched) {
    // What backups leave, with a class of its own.
    let backup =
        "newest_timestamp_seconds last_run_success copies_complete duration_seconds stored";
    let backup = backup.split(' ').fold(String::new(), |text, name| {
        text + &format!("apiproxy_etcd_backup_{name}{{cluster=\"test\"}} 1\n")
    });
    let e1 = site.case.machine("e1");
    e1.write(&format!("{TEXTFILES}/apiproxy_etcd_backup.prom"), backup.as_bytes(), 0o644);
    e1.write(&format!("{TEXTFILES}/others.prom"), b"somebody_elses 1\n", 0o644);
    let expected: BTreeSet<_> = ["cp1", "cp2", "w1"].map(|node| format!("{ABSENT}@{node}")).into();
    for name in ["m1", "m2", "m3"] {
        wait_for(&format!("every target of {name} is up"), Duration::from_mins(1), || {
            (site.down(name) == expected).then_some(())
        });
    }
    // What is known to be absent is told to nobody, and neither what the machines have of the host that runs
    // them: this is how maintenance is done.
    for quiet in [format!("job={ABSENT}"), format!("alertname=~'{SHARED}'")] {
        site.silence(&quiet);
    }
    let hosts = NAMES.len();
    for (query, count) in [
        (format!(r#"count(up{{class="hosts"}} == 1) == {hosts}"#).as_str(), 1),
        (r#"etcd_server_has_leader{job="etcd",class="components"} == 1"#, 3),
        // Each of two apiservers counts three Nodes.
        (r#"apiserver_storage_objects{class="objects",resource="nodes"} == 3"#, 2),
        (r#"apiproxy_backend_state{job="apiproxy",instance="w1",state="ready"} == 1"#, 2),
        (r#"apiproxy_etcd_backup_last_run_success{class="components",instance="e1"}"#, 1),
        ("alertmanager_cluster_members == 3", 3),
        (r#"up{job="pushgateway",instance="m1"}"#, 1),
    ] {
        wait_for(query, Duration::from_secs(30), || {
            (site.series(query).len() == count).then_some(())
        });
    }
    // What is scraped over TLS is asked so.
    for job in ["kube-apiserver", "etcd", "kubelet", "kube-controller-manager", "kube-scheduler"] {
        let urls = site.urls("m3", job);
        assert!(urls.iter().all(|url| url.starts_with("https://")) && !urls.is_empty(), "{urls:?}");
    }
    assert_eq!(site.webhook.told(), []);
}

fn two_faults_are_told_once_each(site: &Watched) {
    let (cp2, e3) = (site.case.machine("cp2"), site.case.machine("e3"));
    let both = ["EtcdQuorumAtRisk@e3", "KubeApiserverDown@cp2"].map(str::to_owned);
    let wait = |status: &str| {
        let begun = Instant::now();
        wait_for(&format!("{both:?} are {status}"), TOLD, || {
            let told = site.webhook.of(status);
            assert!(told.iter().all(|name| both.contains(name)), "{status}: {told:?}");
            (told == both).then_some(())
        });
        let times = site.webhook.told().into_iter().filter(|told| told.status == status);
        let times: Vec<_> =
            times.map(|told| told.at.saturating_duration_since(begun).as_secs()).collect();
        report(&format!("{status} was told after {times:?} s"));
    };
    let manifest = "/etc/kubernetes/manifests/kube-apiserver.yaml";
    e3.exec("systemctl kill --signal=KILL apiproxy-etcd; systemctl stop apiproxy-etcd");
    cp2.exec(&format!("mv {manifest} /root/"));
    wait("firing");
    e3.exec("systemctl start apiproxy-etcd");
    cp2.exec(&format!("mv /root/kube-apiserver.yaml {manifest}"));
    wait("resolved");
    assert_eq!(site.webhook.of("firing"), both, "nobody is told twice");
}

fn an_upgrade_is_told_to_nobody(site: &Watched) {
    if doubles::are_real() {
        return report("not upgraded: the real programs of KUBEBUILDER_ASSETS are of one version");
    }
    let before = site.webhook.told();
    assert_eq!(site.silences("m3"), BTreeSet::new());
    site.case.offer(NEXT);
    site.case.done(&["upgrade", "--to", NEXT, "--yes", "--write"]);
    let mut silences = BTreeSet::from(["cluster=test".to_owned()]);
    for host in ["cp1", "cp2", "w1"] {
        silences.extend(["instance", "backend"].map(|label| format!("{label}={host}")));
    }
    // It was told to the first Alertmanager; they tell each other.
    wait_for("the silences are known everywhere", Duration::from_secs(30), || {
        (site.silences("m3") == silences).then_some(())
    });
    assert_eq!(site.webhook.told(), before);
}

fn a_bad_configuration_loses_nothing(site: &Watched, url: &str) {
    let m1 = site.case.machine("m1");
    let hash = "sha256sum /etc/apiproxy/monitoring/*.yml";
    let before = m1.exec(hash);
    let raw = site.case.operator.folder().join("raw.yml");
    fs::write(&raw, "route: { receiver: nobody }\n").unwrap();
    site.wish("{ interval: 5s, pushgateway: true, alerts: { configFile: raw.yml } }");
    let outcome = site.case.operator.run(&["apply", "--yes", "--host", "m1"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(told.contains("amtool refuses alertmanager.yml"), "{told}");
    assert!(told.contains("undefined receiver"), "{told}");
    assert_eq!(m1.exec(hash), before);
    m1.exec("systemctl is-active apiproxy-alertmanager apiproxy-prometheus; ! ls /etc/apiproxy/monitoring.new");

    let good = format!(
        "route: {{ receiver: us }}\nreceivers: [{{ name: us, webhook_configs: [{{ url: '{url}' }}] }}]\n"
    );
    fs::write(raw, &good).unwrap();
    site.case.done(&["apply", "--yes"]);
    site.case.idle(&["apply", "--yes"]);
    assert_eq!(m1.exec("cat /etc/apiproxy/monitoring/alertmanager.yml"), good);
}

fn all_of_it_goes(site: &Watched) {
    site.wish("{ enabled: false }");
    site.case.done(&["apply", "--yes"]);
    site.case.idle(&["apply", "--yes"]);
    for name in NAMES {
        assert_eq!(site.case.machine(name).exec(OURS), "", "on {name}");
    }
    // What others put there, and what was recorded, stays.
    let [cp1, e1, m1, w1] = site.case.machines(["cp1", "e1", "m1", "w1"]);
    e1.exec("dpkg -s prometheus-node-exporter; systemctl is-active apiproxy-etcd");
    e1.exec(&format!("ls {TEXTFILES}/others.prom"));
    m1.exec("ls -d /var/lib/apiproxy-monitoring/prometheus/*");
    w1.exec("apiproxy status; ! grep -q 10242 /etc/apiproxy/config.yaml");
    let rights = cp1.exec(
        "kubectl --kubeconfig /etc/kubernetes/admin.conf get clusterroles,clusterrolebindings -o name",
    );
    assert!(!rights.contains("apiproxy-monitoring"), "{rights}");
}
