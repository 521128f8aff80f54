//! One node or member is taken out: no pod is lost, and the quorum holds at every step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Extra, clean};
use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, Member, Node, quorum, removable};
use crate::bootstrap::spec::{Host, Role, Topology};
use crate::bootstrap::steps::control_plane::look::Standing;
use crate::bootstrap::steps::etcd::data::Data;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::{control_plane, workers};
use crate::bootstrap::transport::TransportError;

/// The name of the step.
pub const STEP: &str = "remove";

/// How long pods may take to leave.
const DRAIN: Duration = Duration::from_mins(10);

/// Takes one out.
#[derive(Clone, Debug)]
pub struct Remove {
    shared: Arc<Shared>,
    extra: Extra,
    data: Data,
}

impl Remove {
    /// Takes this one out. The data of a member that was removed serve nobody: they are deleted.
    pub fn new(shared: &Arc<Shared>, extra: Extra) -> Self {
        Self { shared: shared.clone(), extra, data: Data::Deleted }
    }

    /// The same, but its data become what is wished.
    #[must_use]
    pub fn with_data(self, data: Data) -> Self {
        Self { data, ..self }
    }

    fn is_control_plane(&self) -> bool {
        self.extra.member.is_some() || self.extra.node.as_ref().is_some_and(Node::is_control_plane)
    }

    /// Its member of the stacked etcd, among those that there are now.
    fn member<'a>(&self, members: &'a [Member]) -> Option<&'a Member> {
        let own = self.extra.member.as_ref();
        let is_own = |member: &&Member| match (own, self.extra.address) {
            (Some(own), _) => member.id == own.id,
            (None, Some(address)) => member.is_of(&self.extra.name, address),
            (None, None) => member.started() && member.name == self.extra.name,
        };
        members.iter().find(is_own)
    }

    async fn members(&self, api: &Api<'_>) -> Result<Vec<Member>, StepError> {
        match self.shared.cluster.topology {
            Topology::Stacked => api.members().await,
            Topology::External => Ok(Vec::new()),
        }
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let Some(via) = self.shared.serving(cx).await? else {
            return Ok(Check::Done);
        };
        let (name, api) = (&self.extra.name, Api::new(cx, &via));
        let members = self.members(&api).await?;
        if let Some(member) = self.member(&members) {
            let healthy = api.healthy(&members).await?;
            if !self.others_join(&members) {
                self.may_go(removable(&members, &healthy, member.id))?;
            }
            let numbers = numbers(&members, &healthy, member.id);
            return Ok(Check::Needed(Change::new(format!("it is not in the file; {numbers}"))));
        }
        if api.nodes().await?.iter().any(|node| node.name == *name) {
            return Ok(Check::Needed(Change::new("it is in the cluster and not in the file")));
        }
        self.left_there(cx).await
    }

    /// Control planes of the file join before: what counts is how it stands then.
    fn others_join(&self, members: &[Member]) -> bool {
        let is_member =
            |host: &Host| members.iter().any(|member| member.is_of(&host.name, host.address));
        let first = self.shared.removed_first.contains(&self.extra.name);
        let mut control_planes = self.shared.cluster.with_role(Role::ControlPlane);
        !first && control_planes.any(|host| !is_member(host))
    }

    fn may_go(&self, judged: Result<(), String>) -> Result<(), StepError> {
        judged.map_err(|reason| StepError::Refused {
            reason: format!("{} stays: {reason}", self.extra.name),
            remedy: "bring the other members back first, or add one".to_owned(),
        })
    }

    /// The cluster has forgotten it, and a run before this one may have been cut off before the host
    /// itself was cleaned.
    async fn left_there(&self, cx: &Context) -> Result<Check, StepError> {
        let name = &self.extra.name;
        if !cx.hosts.contains_key(name) {
            return Ok(Check::Done);
        }
        let found = match cx.run(name, &clean::look(self.is_control_plane())).await {
            Ok(output) => output.text(),
            // A host that is gone for good has nothing to be cleaned.
            Err(StepError::Transport(
                TransportError::Unreachable { .. } | TransportError::Lost { .. },
            )) => return Ok(Check::Done),
            Err(other) => return Err(other),
        };
        let found: Vec<_> = found.lines().filter(|line| !line.is_empty()).collect();
        if found.is_empty() {
            return Ok(Check::Done);
        }
        let why = format!("what the cluster put onto it is still there: {}", found.join(", "));
        Ok(Check::Needed(Change::new(why)))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let name = self.extra.name.as_str();
        let via = self.another(cx).await?;
        let api = Api::new(cx, &via);
        let members = self.members(&api).await?;
        let member = self.member(&members);
        // Before anything is changed: it is refused as a whole or not at all.
        if let Some(member) = member {
            self.may_go(api.may_remove(&members, member.id).await?)?;
        }
        let nodes = api.nodes().await?;
        self.others_are_there(cx, &nodes).await?;
        let node = nodes.iter().find(|node| node.name == name);
        if let Some(node) = node {
            drain(&api, node).await?;
        }
        if let Some(member) = member {
            api.remove_member(&members, member.id).await?;
        }
        // A host that is gone for good has nothing to be cleaned.
        if cx.hosts.contains_key(name) {
            clean::clean(cx, self.shared.documents.as_ref(), name, self.data).await?;
        }
        // Last: by its Node a run that goes on after this one was cut off finds it.
        if node.is_some() {
            api.kubectl(["delete", "node", name, "--ignore-not-found"]).await?;
        }
        Ok(())
    }

    /// Who takes its place has joined, and the control planes of the file serve: the cluster does not
    /// shrink because of a step that failed. One that was part of it and is away counts for the quorum.
    async fn others_are_there(&self, cx: &Context, nodes: &[Node]) -> Result<(), StepError> {
        let name = &self.extra.name;
        if self.shared.removed_first.contains(name) {
            return Ok(());
        }
        let stays = |host: &str, why: &str| StepError::Refused {
            reason: format!("{name} stays until {host} has joined: {why}"),
            remedy: format!("see to {host}, and run this again"),
        };
        let is_node = |host: &str| nodes.iter().any(|node| node.name == host);
        if let Some(new) = self.extra.successor.as_deref().filter(|new| !is_node(new)) {
            return Err(stays(new, "it has no Node"));
        }
        if !self.is_control_plane() {
            return Ok(());
        }
        for (host, standing) in self.shared.standings(cx).await {
            match standing {
                Standing::Away(why) if !is_node(&host) => return Err(stays(&host, &why)),
                Standing::Serving | Standing::Away(_) => {}
                _ => return Err(stays(&host, "its control plane does not serve")),
            }
        }
        Ok(())
    }

    /// A control plane of the file that serves: without one, this may be the last of the cluster.
    async fn another(&self, cx: &Context) -> Result<String, StepError> {
        let found = self.shared.serving(cx).await?;
        found.ok_or_else(|| StepError::Refused {
            reason: format!(
                "no control plane of the file serves, so {} may be the last",
                self.extra.name
            ),
            remedy: "join another control plane first".to_owned(),
        })
    }
}

/// How many members vote and answer, now and without this one.
fn numbers(members: &[Member], healthy: &BTreeSet<u64>, id: u64) -> String {
    let voters = members.iter().filter(|member| !member.is_learner);
    let count = |without: Option<u64>| {
        let voters = voters.clone().filter(|member| Some(member.id) != without);
        let well = voters.clone().filter(|member| healthy.contains(&member.id)).count();
        (well, voters.count())
    };
    let ((well, all), (left, others)) = (count(None), count(Some(id)));
    let needed = quorum(others);
    format!(
        "etcd: {well} of {all} members are healthy, {left} of {others} without it, {needed} needed"
    )
}

/// Cordons a node and moves its pods. A node that is not ready lets none go: they are given up when its
/// Node is deleted.
///
/// # Errors
/// A pod does not leave in time, for instance because of its `PodDisruptionBudget`.
pub async fn drain(api: &Api<'_>, node: &Node) -> Result<(), StepError> {
    let name = node.name.as_str();
    api.kubectl(["cordon", name]).await?;
    if !node.ready {
        return Ok(());
    }
    let limit = format!("--timeout={}s", DRAIN.as_secs());
    let words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force"];
    let command = crate::bootstrap::kubernetes::kubectl(words.into_iter().chain([limit.as_str()]));
    let output = api.run(&command.timeout(DRAIN + Duration::from_secs(30))).await?;
    if output.ok() {
        return Ok(());
    }
    let complaint = output.complaint();
    let remedy = if complaint.contains("disruption budget") {
        "a PodDisruptionBudget keeps its pods there: start replicas elsewhere or ease it, and try again"
    } else {
        "see `kubectl get pods -A --field-selector spec.nodeName=` and its name, and try again"
    };
    let reason = format!("{name} is cordoned, but its pods do not leave it: {complaint}");
    Err(StepError::Refused { reason, remedy: remedy.to_owned() })
}

impl Step for Remove {
    fn id(&self) -> StepId {
        StepId::new(&self.extra.name, STEP)
    }

    fn title(&self) -> String {
        match &self.extra.node {
            Some(_) => format!("drain {} and take it out of the cluster", self.extra.name),
            None if self.extra.member.is_some() => {
                format!("remove the etcd member {}", self.extra.name)
            }
            None => format!("take the cluster off {}", self.extra.name),
        }
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn follows(&self) -> Vec<StepId> {
        if self.shared.removed_first.contains(&self.extra.name) {
            return Vec::new();
        }
        let cluster = &self.shared.cluster;
        let joined = cluster.with_role(Role::ControlPlane).map(|host| (host, control_plane::STEP));
        let workers = cluster.with_role(Role::Worker);
        let workers = workers.filter(|host| !host.roles.contains(&Role::ControlPlane));
        let told = workers.map(|host| (host, workers::config::STEP));
        let successor = self.extra.successor.iter();
        let successor = successor.map(|new| StepId::new(new, workers::node::STEP));
        let others = joined.chain(told).map(|(host, step)| StepId::new(&host.name, step));
        others.chain(successor).collect()
    }

    fn lane(&self) -> Lane {
        if self.is_control_plane() { Lane::Single } else { Lane::Parallel }
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(match &self.extra.member {
            Some(_) => Disruption::EtcdMember,
            None if self.is_control_plane() => Disruption::ApiServer,
            None => Disruption::Node,
        })
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let outcome = self.make(cx).await;
            self.shared.changed(&self.extra.name);
            outcome
        }
        .boxed()
    }
}
