//! A worker is upgraded after all control planes: kubelet must not be newer than an apiserver.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Upgrade, control_plane};
use crate::bootstrap::engine::{self, Change, Check, Context, Disruption, Lane, StepError, StepId};
use crate::bootstrap::spec::Host;
use crate::bootstrap::steps::workers::static_pod;
use crate::bootstrap::transport::Command;

/// The name of the step.
const STEP: &str = "upgrade-worker";

/// `kubeadm upgrade node` on a worker writes kubelet's configuration.
const KUBEADM: Duration = Duration::from_mins(3);

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Step {
    upgrade: Upgrade,
    host: Host,
    /// The last of the control planes, which each need the one before.
    after: Option<String>,
}

impl Step {
    pub(super) fn new(upgrade: &Upgrade, host: &Host, after: Option<String>) -> Self {
        Self { upgrade: upgrade.clone(), host: host.clone(), after }
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let nodes = self.upgrade.shared.nodes(cx).await?;
        let nodes = nodes.as_deref().map_or(&[][..], Vec::as_slice);
        let node = nodes.iter().find(|node| node.name == self.host.name);
        Ok(match self.upgrade.kubelet_is_new(node) {
            Ok(()) => Check::Done,
            Err(why) => Check::Needed(Change::new(why)),
        })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let name = self.host.name.as_str();
        if let Some(failed) = self.upgrade.failed.get() {
            return Err(StepError::Refused {
                reason: format!("{name} was left alone, since the upgrade of {failed} has failed"),
                remedy: format!("see to {failed}, and run the upgrade again"),
            });
        }
        let outcome = self.replace(cx).await;
        if outcome.is_err() {
            // Only the first counts.
            let _ = self.upgrade.failed.set(name.to_owned());
        }
        outcome
    }

    async fn replace(&self, cx: &Context) -> Result<(), StepError> {
        let name = self.host.name.as_str();
        let via = self.upgrade.shared.through(cx).await?;
        self.upgrade.programs.kubeadm(cx, name, self.upgrade.target()).await?;
        let words = ["kubeadm", "upgrade", "node"].map(str::to_owned).into_iter();
        let words = words.chain(self.upgrade.patches(&self.host)?);
        cx.run(name, &Command::new(words).timeout(KUBEADM)).await?;
        self.upgrade.replace_kubelet(cx, &via, &self.host).await?;
        self.upgrade.shared.changed(name);
        Ok(())
    }
}

impl engine::Step for Step {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("upgrade the worker {} to {}", self.host.name, self.upgrade.target())
    }

    fn needs(&self) -> Vec<StepId> {
        self.after.iter().map(|name| StepId::new(name, control_plane::STEP)).collect()
    }

    fn follows(&self) -> Vec<StepId> {
        ["prepared", static_pod::STEP].map(|name| StepId::new(&self.host.name, name)).into()
    }

    fn lane(&self) -> Lane {
        Lane::Batch(self.upgrade.batch)
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::Node)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}
