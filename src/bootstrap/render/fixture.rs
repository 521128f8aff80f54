//! Clusters to render in tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Taint, Topology,
};

/// Three control planes, an etcd of its own beside them that a stacked cluster does not use, a worker
/// with everything, and one with nothing.
pub(super) fn cluster(version: &str) -> Cluster {
    let host = |name: &str, address: &str, role, zone: Option<&str>| Host {
        name: name.to_owned(),
        address: address.parse().unwrap(),
        roles: BTreeSet::from([role]),
        zone: zone.map(str::to_owned),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ssh: ssh(),
        overrides: Overrides::default(),
    };
    let mut worker = host("w1", "10.0.0.31", Role::Worker, Some("a"));
    worker.labels = map(&[
        ("disk", "ssd"),
        ("node-role.kubernetes.io/gpu", ""),
        ("node.kubernetes.io/instance-type", "bare"),
    ]);
    worker.taints =
        vec![taint("example.com/gpu", "true", "NoSchedule"), taint("slow", "", "PreferNoSchedule")];
    Cluster {
        name: "prod".to_owned(),
        kubernetes_version: version.parse().unwrap(),
        endpoint: Endpoint { name: "apiserver.prod.local".to_owned(), port: 6443 },
        topology: Topology::Stacked,
        ssh: ssh(),
        hosts: vec![
            host("cp1", "10.0.0.11", Role::ControlPlane, Some("a")),
            host("cp2", "10.0.0.12", Role::ControlPlane, Some("b")),
            host("cp3", "10.0.0.13", Role::ControlPlane, None),
            host("e1", "10.0.0.21", Role::Etcd, None),
            host("e2", "10.0.0.22", Role::Etcd, None),
            host("e3", "10.0.0.23", Role::Etcd, None),
            worker,
            host("w2", "10.0.0.32", Role::Worker, None),
        ],
        network: Network {
            pod_cidrs: vec![cidr("10.244.0.0", 16)],
            service_cidrs: vec![cidr("10.96.0.0", 12)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Packages {
            kubernetes_mirror: None,
            distribution_mirror: None,
            registry: None,
        },
        etcd: Etcd { version: None, extra_args: BTreeMap::new(), backup: None },
        monitoring: Monitoring { enabled: true, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    }
}

pub(super) fn external(version: &str) -> Cluster {
    Cluster { topology: Topology::External, ..cluster(version) }
}

pub(super) fn cidr(ip: &str, length: u8) -> (IpAddr, u8) {
    (ip.parse().unwrap(), length)
}

pub(super) fn taint(key: &str, value: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() }
}

pub(super) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn settings(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => map,
        other => panic!("{other} is no mapping"),
    }
}

pub(super) fn host_mut<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut Host {
    cluster.hosts.iter_mut().find(|host| host.name == name).unwrap()
}

/// The content of a file as text.
pub(super) fn text(file: &crate::bootstrap::transport::File) -> &str {
    std::str::from_utf8(&file.content).unwrap()
}

fn ssh() -> Ssh {
    Ssh { user: None, port: None, identity_file: None, sudo: true, local: false }
}
