//! What monitoring puts on hosts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::bootstrap::render::fixture;
use crate::bootstrap::spec::{Monitoring, ServicePort, Topology};

/// A cluster with so many hosts that watch it.
fn watched(count: u8) -> Cluster {
    let mut cluster = fixture::cluster("v1.34.2");
    for number in 1..=count {
        let mut host = cluster.hosts[0].clone();
        host.name = format!("m{number}");
        host.address = [10, 0, 0, 70 + number].into();
        host.roles = [Role::Monitoring].into();
        cluster.hosts.push(host);
    }
    cluster.monitoring = Monitoring { enabled: count > 0, ..Monitoring::default() };
    cluster
}

fn jobs(cluster: &Cluster) -> Vec<Value> {
    let text = prometheus(cluster, cluster.host("m1").unwrap()).unwrap();
    let document: Value = serde_saphyr::from_str(&text).unwrap();
    document["scrape_configs"].as_array().unwrap().clone()
}

fn unit(cluster: &Cluster, host: &str, program: Program) -> String {
    let file = program.file(cluster, cluster.host(host).unwrap());
    String::from_utf8(file.content).unwrap()
}

#[test]
fn every_target_has_a_class_and_its_hosts_name() {
    let mut cluster = watched(3);
    cluster.monitoring.pushgateway = true;
    let service = |text: &str| text.to_owned();
    cluster.monitoring.kube_state_metrics = Some(ServicePort {
        namespace: service("kube-system"),
        name: service("ksm"),
        port: service("http"),
    });
    let jobs = jobs(&cluster);
    let mut classes = BTreeSet::new();
    for job in &jobs {
        for target in job["static_configs"].as_array().unwrap() {
            let labels = &target["labels"];
            assert!(cluster.host(labels["instance"].as_str().unwrap()).is_some(), "{target}");
            classes.insert(labels["class"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), ["components", "hosts", "objects"]);
    let names: Vec<_> = jobs.iter().map(|job| job["job_name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "node",
            "kube-apiserver",
            "etcd",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "apiproxy",
            "prometheus",
            "alertmanager",
            "pushgateway",
            "kube-state-metrics",
        ]
    );
    assert_eq!(jobs[0]["static_configs"].as_array().unwrap().len(), cluster.hosts.len());
    let objects = jobs.last().unwrap();
    let path = "/api/v1/namespaces/kube-system/services/ksm:http/proxy/metrics";
    assert_eq!(objects["metrics_path"], path);
    let rights = rights(&cluster);
    assert!(rights.contains(r#""resourceNames":["ksm:http"]"#));
    // kubectl reads one object after another.
    let kinds = rights.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kinds: Vec<_> = kinds.map(|object| object["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]);
}

#[test]
fn etcd_is_asked_as_its_topology_has_it() {
    let etcd = |topology| {
        let mut cluster = watched(1);
        cluster.topology = topology;
        jobs(&cluster).into_iter().find(|job| job["job_name"] == "etcd")
    };
    let stacked = etcd(Topology::Stacked).unwrap();
    assert_eq!(stacked["static_configs"][0]["targets"][0], "10.0.0.11:2381");
    assert_eq!(stacked["scheme"], Value::Null);
    let external = etcd(Topology::External).unwrap();
    assert_eq!(external["static_configs"][0]["targets"][0], "10.0.0.21:2379");
    assert_eq!(external["scheme"], "https");
    assert_eq!(external["tls_config"]["cert_file"], "pki/etcd-client.crt");
    assert_eq!(external["tls_config"]["insecure_skip_verify"], Value::Null);
}

#[test]
fn alertmanagers_know_each_other_and_one_alone_is_alone() {
    let alone = unit(&watched(1), "m1", Program::Alertmanager);
    assert!(alone.contains("--cluster.listen-address=\n"), "{alone}");
    let three = unit(&watched(3), "m2", Program::Alertmanager);
    for words in [
        "--cluster.listen-address=10.0.0.72:9094",
        "--cluster.peer=10.0.0.71:9094",
        "--cluster.peer=10.0.0.73:9094",
    ] {
        assert!(three.contains(words), "{words}: {three}");
    }
    assert!(!three.contains("--cluster.peer=10.0.0.72"), "{three}");
    // The last of them is through before any looks again.
    assert!(three.contains("--cluster.peer-timeout=5s"), "{three}");
    for (count, interval, pace) in [(3, 15, 60), (3, 5, 30), (1, 5, 20), (7, 15, 70)] {
        let mut cluster = watched(count);
        cluster.monitoring.interval = std::time::Duration::from_secs(interval);
        let text = alertmanager(&cluster).unwrap();
        assert!(text.contains(&format!("group_interval: {pace}s\n")), "{text}");
    }
}

#[test]
fn a_host_runs_what_its_role_wants() {
    use Program::{Alertmanager, NodeExporter, Prometheus, Pushgateway};
    let mut cluster = watched(2);
    cluster.monitoring.pushgateway = true;
    let of = |cluster: &Cluster, name: &str| programs(cluster, cluster.host(name).unwrap());
    assert_eq!(of(&cluster, "w1"), [NodeExporter]);
    assert_eq!(of(&cluster, "m1"), [NodeExporter, Alertmanager, Prometheus, Pushgateway]);
    assert_eq!(of(&cluster, "m2"), [NodeExporter, Alertmanager, Prometheus]);
    cluster.monitoring.enabled = false;
    assert_eq!(of(&cluster, "m1"), []);
    assert!(unit_files(&cluster, cluster.host("m1").unwrap()).is_empty());
}

#[test]
fn who_is_told_is_no_secret_of_the_log() {
    let mut cluster = watched(1);
    cluster.monitoring.alerts.webhook = Some("https://x/secret".to_owned());
    let files = configuration(&cluster, cluster.host("m1").unwrap(), None).unwrap();
    let alerts = files.iter().find(|file| file.path == ALERTMANAGER).unwrap();
    assert!(alerts.secret && alerts.mode == 0o640);
    assert!(String::from_utf8_lossy(&alerts.content).contains("url: https://x/secret"));
    assert_eq!(files.iter().filter(|file| file.path.starts_with("rules/")).count(), 3);
    let raw = configuration(&cluster, cluster.host("m1").unwrap(), Some(b"mine")).unwrap();
    assert_eq!(raw.last().unwrap().content, b"mine");
}
