//! The proxy before kubelet: kubelet's first words to the cluster go through it already.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::{Worker, config};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::steps::documents::{FIRST_POD, UNIT};
use crate::bootstrap::steps::shared::PACE;
use crate::bootstrap::transport::Command;

use super::look::Look;

/// The name of the step.
pub const STEP: &str = "proxy";

/// How long the proxy may take until an apiserver is ready for it.
const USABLE: Duration = Duration::from_secs(40);

/// systemd waits until the proxy says that it serves.
const START: Duration = Duration::from_mins(2);

/// A proxy that serves on the worker's own address, whatever its form.
#[derive(Clone, Debug)]
pub struct Proxy(pub(super) Worker);

impl Worker {
    /// Makes sure that a proxy serves here, and that an apiserver is ready for it.
    pub(super) async fn serve(&self, cx: &Context) -> Result<(), StepError> {
        let name = &self.host.name;
        self.shared.changed(name);
        let look = self.shared.look_at_worker(cx, name).await?;
        if look.status.is_none() {
            // A dead unit of the same name would be in the way; that there is none is no fault.
            cx.host(name)?.run(&Command::new(["systemctl", "stop", UNIT])).await?;
            let unit = self.shared.documents.unit();
            cx.run(name, &Command::new(unit).timeout(START)).await?;
        }
        self.usable(cx).await.map(drop)
    }

    async fn usable(&self, cx: &Context) -> Result<Arc<Look>, StepError> {
        let name = &self.host.name;
        let begun = Instant::now();
        loop {
            self.shared.changed(name);
            let look = self.shared.look_at_worker(cx, name).await?;
            if look.status.as_ref().is_some_and(|status| status.usable) {
                return Ok(look);
            }
            if begun.elapsed() > USABLE {
                return Err(StepError::Unverified(match &look.status {
                    Some(status) => format!(
                        "{name}: its proxy finds no apiserver that is ready: {}; see `apiproxy check` there",
                        status.reasons()
                    ),
                    None => {
                        format!("{name}: its proxy does not run; see `journalctl -u {UNIT}` there")
                    }
                }));
            }
            sleep(PACE).await;
        }
    }
}

impl Step for Proxy {
    fn id(&self) -> StepId {
        self.0.step(STEP)
    }

    fn title(&self) -> String {
        format!("start the proxy of {} as a transient unit", self.0.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![self.0.step(config::STEP)]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let look = self.0.shared.look_at_worker(cx, &self.0.host.name).await?;
            let why = match &look.status {
                Some(status) if status.usable => return Ok(Check::Done),
                Some(status) => {
                    format!("its proxy finds no apiserver that is ready: {}", status.reasons())
                }
                None if look.pods.keys().any(|generation| *generation >= FIRST_POD) => {
                    "its static pod does not answer: a transient unit serves meanwhile".to_owned()
                }
                None => "no proxy runs there".to_owned(),
            };
            Ok(Check::Needed(Change::new(why)))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.serve(cx).boxed()
    }
}
