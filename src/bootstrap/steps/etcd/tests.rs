//! The pure parts, without any host.

mod decide;
mod members;
mod quorum;
mod render;

use crate::bootstrap::needs::sample;
use crate::bootstrap::spec::{Cluster, Role, Topology};

/// A cluster with external etcd on `e1`, `e2`, .. at 10.0.0.21 and on.
fn cluster(members: u8) -> Cluster {
    let host = |number| sample::host(&format!("e{number}"), 20 + number, Role::Etcd);
    Cluster {
        topology: Topology::External,
        hosts: (1..=members).map(host).collect(),
        ..sample::stacked()
    }
}
