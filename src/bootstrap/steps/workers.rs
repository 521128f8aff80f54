//! Workers: the proxy first, then kubelet behind it, then the proxy as a static pod of that kubelet.

pub mod config;
pub mod credentials;
pub mod labels;
pub mod look;
pub mod node;
pub mod proxy;
pub mod static_pod;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::control_plane::STEP as CONTROL_PLANE;
use super::shared::Shared;
use crate::bootstrap::engine::{Step, StepId};
use crate::bootstrap::spec::{Host, Role};

/// A worker of the file.
#[derive(Clone, Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    host: Host,
}

/// The steps of the workers, and the labels of all nodes.
pub fn steps(shared: &Arc<Shared>) -> Vec<Arc<dyn Step>> {
    let cluster = &shared.cluster;
    let behind_proxy = cluster.with_role(Role::Worker).filter(|host| !is_control_plane(host));
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    for host in behind_proxy {
        let worker = || Worker { shared: shared.clone(), host: host.clone() };
        steps.push(Arc::new(config::Config(worker())));
        steps.push(Arc::new(proxy::Proxy(worker())));
        steps.push(Arc::new(node::Join(worker())));
        steps.push(Arc::new(static_pod::StaticPod(worker())));
        steps.push(Arc::new(labels::Labels(worker())));
    }
    for host in cluster.with_role(Role::ControlPlane) {
        steps.push(Arc::new(labels::Labels(Worker { shared: shared.clone(), host: host.clone() })));
    }
    steps
}

fn is_control_plane(host: &Host) -> bool {
    host.roles.contains(&Role::ControlPlane)
}

impl Worker {
    fn step(&self, name: &str) -> StepId {
        StepId::new(&self.host.name, name)
    }

    /// All control planes are through: any that serves will do.
    fn after_control_planes(&self) -> Vec<StepId> {
        let hosts = self.shared.cluster.with_role(Role::ControlPlane);
        hosts.map(|host| StepId::new(&host.name, CONTROL_PLANE)).collect()
    }

    /// The control plane whose step makes the cluster, as far as can be told.
    fn first_control_plane(&self) -> StepId {
        let host = self.shared.cluster.with_role(Role::ControlPlane).next();
        StepId::new(host.map_or("", |host| &host.name), CONTROL_PLANE)
    }
}
