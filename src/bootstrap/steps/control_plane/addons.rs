//! What a cluster needs once: its pod network, and the rights of the proxies.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::STEP;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, kubectl};
use crate::bootstrap::spec::{Cni, Host, Role};
use crate::bootstrap::steps::shared::{PACE, Shared};
use crate::bootstrap::transport::Output;

/// The name of the step after which a cluster has what it needs once.
pub const ADDONS: &str = "cni";

/// What `kubectl diff` ends with when something differs; with more when it failed.
const DIFFERS: i32 = 1;

/// How often a manifest is applied: what it says of kinds that it makes itself is understood when the
/// apiserver has learned them.
const TRIES: usize = 5;

/// Manifests that are applied through any control plane that serves.
#[derive(Clone, Debug)]
pub struct Addons {
    shared: Arc<Shared>,
    /// Under whose name it is planned: the first control plane of the file.
    host: String,
}

/// The step, if the cluster has a control plane.
pub(super) fn step(shared: &Arc<Shared>, first: &Host) -> Arc<dyn Step> {
    Arc::new(Addons { shared: shared.clone(), host: first.name.clone() })
}

impl Addons {
    async fn manifest(&self) -> Result<Vec<u8>, StepError> {
        let mut manifest = self.shared.documents.rights()?.into_bytes();
        if let Cni::Manifest(path) = &self.shared.cluster.network.cni {
            let network = tokio::fs::read(path).await.map_err(|error| StepError::Refused {
                reason: format!("{}: {error}", path.display()),
                remedy: "give the manifest of a pod network in `network.cni.manifest`".to_owned(),
            })?;
            manifest.extend_from_slice(b"\n---\n");
            manifest.extend(network);
        }
        Ok(manifest)
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let manifest = self.manifest().await?;
        let Some(via) = self.shared.serving(cx).await? else {
            return Ok(Check::After(StepId::new(&self.host, STEP)));
        };
        let command = kubectl(["diff", "--server-side", "--force-conflicts", "-f", "-"]);
        let output = cx.host(&via)?.run(&command.stdin(manifest)).await?;
        if output.ok() {
            return Ok(Check::Done);
        }
        if output.code == DIFFERS || cannot_be_compared(&output) {
            let why = "the pod network, or what the proxies may watch, is not as wished";
            return Ok(Check::Needed(Change::new(why)));
        }
        let (host, command) = (via, "kubectl diff -f -".to_owned());
        let (code, complaint) = (output.code, output.complaint());
        Err(StepError::Command { host, command, code, complaint })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let manifest = self.manifest().await?;
        let via = self.shared.through(cx).await?;
        let mut outcome = Api::new(cx, &via).apply(&manifest).await;
        for _ in 1..TRIES {
            if outcome.is_ok() {
                break;
            }
            sleep(PACE).await;
            outcome = Api::new(cx, &via).apply(&manifest).await;
        }
        outcome
    }
}

/// What lies in a namespace, or is of a kind, that the manifest itself makes.
fn cannot_be_compared(output: &Output) -> bool {
    let complaint = output.complaint();
    complaint.contains("not found") || complaint.contains("no matches for kind")
}

impl Step for Addons {
    fn id(&self) -> StepId {
        StepId::new(&self.host, ADDONS)
    }

    fn title(&self) -> String {
        "apply the pod network, and what the proxies may watch".to_owned()
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn follows(&self) -> Vec<StepId> {
        let control_planes = self.shared.cluster.with_role(Role::ControlPlane);
        control_planes.map(|host| StepId::new(&host.name, STEP)).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}
