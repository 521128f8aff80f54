//! What monitoring put on a host, taken away. What Prometheus has recorded stays.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::LEAVE;
use super::look::Look;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::render::monitoring::{FOLDER, OURS, Program};
use crate::bootstrap::steps::hosts::take_packages;
use crate::bootstrap::transport::Command;

/// Takes away units of ours.
pub(super) async fn units(cx: &Context, host: &str, names: &[&str]) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
# stop what is not wished any more
for unit; do
    systemctl disable --quiet --now "$unit" 2>/dev/null || true
    rm -f -- "/etc/systemd/system/$unit"
done
systemctl daemon-reload
"#;
    if names.is_empty() {
        return Ok(());
    }
    cx.run(host, &Command::script(SCRIPT, names.iter().copied())).await.map(drop)
}

/// Takes away those of the packages that we installed and no program needs any more, and lets Debian's
/// units be again.
pub(super) async fn packages(
    cx: &Context,
    host: &str,
    look: &Look,
    wanted: &[Program],
) -> Result<BTreeSet<String>, StepError> {
    const UNMASK: &str = "for name; do systemctl unmask --quiet \"$name.service\"; done";
    let needed: Vec<_> = wanted.iter().map(|program| program.package()).collect();
    let (kept, gone): (BTreeSet<_>, BTreeSet<_>) =
        look.ours().into_iter().partition(|name| needed.contains(&name.as_str()));
    if !gone.is_empty() {
        take_packages(cx, host, gone.iter().cloned().collect()).await?;
        cx.run(host, &Command::script(UNMASK, gone)).await?;
    }
    Ok(kept)
}

/// What is there of it.
fn left(look: &Look) -> Vec<&'static str> {
    let units = Program::ALL.into_iter().filter(|program| look.has_unit(*program));
    units.map(Program::unit).chain(look.has_folder().then_some(FOLDER)).collect()
}

/// Takes all of it away.
///
/// # Errors
/// The host cannot be reached, or apt-get complains.
pub async fn leave(cx: &Context, host: &str) -> Result<(), StepError> {
    let look = Look::at(cx, host).await?;
    if left(&look).is_empty() {
        return Ok(());
    }
    units(cx, host, &OURS).await?;
    packages(cx, host, &look, &[]).await?;
    let new = format!("{FOLDER}.new");
    cx.run(host, &Command::new(["rm", "-rf", "--", FOLDER, &new])).await.map(drop)
}

/// Takes all of it off a host that is given up, and that has nothing else of the cluster.
#[derive(Clone, Debug)]
pub struct Leave {
    /// The host's name in the spec.
    pub name: String,
}

impl Step for Leave {
    fn id(&self) -> StepId {
        StepId::new(&self.name, LEAVE)
    }

    fn title(&self) -> String {
        format!("take monitoring off {}", self.name)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let look = Look::at(cx, &self.name).await?;
            Ok(match left(&look)[..] {
                [] => Check::Done,
                ref left => Check::Needed(Change::new(format!("there are {}", left.join(", ")))),
            })
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        leave(cx, &self.name).boxed()
    }
}
