//! A commented cluster file to begin with.

use super::Topology;

const TEXT: &str = include_str!("example.yaml");

const STACKED: &str = "\
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane], zone: a }
    - { name: cp2, address: 10.0.0.12, roles: [controlPlane], zone: b }
    - { name: cp3, address: 10.0.0.13, roles: [controlPlane], zone: c }";

const EXTERNAL: &str = "\
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane], zone: a }
    - { name: cp2, address: 10.0.0.12, roles: [controlPlane], zone: b }
    - { name: e1, address: 10.0.0.21, roles: [etcd], zone: a }
    - { name: e2, address: 10.0.0.22, roles: [etcd], zone: b }
    - { name: e3, address: 10.0.0.23, roles: [etcd], zone: c }";

/// An example of this topology, for a cluster of this name.
pub fn example(topology: Topology, name: &str) -> String {
    let (word, hosts) = match topology {
        Topology::Stacked => ("stacked", STACKED),
        Topology::External => ("external", EXTERNAL),
    };
    TEXT.replace("@NAME@", name).replace("@TOPOLOGY@", word).replace("@HOSTS@", hosts)
}
