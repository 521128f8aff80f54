//! Monitoring as the spec wishes it: on each host the programs that it is to run, on those with the role
//! `monitoring` what Prometheus and Alertmanager read, and in the cluster the right to be asked. Where
//! nothing of it is wished, what it left is taken away.

mod leave;
mod look;
mod place;
mod programs;
mod rights;
mod silence;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::etcd::{Certificates, Keys, Renewal};
use super::shared::Shared;
use crate::bootstrap::engine::Step;
use crate::bootstrap::render::monitoring::programs as wanted;
use crate::bootstrap::spec::{Role, Topology};

pub use leave::{Leave, leave};
pub use silence::silenced;

/// The step that installs the programs of a host.
pub const PROGRAMS: &str = "monitoring-programs";
/// The step that has them run as wished.
pub const PLACE: &str = "monitoring";
/// What every host that is watched has, and no other.
pub const TRACE: &str = "/etc/systemd/system/apiproxy-node-exporter.service";
/// The step that takes it all away from a host that is given up.
pub const LEAVE: &str = "monitoring-reset";
/// The step that lets Prometheus ask.
pub const RIGHTS: &str = "monitoring-rights";

/// The steps of monitoring, and those that take it away.
pub fn steps(shared: &Arc<Shared>, keys: &Arc<Keys>, renewal: Renewal) -> Vec<Arc<dyn Step>> {
    let cluster = &shared.cluster;
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    for host in &cluster.hosts {
        let (shared, host) = (shared.clone(), host.clone());
        if !wanted(cluster, &host).is_empty() {
            steps.push(Arc::new(programs::Programs { shared: shared.clone(), host: host.clone() }));
        }
        let watches = cluster.monitoring.enabled && host.roles.contains(&Role::Monitoring);
        if watches && cluster.topology == Topology::External {
            let (cluster, host, keys) = (cluster.clone(), host.clone(), keys.clone());
            let certificates = Certificates::of_monitoring(cluster, host, keys, renewal, PROGRAMS);
            steps.push(Arc::new(certificates));
        }
        steps.push(Arc::new(place::Place { shared, host }));
    }
    if let Some(first) = cluster.with_role(Role::ControlPlane).next() {
        steps.push(Arc::new(rights::Rights { shared: shared.clone(), host: first.name.clone() }));
    }
    steps
}
