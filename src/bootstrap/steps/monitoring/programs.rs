//! The programs of a host, as Debian packages them.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::PROGRAMS;
use super::look::Look;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::render::monitoring::{INSTALLED, Program, programs};
use crate::bootstrap::spec::{Artifacts, Host};
use crate::bootstrap::steps::hosts::add_packages;
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::transport::{Command, File};

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
}

impl Programs {
    async fn look(&self, cx: &Context) -> Result<(Look, Vec<Program>), StepError> {
        let name = &self.host.name;
        let look = Look::at(cx, name).await?;
        let wanted = programs(&self.shared.cluster, &self.host);
        let taken = wanted.iter().find(|program| look.is_taken(**program));
        if let Some(program) = taken {
            let package = program.package();
            return Err(StepError::Refused {
                reason: format!(
                    "{name}: {package}.service of somebody else runs there, on the port that ours needs"
                ),
                remedy: format!(
                    "stop it for good there (`systemctl disable --now {package}`), or write `monitoring: \
                     {{enabled: false}}`"
                ),
            });
        }
        let missing = wanted.into_iter().filter(|program| !look.installed(*program)).collect();
        Ok((look, missing))
    }
}

fn names(programs: &[Program]) -> Vec<String> {
    programs.iter().map(|program| program.package().to_owned()).collect()
}

impl Step for Programs {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, PROGRAMS)
    }

    fn title(&self) -> String {
        format!("install the programs of monitoring on {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, "prepared")]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let (_, missing) = self.look(cx).await?;
            if missing.is_empty() {
                return Ok(Check::Done);
            }
            Ok(Check::Needed(Change::new(format!("not installed: {}", names(&missing).join(", ")))))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        // Debian's units would start as soon as they are installed, with settings of their own.
        const MASK: &str = "for name; do systemctl mask --quiet \"$name.service\"; done";
        async move {
            let (cluster, name) = (&self.shared.cluster, &self.host.name);
            let (look, missing) = self.look(cx).await?;
            let names = names(&missing);
            if names.is_empty() {
                return Ok(());
            }
            if matches!(cluster.artifacts, Artifacts::Directory(_)) {
                return Err(StepError::Refused {
                    reason: format!("{name} has not {}", names.join(", ")),
                    remedy:
                        "install these packages of Debian there, with their services disabled: the \
                             directory of artifacts has none of them"
                            .to_owned(),
                });
            }
            // Known before it is so: what is cut short here is still ours to take away.
            let mut ours = look.ours();
            ours.extend(names.iter().cloned());
            let list = ours.into_iter().map(|name| name + "\n").collect::<String>();
            cx.host(name)?.write(&File::new(INSTALLED, list)).await?;
            cx.run(name, &Command::script(MASK, &names)).await?;
            add_packages(cx, cluster, name, names).await
        }
        .boxed()
    }
}
