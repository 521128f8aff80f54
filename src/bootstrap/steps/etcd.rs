//! External etcd: certificates and members on hosts of their own, certificates on control planes,
//! and what is done to members later.
//!
//! The steps of a host are `etcd-certificates` and `etcd-member`, one host at a time; then
//! `etcd-healthy` on the first host looks at the whole. Members of a new cluster can answer only when
//! most of them run, so `etcd-member` of a founder is done when its unit runs, and waits for nobody;
//! `etcd-healthy` waits. Once there is a quorum, `etcd-member` waits for its member each time before
//! the next one's turn comes. Which of the two it is, is seen on the hosts: a member that was part of
//! a cluster has data and no `initial.env`.

use std::sync::Arc;

use crate::bootstrap::engine::{Step, StepId};
use crate::bootstrap::members;
use crate::bootstrap::spec::{Cluster, Role, Topology};

mod act;
mod certificates;
mod control;
pub mod data;
mod decide;
mod found;
mod healthy;
mod keys;
mod member;
pub mod paths;
mod probe;
mod quorum;
mod render;
mod replace;
pub mod reset;

#[cfg(test)]
mod tests;

pub use certificates::{Certificates, Renewal};
pub use control::{Survey, view};
pub(super) use control::{prepare, with_etcdctl};
pub use decide::{Move, Others, decide};
pub use healthy::{Fault, Healthy, faults};
pub use keys::{KeyHome, Keys};
pub use member::Member;
pub use members::{Member as EtcdMember, Members, Status, View};
pub use probe::Probe;
pub use quorum::{Breaks, Quorum, may_be_removed, may_go_down};
pub use render::{State, founders, initial, joining, settings, unit};
pub use replace::{Remove, Replace, remove};

/// The step that places a member's certificates.
pub const CERTIFICATES: &str = "etcd-certificates";
/// The step that runs a member.
pub const MEMBER: &str = "etcd-member";
/// The step that looks at the whole cluster.
pub const HEALTHY: &str = "etcd-healthy";
/// The step that takes a member out that the file does not name.
pub const REMOVED: &str = "etcd-removed";
/// The step that places a control plane's certificate for etcd.
pub const CLIENT: &str = "etcd-client";

/// The steps of external etcd; none if etcd is stacked.
pub fn steps(cluster: &Arc<Cluster>, keys: &Arc<Keys>, renewal: Renewal) -> Vec<Arc<dyn Step>> {
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    let hosts: Vec<_> = cluster.etcd_hosts().cloned().collect();
    let (Topology::External, Some(first)) = (cluster.topology, hosts.first().cloned()) else {
        return steps;
    };
    for host in hosts {
        let (cluster, keys) = (cluster.clone(), keys.clone());
        let member = Member { cluster: cluster.clone(), host: host.clone() };
        steps.push(Arc::new(Certificates::of_member(cluster, host, keys, renewal)));
        steps.push(Arc::new(member));
    }
    for host in cluster.with_role(Role::ControlPlane) {
        let (cluster, keys) = (cluster.clone(), keys.clone());
        steps.push(Arc::new(Certificates::of_apiserver(cluster, host.clone(), keys, renewal)));
    }
    steps.push(Arc::new(Healthy { cluster: cluster.clone(), first }));
    steps
}

/// The step after which a control plane can use etcd.
pub fn ready(cluster: &Cluster) -> Option<StepId> {
    let first = cluster.etcd_hosts().next().filter(|_| cluster.topology == Topology::External)?;
    Some(StepId::new(&first.name, HEALTHY))
}

/// A unified diff of a file, if it differs.
fn diff(path: &str, old: Option<&str>, new: &str) -> Option<String> {
    let old = old.unwrap_or_default();
    let text = similar::TextDiff::from_lines(old, new);
    let text = text.unified_diff().header(path, path).to_string();
    (old != new).then_some(text)
}
