//! A host of an external etcd is given up: its unit, its settings and its certificates go.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::bootstrap::engine::{Change, Check, Context, Lane, Step, StepError, StepId};
use crate::bootstrap::render::replace_block;
use crate::bootstrap::steps::backup;
use crate::bootstrap::steps::shared::etc_hosts;
use crate::bootstrap::transport::{Command, File};

use super::data::{Data, settle};
use super::paths::{DATA, FOLDER, UNIT, UNIT_FILE};

/// What a host has of the cluster as long as it is a node.
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";

/// The name of the step.
pub const STEP: &str = "etcd-reset";

/// Gives a host up. Who asks for it sees to it that nobody needs its member any more.
#[derive(Clone, Debug)]
pub struct Reset {
    /// The host's name in the spec.
    pub name: String,
    /// What becomes of its data.
    pub data: Data,
    /// What has to be done before.
    pub needs: Vec<StepId>,
    /// What has to be over before.
    pub follows: Vec<StepId>,
}

impl Reset {
    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let found = left(cx, &self.name).await?;
        if found.is_empty() {
            return Ok(Check::Done);
        }
        Ok(Check::Needed(Change::new(format!("there are {}", found.join(", ")))))
    }
}

/// What is still there of a member on its host: files and folders.
pub(super) async fn left(cx: &Context, host: &str) -> Result<Vec<String>, StepError> {
    const SCRIPT: &str = r#"for file; do if [ -e "$file" ]; then echo "$file"; fi; done"#;
    let data = format!("{DATA}/member");
    let look = Command::script(SCRIPT, [UNIT_FILE, FOLDER, &data]);
    let found = cx.run(host, &look).await?.text();
    Ok(found.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Takes all of it away but the data, which become what is wished.
pub(super) async fn give_up(cx: &Context, host: &str, data: Data) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
# stop etcd for good
systemctl disable --now "$1" 2>/dev/null || true
rm -rf -- "$2" "$3"
systemctl daemon-reload
systemctl reset-failed "$1" 2>/dev/null || true
"#;
    // The data first: while its unit's file is there, a run that was cut short is gone on with.
    let stop = Command::script(r#"systemctl stop "$1" || true"#, [UNIT]);
    cx.run(host, &stop).await?;
    settle(cx, host, data).await?;
    backup::leave(cx, host).await?;
    forget_names(cx, host).await?;
    cx.run(host, &Command::script(SCRIPT, [UNIT, UNIT_FILE, FOLDER])).await.map(drop)
}

/// Takes the cluster's names out of `/etc/hosts`: a host that was a spare before has them. One that stays a
/// node goes on needing them.
async fn forget_names(cx: &Context, host: &str) -> Result<(), StepError> {
    let transport = cx.host(host)?;
    if transport.read(KUBELET).await?.is_some() {
        return Ok(());
    }
    let Some(found) = transport.read(etc_hosts::PATH).await? else { return Ok(()) };
    let wanted = replace_block(&found.content, "");
    if wanted != found.content {
        transport.write(&File::new(etc_hosts::PATH, wanted)).await?;
    }
    Ok(())
}

impl Step for Reset {
    fn id(&self) -> StepId {
        StepId::new(&self.name, STEP)
    }

    fn title(&self) -> String {
        format!("take etcd off {}", self.name)
    }

    fn needs(&self) -> Vec<StepId> {
        self.needs.clone()
    }

    fn follows(&self) -> Vec<StepId> {
        self.follows.clone()
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        give_up(cx, &self.name, self.data).boxed()
    }
}
