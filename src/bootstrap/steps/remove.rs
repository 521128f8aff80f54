//! What the cluster has and the file has not: shown by every plan, taken out by `apply --prune`.

mod clean;
mod node;
pub mod reset;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shared::Shared;
use crate::bootstrap::engine::{Context, Step, StepError};
use crate::bootstrap::kubernetes::{Api, Member, Node};
use crate::bootstrap::spec::{Cluster, Host, Overrides, Role, Topology};

pub use node::{Remove, drain};

/// A node or an etcd member that no host of the file accounts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Its name; for a member that never started, where the others reach it.
    pub name: String,
    /// Its Node.
    pub node: Option<Node>,
    /// Its member of the stacked etcd.
    pub member: Option<Member>,
}

impl Extra {
    /// How it may be reached to be cleaned, by the cluster's settings; none if nobody tells its address.
    pub fn host(&self, cluster: &Cluster) -> Option<Host> {
        let address = self.node.as_ref()?.address?;
        Some(Host {
            name: self.name.clone(),
            address,
            roles: BTreeSet::from([Role::Spare]),
            zone: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            ssh: cluster.ssh.clone(),
            overrides: Overrides::default(),
        })
    }

    /// A line of the plan.
    pub fn note(&self) -> String {
        let what = match (&self.node, &self.member) {
            (Some(node), _) if node.is_control_plane() => "the control plane",
            (Some(_), _) => "the node",
            (None, _) => "the etcd member",
        };
        format!(
            "{what} {} is in the cluster and not in the file; `apply --prune` removes it",
            self.name
        )
    }
}

/// Looks for what the file does not account for. Nothing if there is no cluster yet.
///
/// # Errors
/// There is a cluster, but no control plane of the file serves.
pub async fn extras(shared: &Shared, cx: &Context) -> Result<Vec<Extra>, StepError> {
    let Some(via) = shared.serving(cx).await? else {
        return Ok(Vec::new());
    };
    let api = Api::new(cx, &via);
    let nodes = api.nodes().await?;
    let members = match shared.cluster.topology {
        Topology::Stacked => api.members().await?,
        Topology::External => Vec::new(),
    };
    Ok(unaccounted(&shared.cluster, nodes, members))
}

/// What of this the file does not account for. Pure.
pub fn unaccounted(cluster: &Cluster, nodes: Vec<Node>, members: Vec<Member>) -> Vec<Extra> {
    let is_node = |name: &str| {
        let roles = cluster.host(name).map(|host| &host.roles);
        roles.is_some_and(|roles| {
            roles.contains(&Role::ControlPlane) || roles.contains(&Role::Worker)
        })
    };
    let nodes = nodes.into_iter().filter(|node| !is_node(&node.name));
    let mut extras: Vec<_> = nodes
        .map(|node| Extra { name: node.name.clone(), node: Some(node), member: None })
        .collect();
    for member in members {
        let mut control_planes = cluster.with_role(Role::ControlPlane);
        if control_planes.any(|host| member.is_of(&host.name, host.address)) {
            continue;
        }
        let is_of = |extra: &&mut Extra| match extra.node.as_ref().and_then(|node| node.address) {
            Some(address) => member.is_of(&extra.name, address),
            None => member.name == extra.name,
        };
        if let Some(extra) = extras.iter_mut().find(is_of) {
            extra.member = Some(member);
        } else {
            let name =
                if member.started() { member.name.clone() } else { member.peer_urls.join(",") };
            extras.push(Extra { name, node: None, member: Some(member) });
        }
    }
    extras
}

/// The steps that take them out, after everything that the file wishes is there: replacements have
/// joined, and no proxy names them any more.
pub fn steps(shared: &Arc<Shared>, extras: &[Extra]) -> Vec<Arc<dyn Step>> {
    let step = |extra: &Extra| -> Arc<dyn Step> { Arc::new(Remove::new(shared, extra.clone())) };
    extras.iter().map(step).collect()
}

#[cfg(test)]
mod tests;
