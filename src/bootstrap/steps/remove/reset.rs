//! `reset`: the whole cluster is taken apart, workers first, then control planes one by one, then etcd;
//! or some hosts leave it, as far as the others can do without them.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Extra, Remove, clean, extras, node};
use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{Cluster, Host, Role, Topology};
use crate::bootstrap::steps::etcd;
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::shared::Shared;

/// The name of the step.
pub const STEP: &str = "reset";

/// Takes a host out of Kubernetes without asking the cluster.
#[derive(Clone, Debug)]
pub struct Reset {
    shared: Arc<Shared>,
    host: Host,
    data: Data,
    needs: Vec<StepId>,
    follows: Vec<StepId>,
}

fn is_node(host: &Host) -> bool {
    host.roles.contains(&Role::ControlPlane) || host.roles.contains(&Role::Worker)
}

/// The hosts that carry a member of an external etcd.
fn etcd_hosts(cluster: &Cluster) -> impl Iterator<Item = &Host> {
    cluster.etcd_hosts().filter(|_| cluster.topology == Topology::External)
}

/// The steps for the whole cluster. What is on a host beside Kubernetes and etcd stays: programs,
/// settings of the kernel, and backups.
pub fn all(shared: &Arc<Shared>, data: Data) -> Vec<Arc<dyn Step>> {
    let cluster = &shared.cluster;
    let nodes = || cluster.hosts.iter().filter(|host| is_node(host));
    let step_of = |host: &Host| StepId::new(&host.name, STEP);
    let is_worker = |host: &&Host| !host.roles.contains(&Role::ControlPlane);
    let workers: Vec<_> = nodes().filter(is_worker).map(step_of).collect();
    let of_node = |host: &Host| -> Arc<dyn Step> {
        let follows = if is_worker(&host) { Vec::new() } else { workers.clone() };
        let (shared, host) = (shared.clone(), host.clone());
        Arc::new(Reset { shared, host, data, needs: Vec::new(), follows })
    };
    let of_member = |host: &Host| -> Arc<dyn Step> {
        let (name, follows) = (host.name.clone(), nodes().map(step_of).collect());
        Arc::new(etcd::reset::Reset { name, data, needs: Vec::new(), follows })
    };
    nodes().map(of_node).chain(etcd_hosts(cluster).map(of_member)).collect()
}

/// The steps by which these hosts leave the cluster: drained, out of etcd if that keeps its quorum, and
/// reset. If they are all nodes there are, the cluster is given up, and so are these of its hosts. Those
/// that cannot be reached are only taken out.
///
/// # Errors
/// Nodes would be left without a control plane, or nodes shall leave and no control plane that stays serves.
pub async fn some(
    shared: &Arc<Shared>,
    cx: &Context,
    chosen: &BTreeSet<String>,
    data: Data,
) -> Result<Vec<Arc<dyn Step>>, StepError> {
    let mut after = Cluster::clone(&shared.cluster);
    after.hosts.retain(|host| !chosen.contains(&host.name));
    let left: Vec<_> = after.hosts.iter().filter(|host| is_node(host)).collect();
    let Some(first) = left.first() else {
        let mut steps = all(shared, data);
        steps.retain(|step| {
            let host = step.id().host;
            chosen.contains(&host) && cx.hosts.contains_key(&host)
        });
        return Ok(steps);
    };
    if after.with_role(Role::ControlPlane).next().is_none() {
        return Err(StepError::Refused {
            reason: format!("{} and others would be left without a control plane", first.name),
            remedy: "reset them too, or without --host the whole cluster".to_owned(),
        });
    }
    let cluster = Arc::new(after);
    let after = Shared::new(cluster.clone(), shared.documents.clone());
    let leaving = nodes_of(&after, cx, shared, chosen).await?.into_iter();
    let leaving: Vec<_> = leaving.map(|extra| Remove::new(&after, extra).with_data(data)).collect();
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    for host in shared.cluster.hosts.iter().filter(|host| chosen.contains(&host.name)) {
        let name = host.name.clone();
        // A host that does not answer is given up: there is nothing of it that could be cleaned.
        let is_there = cx.hosts.contains_key(&name);
        if is_node(host) && is_there {
            let before = StepId::new(&name, node::STEP);
            let needs = leaving.iter().map(Step::id).filter(|id| *id == before).collect();
            let (shared, host, follows) = (after.clone(), host.clone(), Vec::new());
            steps.push(Arc::new(Reset { shared, host, data, needs, follows }));
        }
        if etcd_hosts(&shared.cluster).any(|member| member.name == name) {
            let (cluster, name_of) = (cluster.clone(), name.clone());
            let removed = etcd::Remove { cluster, name: name_of, first: false, data };
            let (needs, follows) = (vec![removed.id()], Vec::new());
            steps.push(Arc::new(removed));
            if is_there {
                steps.push(Arc::new(etcd::reset::Reset { name, data, needs, follows }));
            }
        }
    }
    steps.extend(leaving.into_iter().map(|step| -> Arc<dyn Step> { Arc::new(step) }));
    Ok(steps)
}

/// The nodes and stacked members among the chosen hosts. Hosts of etcd alone have none: they leave through
/// etcd, whether an apiserver serves or not.
async fn nodes_of(
    after: &Shared,
    cx: &Context,
    shared: &Shared,
    chosen: &BTreeSet<String>,
) -> Result<Vec<Extra>, StepError> {
    let of_file = chosen.iter().filter_map(|name| shared.cluster.host(name));
    if !of_file.clone().any(is_node) {
        return Ok(Vec::new());
    }
    let mut found = extras(after, cx).await?;
    found.retain(|extra| extra.is_node_host() && chosen.contains(&extra.name));
    Ok(found)
}

impl Reset {
    fn is_control_plane(&self) -> bool {
        self.host.roles.contains(&Role::ControlPlane)
    }

    fn is_member(&self) -> bool {
        self.is_control_plane() && self.shared.cluster.topology == Topology::Stacked
    }
}

impl Step for Reset {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("take Kubernetes off {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        self.needs.clone()
    }

    fn follows(&self) -> Vec<StepId> {
        self.follows.clone()
    }

    fn lane(&self) -> Lane {
        if self.is_control_plane() { Lane::Single } else { Lane::Parallel }
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(if self.is_control_plane() { Disruption::ApiServer } else { Disruption::Node })
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let found = cx.run(&self.host.name, &clean::look(self.is_member())).await?.text();
            let found: Vec<_> = found.lines().collect();
            if found.is_empty() {
                return Ok(Check::Done);
            }
            Ok(Check::Needed(Change::new(format!("there are {}", found.join(", ")))))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let documents = self.shared.documents.as_ref();
            clean::clean(cx, documents, &self.host.name, self.data).await?;
            self.shared.changed(&self.host.name);
            Ok(())
        }
        .boxed()
    }
}
