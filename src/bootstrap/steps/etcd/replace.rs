//! Members leave: one is removed, or another host takes its place.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{Cluster, Host};

use super::certificates::{Certificates, Renewal};
use super::control::{self, Survey, etcdctl};
use super::data::Data;
use super::keys::Keys;
use super::member::Member;
use super::members::{self, View};
use super::paths::peer_url;
use super::quorum::{Quorum, may_be_removed};
use super::{CERTIFICATES, act, reset};

/// Removes the member of this name, if that leaves a quorum. Where its host can be reached, its unit, its
/// settings and its keys go too, and its data become what is wished. Nothing if there is no such member.
///
/// # Errors
/// If it would break the quorum, with the numbers, or the cluster does not agree.
pub async fn remove(
    cx: &Context,
    cluster: &Cluster,
    name: &str,
    data: Data,
) -> Result<(), StepError> {
    let (speaker, view) = speaker(cx, cluster, name).await?;
    if let Some(member) = find(cluster, &view, name) {
        may_be_removed(&view, member.id)?;
        hand_over(cx, &view, member, name).await?;
        act::remove(cx, &speaker, &view, member.id).await?;
    }
    if !cx.hosts.contains_key(name) {
        return Ok(());
    }
    match reset::give_up(cx, name, data).await {
        // Its machine is gone; it may even be why it is removed.
        Err(StepError::Transport(_)) | Ok(()) => Ok(()),
        Err(other) => Err(other),
    }
}

/// The member of a host: by where the spec says it is, else by its name or number.
fn find<'a>(cluster: &Cluster, view: &'a View, name: &str) -> Option<&'a members::Member> {
    let at = |host: &Host| view.members.at(&peer_url(host.address));
    let titled = || view.members.list.iter().find(|member| member.title() == name);
    cluster.host(name).and_then(at).or_else(|| view.members.named(name)).or_else(titled)
}

/// A host other than this one whose member is part of the quorum, and the cluster as it sees it.
async fn speaker(
    cx: &Context,
    cluster: &Cluster,
    other_than: &str,
) -> Result<(String, View), StepError> {
    let survey = Survey::of(cx, cluster).await?;
    if let Some((host, view)) = &survey.cluster
        && host != other_than
    {
        return Ok((host.clone(), view.clone()));
    }
    for (host, probe) in &survey.probes {
        let part = probe.as_ref().is_ok_and(|probe| probe.members.is_some());
        if host != other_than && part {
            return Ok((host.clone(), control::view(cx, host).await?));
        }
    }
    if let Some((_, view)) = &survey.cluster
        && let Some(member) = find(cluster, view, other_than)
    {
        // The only one that answers is the one that shall go.
        may_be_removed(view, member.id)?;
    }
    Err(survey.refusal(&format!("no etcd member but {other_than} is part of a quorum")))
}

/// A leader that is removed costs an election, during which nothing is written; one that hands over
/// first does not.
async fn hand_over(
    cx: &Context,
    view: &View,
    member: &members::Member,
    host: &str,
) -> Result<(), StepError> {
    if view.leader() != Some(member.id) || !cx.hosts.contains_key(host) {
        return Ok(());
    }
    let mut others = view.members.list.iter().filter(|other| other.id != member.id);
    let next = others.find(|other| !other.learner && view.is_healthy(other.id));
    let Some(next) = next else { return Ok(()) };
    match etcdctl(cx, host, &["move-leader", &format!("{:x}", next.id)]).await {
        // Then there is an election.
        Ok(_) | Err(StepError::Command { .. } | StepError::Transport(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

/// A member leaves the cluster.
#[derive(Clone, Debug)]
pub struct Remove {
    /// The cluster without it.
    pub cluster: Arc<Cluster>,
    /// Its host's name.
    pub name: String,
    /// Does it go before others join?
    pub first: bool,
    /// What becomes of its data.
    pub data: Data,
}

impl Remove {
    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let (_, view) = speaker(cx, &self.cluster, &self.name).await?;
        let Some(member) = find(&self.cluster, &view, &self.name) else {
            return self.left_there(cx).await;
        };
        let is_member = |host: &Host| view.members.at(&peer_url(host.address)).is_some();
        let all_joined = self.cluster.etcd_hosts().all(is_member);
        if self.first || all_joined {
            may_be_removed(&view, member.id)?;
        }
        let now = Quorum::of(&view);
        let healthy = view.is_healthy(member.id);
        let left = if member.learner { now } else { now.removed(healthy) };
        Ok(Check::Needed(Change::new(format!(
            "it is not in the file; etcd: {now}; without it {left}"
        ))))
    }

    /// Those that the file names have joined: the cluster does not shrink because of a step that failed.
    async fn others_are_there(&self, cx: &Context) -> Result<(), StepError> {
        let (_, view) = speaker(cx, &self.cluster, &self.name).await?;
        let votes = |host: &Host| {
            let member = view.members.at(&peer_url(host.address));
            member.is_some_and(|member| !member.learner)
        };
        let missing = self.cluster.etcd_hosts().find(|host| !votes(host));
        match missing.filter(|_| find(&self.cluster, &view, &self.name).is_some()) {
            None => Ok(()),
            Some(host) => Err(StepError::Refused {
                reason: format!("{} stays: {} has not joined etcd yet", self.name, host.name),
                remedy: format!("see to {}, and run this again", host.name),
            }),
        }
    }

    /// It is no member any more, and a run before this one may have been cut off before its host was
    /// cleaned.
    async fn left_there(&self, cx: &Context) -> Result<Check, StepError> {
        if !cx.hosts.contains_key(&self.name) {
            return Ok(Check::Done);
        }
        match reset::left(cx, &self.name).await {
            Ok(found) if !found.is_empty() => {
                let found = found.join(", ");
                let why = format!("it is no member any more, and there are still {found}");
                Ok(Check::Needed(Change::new(why)))
            }
            Ok(_) | Err(StepError::Transport(_)) => Ok(Check::Done),
            Err(other) => Err(other),
        }
    }
}

impl Step for Remove {
    fn id(&self) -> StepId {
        StepId::new(&self.name, super::REMOVED)
    }

    fn title(&self) -> String {
        format!("remove the etcd member {}", self.name)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::EtcdMember)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(self.found(cx))
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !self.first {
                self.others_are_there(cx).await?;
            }
            remove(cx, &self.cluster, &self.name, self.data).await
        })
    }
}

/// Another host takes the place of a member, which may be dead. A dead one goes first, since etcd adds
/// nobody while a voting member is away; one that lives goes last, so that there are never fewer.
#[derive(Clone, Debug)]
pub struct Replace {
    /// The cluster with the new host in the place of the old one.
    pub cluster: Arc<Cluster>,
    /// The old host's name; it may be the new one's, if its machine was made anew.
    pub old: String,
    /// The new host.
    pub new: Host,
    /// Who issues its certificates.
    pub keys: Arc<Keys>,
}

impl Replace {
    fn member(&self) -> Member {
        Member { cluster: self.cluster.clone(), host: self.new.clone() }
    }

    async fn run(&self, cx: &Context) -> Result<(), StepError> {
        let other = self.old != self.new.name;
        if other {
            let (_, view) = speaker(cx, &self.cluster, &self.old).await?;
            let old = view.members.named(&self.old);
            if old.is_some_and(|old| !view.is_healthy(old.id)) {
                remove(cx, &self.cluster, &self.old, Data::Aside).await?;
            }
        }
        let (cluster, keys) = (self.cluster.clone(), self.keys.clone());
        let (host, renewal) = (self.new.clone(), Renewal::WhenDue);
        let steps: [&dyn Step; 2] =
            [&Certificates::of_member(cluster, host, keys, renewal), &self.member()];
        for step in steps {
            if step.check(cx).await? != Check::Done {
                step.apply(cx).await?;
                step.verify(cx).await?;
            }
        }
        if other { remove(cx, &self.cluster, &self.old, Data::Aside).await } else { Ok(()) }
    }
}

impl Step for Replace {
    fn id(&self) -> StepId {
        StepId::new(&self.new.name, "etcd-replaced")
    }

    fn title(&self) -> String {
        format!("let {} take the place of the etcd member {}", self.new.name, self.old)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.new.name, "prepared")]
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::EtcdMember)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            let (old, new) = (&self.old, &self.new.name);
            if old != new {
                let (_, view) = speaker(cx, &self.cluster, old).await?;
                if view.members.named(old).is_some() {
                    return Ok(Check::Needed(Change::new(format!("{old} is an etcd member"))));
                }
            }
            Ok(match self.member().check(cx).await? {
                Check::After(step) if step.name == CERTIFICATES => {
                    Check::Needed(Change::new(format!("{new} has no certificates of etcd")))
                }
                found => found,
            })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(self.run(cx))
    }
}
