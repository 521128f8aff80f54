//! Clusters for tests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::bootstrap::spec::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, Host, Monitoring, Network, Overrides, Role, Ssh,
    Topology, Version,
};

pub(crate) fn ssh() -> Ssh {
    Ssh { user: None, port: None, identity_file: None, sudo: true, local: false }
}

/// A host `NAME` of one role at `10.0.0.LAST`.
pub(crate) fn host(name: &str, last: u8, role: Role) -> Host {
    Host {
        name: name.to_owned(),
        address: [10, 0, 0, last].into(),
        roles: [role].into(),
        zone: None,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        ssh: ssh(),
        overrides: Overrides::default(),
    }
}

/// `cp1`, `cp2`, `cp3`, `w1`; stacked, from packages, v1.34.2.
pub(crate) fn stacked() -> Cluster {
    let control_planes = (1..=3).map(|n| host(&format!("cp{n}"), 10 + n, Role::ControlPlane));
    Cluster {
        name: "prod".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "api.prod.local".to_owned(), port: 6443 },
        topology: Topology::Stacked,
        ssh: ssh(),
        hosts: control_planes.chain([host("w1", 31, Role::Worker)]).collect(),
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

/// The same with `e1`, `e2`, `e3` for etcd.
pub(crate) fn external() -> Cluster {
    let mut cluster = stacked();
    cluster.topology = Topology::External;
    cluster.hosts.extend((1..=3).map(|n| host(&format!("e{n}"), 20 + n, Role::Etcd)));
    cluster
}

/// The same cluster, from a directory.
pub(crate) fn offline(mut cluster: Cluster, directory: impl Into<PathBuf>) -> Cluster {
    cluster.artifacts = Artifacts::Directory(directory.into());
    cluster
}
