//! Doing what was decided about a member. Each may be killed anywhere: what is there then leads to
//! the same end when it is looked at again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::transport::File;

use super::control::{self, Survey, change_members, etcdctl, url_of};
use super::decide::Move;
use super::member::{Look, Member};
use super::members::View;
use super::paths::{INITIAL, PENDING};
use super::probe::Probe;
use super::quorum::{Breaks, Quorum, may_be_removed, may_go_down};
use super::render::{self, State};

/// How long a member that was started may take to be part of the quorum.
const START: Duration = Duration::from_mins(2);

/// How long a learner may take to catch up: 8 GiB, the most that etcd keeps, at 10 MiB/s.
const CATCH_UP: Duration = Duration::from_mins(15);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn act(member: &Member, cx: &Context, look: Look) -> Result<(), StepError> {
    let name = member.host.name.as_str();
    match look.next {
        Move::Nothing => Ok(()),
        Move::Seal => control::forget(cx, name, &[INITIAL]).await,
        Move::Found => {
            control::prepare(cx, name).await?;
            let founders = render::founders(&member.cluster);
            let initial = render::initial(&member.cluster, State::New, &founders);
            cx.host(name)?.write(&File::new(INITIAL, initial)).await?;
            restart(member, cx, &look).await
        }
        Move::Start => restart(member, cx, &look).await,
        Move::Revive { id } => {
            restart(member, cx, &look).await?;
            wait_healthy(cx, name, id).await?;
            control::forget(cx, name, &[INITIAL]).await
        }
        Move::Restart { id } => {
            let (_, view) = quorum(member, cx).await?;
            may_go_down(&view, id)?;
            restart(member, cx, &look).await?;
            wait_healthy(cx, name, id).await?;
            control::forget(cx, name, &[INITIAL]).await
        }
        Move::Join { ref stale } => join(member, cx, &look, stale).await,
        Move::Finish { id, aside } => finish(member, cx, &look, id, aside).await,
    }
}

impl From<Breaks> for StepError {
    fn from(breaks: Breaks) -> Self {
        Self::Refused {
            reason: breaks.to_string(),
            remedy: "bring the other members back first; `apiproxy bootstrap status` shows them"
                .to_owned(),
        }
    }
}

/// Writes the files and starts the unit anew.
async fn restart(member: &Member, cx: &Context, look: &Look) -> Result<(), StepError> {
    member.write(cx, look).await?;
    control::start(cx, &member.host.name).await?;
    control::forget(cx, &member.host.name, &[PENDING]).await
}

/// A host that can speak for the quorum, and the cluster as it sees it.
async fn quorum(member: &Member, cx: &Context) -> Result<(String, View), StepError> {
    let survey = Survey::of(cx, &member.cluster).await?;
    let refusal = || survey.refusal("no etcd member is part of a quorum");
    survey.cluster.clone().ok_or_else(refusal)
}

async fn join(member: &Member, cx: &Context, look: &Look, stale: &[u64]) -> Result<(), StepError> {
    let (_, view) = quorum(member, cx).await?;
    for id in stale {
        may_be_removed(&view, *id)?;
    }
    // From here on this host does not speak for the quorum, if it did.
    control::retire(cx, &member.host.name).await?;
    let (speaker, view) = quorum(member, cx).await?;
    for id in stale {
        remove(cx, &speaker, &view, *id).await?;
    }
    let url = url_of(&member.host);
    let words = ["member", "add", &member.host.name, "--learner", "--peer-urls", &url];
    change_members(cx, &speaker, &words).await.map_err(|error| add_refused(&view, error))?;
    let (_, view) = quorum(member, cx).await?;
    let added = view.members.at(&url).map(|own| own.id);
    let id = added.ok_or_else(|| StepError::Unverified(format!("{url} was added and is gone")))?;
    finish(member, cx, look, id, false).await
}

/// Why a learner could not be added.
fn add_refused(view: &View, error: StepError) -> StepError {
    match error {
        StepError::Command { complaint, .. } if complaint.contains("too many learner") => {
            let mut learners = view.members.list.iter().filter(|member| member.learner);
            let other = learners.next().map(super::members::Member::title).unwrap_or_default();
            StepError::Refused {
                reason: format!("etcd takes one learner at a time, and {other} is one"),
                remedy: format!("`etcdctl member remove` {other} if it never comes back"),
            }
        }
        StepError::Command { complaint, .. } if complaint.contains("unhealthy cluster") => {
            let voting = view.members.list.iter().filter(|member| !member.learner);
            let away = voting.filter(|member| !view.is_healthy(member.id));
            let away: Vec<_> = away.map(super::members::Member::title).collect();
            StepError::Refused {
                reason: format!(
                    "etcd adds nobody while a voting member is away ({})",
                    away.join(", ")
                ),
                remedy: "bring it back, or `apiproxy bootstrap replace` it first".to_owned(),
            }
        }
        other => other,
    }
}

/// Removes a member, if that leaves a quorum.
pub(super) async fn remove(
    cx: &Context,
    speaker: &str,
    view: &View,
    id: u64,
) -> Result<(), StepError> {
    may_be_removed(view, id)?;
    change_members(cx, speaker, &["member", "remove", &format!("{id:x}")]).await.map(drop)
}

async fn finish(
    member: &Member,
    cx: &Context,
    look: &Look,
    id: u64,
    aside: bool,
) -> Result<(), StepError> {
    let name = member.host.name.as_str();
    control::prepare(cx, name).await?;
    if aside {
        control::retire(cx, name).await?;
    }
    let (speaker, view) = quorum(member, cx).await?;
    let before = Probe::of(cx, name).await?;
    if !before.data {
        let peers = render::joining(&view.members, &member.host);
        let initial = render::initial(&member.cluster, State::Existing, &peers);
        cx.host(name)?.write(&File::new(INITIAL, initial)).await?;
    }
    if !before.running || !before.data || before.pending || !before.enabled {
        restart(member, cx, look).await?;
    }
    promote(cx, &speaker, id).await?;
    wait_healthy(cx, name, id).await?;
    control::forget(cx, name, &[INITIAL]).await
}

/// Waits until a learner has caught up and promotes it; nothing if it votes already.
async fn promote(cx: &Context, speaker: &str, id: u64) -> Result<(), StepError> {
    let number = format!("{id:x}");
    let end = Instant::now() + CATCH_UP;
    loop {
        let view = control::view(cx, speaker).await?;
        match view.members.list.iter().find(|member| member.id == id) {
            Some(member) if !member.learner => return Ok(()),
            None => return Err(StepError::Unverified(format!("member {number} was removed"))),
            Some(_) => {}
        }
        let started = view.is_healthy(id) && Quorum::of(&view).promoted().holds();
        let refusal = if started {
            match etcdctl(cx, speaker, &["member", "promote", &number]).await {
                Ok(_) => continue,
                Err(StepError::Command { complaint, .. }) => complaint,
                Err(other) => return Err(other),
            }
        } else {
            "it does not answer".to_owned()
        };
        if Instant::now() >= end {
            let limit = CATCH_UP.as_secs() / 60;
            return Err(StepError::Unverified(format!(
                "member {number} did not catch up within {limit} min: {refusal}"
            )));
        }
        sleep(PAUSE).await;
    }
}

/// Waits until the member of a host is part of the quorum.
pub(super) async fn wait_healthy(cx: &Context, host: &str, id: u64) -> Result<(), StepError> {
    let end = Instant::now() + START;
    loop {
        let probe = Probe::of(cx, host).await?;
        let itself = probe.status.as_ref().is_some_and(|status| status.id == id);
        if probe.members.is_some() && itself {
            return Ok(());
        }
        if Instant::now() >= end {
            let limit = START.as_secs();
            return Err(StepError::Unverified(format!(
                "{host}: etcd was not part of the quorum within {limit} s; see `journalctl -u {}`",
                super::paths::UNIT
            )));
        }
        sleep(PAUSE).await;
    }
}
