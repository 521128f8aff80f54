//! The pure parts, without any host.

mod decide;
mod members;
mod quorum;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use crate::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Topology, Version,
};

/// A cluster with external etcd on `e1`, `e2`, .. at 10.0.0.21 and on.
fn cluster(members: u8) -> Cluster {
    let ssh = Ssh { user: None, port: None, identity_file: None, sudo: false, local: false };
    let host = |number: u8| Host {
        name: format!("e{number}"),
        address: [10, 0, 0, 20 + number].into(),
        roles: BTreeSet::from([Role::Etcd]),
        zone: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ssh: ssh.clone(),
        overrides: Overrides::default(),
    };
    Cluster {
        name: "prod".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "apiserver.prod.local".to_owned(), port: 6443 },
        topology: Topology::External,
        hosts: (1..=members).map(host).collect(),
        ssh: ssh.clone(),
        network: Network {
            pod_cidrs: vec![([10, 244, 0, 0].into(), 16)],
            service_cidrs: vec![([10, 96, 0, 0].into(), 12)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Packages {
            kubernetes_mirror: None,
            distribution_mirror: None,
            registry: None,
        },
        etcd: Etcd { version: None, extra_args: BTreeMap::new(), backup: None },
        monitoring: Monitoring { enabled: false, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    }
}
