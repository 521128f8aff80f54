//! The step of a member: its unit runs with the right settings, as a voting member of the cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{Cluster, Host, Version};
use crate::bootstrap::transport::{Command, File};

use super::control::Survey;
use super::decide::{Move, Others, decide};
use super::paths::{PENDING, SETTINGS, UNIT_FILE};
use super::probe::Probe;
use super::{CERTIFICATES, MEMBER, act, diff, render};

/// How long a member that was started may be seen half in the cluster.
const SETTLE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(500);

/// One member of an external etcd cluster.
#[derive(Clone, Debug)]
pub struct Member {
    /// The cluster that it is of.
    pub cluster: Arc<Cluster>,
    /// Its host, one of the cluster's.
    pub host: Host,
}

/// How the member stands and what follows from it.
pub(super) struct Look {
    pub(super) next: Move,
    pub(super) probe: Probe,
    pub(super) files: Files,
}

/// The files of a member as they should be.
pub(super) struct Files {
    pub(super) unit: String,
    pub(super) settings: String,
}

impl Files {
    fn of(cluster: &Cluster, host: &Host, program: &str, version: Version) -> Self {
        let settings = render::settings(cluster, host, version);
        Self { unit: render::unit(program), settings }
    }

    fn match_those_of(&self, probe: &Probe) -> bool {
        probe.unit.as_ref() == Some(&self.unit) && probe.settings.as_ref() == Some(&self.settings)
    }
}

impl Member {
    /// Looks; or says which step has to come first.
    pub(super) async fn look(&self, cx: &Context) -> Result<Result<Look, StepId>, StepError> {
        let name = &self.host.name;
        let probe = Probe::of(cx, name).await?;
        let (Some(program), Some(version)) = (&probe.program, probe.version) else {
            return Ok(Err(StepId::new(name, "prepared")));
        };
        if !probe.certificates {
            return Ok(Err(StepId::new(name, CERTIFICATES)));
        }
        let refused = render::refused_arguments(&self.cluster);
        if !refused.is_empty() {
            return Err(StepError::Refused {
                reason: format!("etcd.extraArgs sets {}, which is ours to set", refused.join(", ")),
                remedy: "take it out of the file".to_owned(),
            });
        }
        let files = Files::of(&self.cluster, &self.host, program, version);
        let others = self.others(cx, &probe).await?;
        let next = decide(&self.host, &probe, files.match_those_of(&probe), &others)?;
        Ok(Ok(Look { next, probe, files }))
    }

    /// What the others say; one that is part of a quorum itself need not ask them.
    async fn others(&self, cx: &Context, probe: &Probe) -> Result<Others, StepError> {
        if let Some(members) = &probe.members {
            return Ok(Others::Quorum(members.clone()));
        }
        let own = (self.host.name.as_str(), probe);
        let survey = Survey::beside(cx, &self.cluster, Some(own)).await?;
        let formed = survey.formed().into_iter().map(str::to_owned).collect();
        let silent = survey.silent().map(|(_, error)| error.to_string()).collect();
        Ok(match survey.cluster {
            Some((_, view)) => Others::Quorum(view.members),
            None => Others::NoQuorum { formed, silent },
        })
    }

    /// Writes what differs; a kill in the middle leaves a mark that the member has to be restarted.
    pub(super) async fn write(&self, cx: &Context, look: &Look) -> Result<(), StepError> {
        if look.files.match_those_of(&look.probe) {
            return Ok(());
        }
        self.refuse_unknown_arguments(cx, &look.probe).await?;
        let host = cx.host(&self.host.name)?;
        host.write(&File::new(PENDING, "")).await?;
        host.write(&File::new(UNIT_FILE, look.files.unit.as_str())).await?;
        host.write(&File::new(SETTINGS, look.files.settings.as_str())).await?;
        Ok(())
    }

    async fn refuse_unknown_arguments(&self, cx: &Context, probe: &Probe) -> Result<(), StepError> {
        let program = probe.program.as_deref().unwrap_or("etcd");
        if self.cluster.etcd.extra_args.is_empty() {
            return Ok(());
        }
        let help = Command::script(r#""$1" --help 2>&1"#, [program]);
        let help = cx.run(&self.host.name, &help).await?.text();
        let unknown = render::unknown_arguments(&self.cluster, &help);
        if unknown.is_empty() {
            return Ok(());
        }
        let version = probe.version.map(|v| v.to_string()).unwrap_or_default();
        Err(StepError::Refused {
            reason: format!(
                "{}: etcd {version} has no argument {}",
                self.host.name,
                unknown.join(", ")
            ),
            remedy: "correct etcd.extraArgs; `etcd --help` shows what there is".to_owned(),
        })
    }

    fn change(&self, look: &Look) -> Change {
        let name = &self.host.name;
        let outdated = || match (&look.probe.status, look.probe.version) {
            (Some(status), Some(installed)) if status.version.parse() != Ok(installed) => {
                format!("etcd {} runs and {installed} is installed", status.version)
            }
            _ => "its settings changed since it started".to_owned(),
        };
        let why = match &look.next {
            Move::Nothing => "nothing".to_owned(),
            Move::Found => {
                let count = self.cluster.etcd_hosts().count();
                format!("etcd does not run: {name} starts as one of {count} founding members")
            }
            Move::Start => "no etcd member runs as it should, and there is no quorum".to_owned(),
            Move::Join { stale } if stale.is_empty() => {
                format!("{name} is no member: it is added as a learner and promoted")
            }
            Move::Join { .. } => format!(
                "the data of {name} are gone, or its address is another: the old member is \
                 removed, and it is added as a learner and promoted"
            ),
            Move::Finish { .. } => format!("{name} was added but does not vote yet"),
            Move::Revive { .. } if look.probe.running => "etcd does not answer".to_owned(),
            Move::Revive { .. } => "etcd does not run".to_owned(),
            Move::Restart { .. } if look.files.match_those_of(&look.probe) => outdated(),
            Move::Restart { .. } => "its files are not as they should be".to_owned(),
            Move::Seal => "the settings of its first start are still there".to_owned(),
        };
        let unit = diff(UNIT_FILE, look.probe.unit.as_deref(), &look.files.unit);
        let settings = diff(SETTINGS, look.probe.settings.as_deref(), &look.files.settings);
        Change { why, diffs: unit.into_iter().chain(settings).collect() }
    }
}

impl Step for Member {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, MEMBER)
    }

    fn title(&self) -> String {
        format!("run the etcd member {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, CERTIFICATES)]
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::EtcdMember)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            Ok(match self.look(cx).await? {
                Err(first) => Check::After(first),
                Ok(look) if look.next == Move::Nothing => Check::Done,
                Ok(look) => Check::Needed(self.change(&look)),
            })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            match self.look(cx).await? {
                Ok(look) => act::act(self, cx, look).await,
                Err(first) => Err(StepError::Refused {
                    reason: format!("{first} has not been done"),
                    remedy: "let `apiproxy bootstrap apply` do all steps".to_owned(),
                }),
            }
        })
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let end = Instant::now() + SETTLE;
            loop {
                match self.look(cx).await? {
                    // A founder may become part of the cluster at any moment, and is seen half in it
                    // then: the last step seals all.
                    Ok(look) if matches!(look.next, Move::Nothing | Move::Seal) => return Ok(()),
                    Ok(look) if look.probe.running && Instant::now() < end => sleep(PAUSE).await,
                    Ok(look) => {
                        let why = self.change(&look).why;
                        let text = format!("{}: {why}", self.host.name);
                        return Err(StepError::Unverified(text));
                    }
                    Err(first) => {
                        return Err(StepError::Unverified(format!("{first} was not done")));
                    }
                }
            }
        })
    }
}
