//! The step of the whole cluster: all members vote and answer, of one cluster, and nobody else is in it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::spec::{Cluster, Host};

use super::control::{self, Survey};
use super::members::View;
use super::paths::{INITIAL, peer_url};
use super::quorum::Quorum;
use super::{HEALTHY, MEMBER};

/// How long founding members may take to find each other.
const PATIENCE: Duration = Duration::from_mins(3);

const PAUSE: Duration = Duration::from_millis(500);

/// The whole of an external etcd cluster.
#[derive(Clone, Debug)]
pub struct Healthy {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The first of its etcd hosts.
    pub first: Host,
}

/// What is not as it should be with a cluster: of nothing, it is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It passes, or another run of the steps mends it.
    Passing(String),
    /// Somebody has to decide.
    Lasting {
        /// What it is.
        reason: String,
        /// What can be done.
        remedy: String,
    },
}

/// What is not as it should be.
pub fn faults(cluster: &Cluster, survey: &Survey) -> Vec<Fault> {
    let Some((_, view)) = &survey.cluster else {
        let mut reasons: Vec<_> = survey.silent().map(|(_, error)| error.to_string()).collect();
        reasons.insert(0, "etcd has no quorum".to_owned());
        return vec![Fault::Passing(reasons.join("; "))];
    };
    let mut faults = of_view(cluster, view);
    for (host, probe) in &survey.probes {
        if probe.as_ref().is_ok_and(|probe| probe.initial) {
            faults.push(Fault::Passing(format!("{host} has the settings of its first start")));
        }
    }
    faults
}

fn of_view(cluster: &Cluster, view: &View) -> Vec<Fault> {
    let mut faults = Vec::new();
    let passing = |text: String| Fault::Passing(text);
    for host in cluster.etcd_hosts() {
        let name = &host.name;
        let Some(member) = view.members.at(&peer_url(host.address)) else {
            faults.push(passing(format!("{name} is not a member")));
            continue;
        };
        if !member.started() {
            faults.push(passing(format!("{name} has never started")));
        } else if member.learner {
            faults.push(passing(format!("{name} is a learner without a vote")));
        } else if !view.is_healthy(member.id) {
            faults.push(passing(format!("{name} does not answer ({})", Quorum::of(view))));
        }
    }
    let ours = |url: &String| cluster.etcd_hosts().any(|host| peer_url(host.address) == *url);
    for member in &view.members.list {
        if !member.peer_urls.iter().any(ours) {
            let (title, id) = (member.title(), member.id);
            faults.push(Fault::Lasting {
                reason: format!("{title} ({}) is a member", member.peer_urls.join(", "))
                    + " but no etcd host of the file",
                remedy: format!(
                    "put it into the file, or take it out with `apiproxy bootstrap apply --prune` \
                     (by hand: `etcdctl member remove {id:x}`)"
                ),
            });
        }
    }
    for status in view.status.values() {
        if status.cluster != view.members.cluster {
            faults.push(Fault::Lasting {
                reason: format!(
                    "member {:x} is of another cluster, {:x}",
                    status.id, status.cluster
                ),
                remedy: "look who answers on that address".to_owned(),
            });
        }
        faults.extend(status.errors.iter().map(|error| Fault::Lasting {
            reason: format!("member {:x} says: {error}", status.id),
            remedy: "see https://etcd.io/docs/v3.5/op-guide/maintenance/".to_owned(),
        }));
    }
    if view.leader().is_none() {
        faults.push(passing("the members do not agree on a leader".to_owned()));
    }
    faults
}

impl Step for Healthy {
    fn id(&self) -> StepId {
        StepId::new(&self.first.name, HEALTHY)
    }

    fn title(&self) -> String {
        "see that etcd is healthy".to_owned()
    }

    fn needs(&self) -> Vec<StepId> {
        self.cluster.etcd_hosts().map(|host| StepId::new(&host.name, MEMBER)).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            let survey = Survey::of(cx, &self.cluster).await?;
            let never = survey.cluster.is_none() && survey.formed().is_empty();
            if never && survey.silent().next().is_none() {
                return Ok(Check::After(StepId::new(&self.first.name, MEMBER)));
            }
            let why = |fault: Fault| match fault {
                Fault::Passing(reason) | Fault::Lasting { reason, .. } => reason,
            };
            let why: Vec<_> = faults(&self.cluster, &survey).into_iter().map(why).collect();
            if why.is_empty() {
                return Ok(Check::Done);
            }
            Ok(Check::Needed(Change::new(why.join("; "))))
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let end = Instant::now() + PATIENCE;
            loop {
                let survey = Survey::of(cx, &self.cluster).await?;
                if survey.cluster.is_some() {
                    self.seal(cx, &survey).await?;
                }
                let mut passing = Vec::new();
                for fault in faults(&self.cluster, &survey) {
                    match fault {
                        Fault::Lasting { reason, remedy } => {
                            return Err(StepError::Refused { reason, remedy });
                        }
                        Fault::Passing(reason) => passing.push(reason),
                    }
                }
                if passing.is_empty() {
                    return Ok(());
                }
                if Instant::now() >= end {
                    return Err(StepError::Unverified(passing.join("; ")));
                }
                sleep(PAUSE).await;
            }
        })
    }
}

impl Healthy {
    /// Takes the settings of their first start from those that are part of the cluster.
    async fn seal(&self, cx: &Context, survey: &Survey) -> Result<(), StepError> {
        for (host, probe) in &survey.probes {
            let part = probe.as_ref().is_ok_and(|probe| probe.initial && probe.members.is_some());
            if part {
                control::forget(cx, host, &[INITIAL]).await?;
            }
        }
        Ok(())
    }
}
