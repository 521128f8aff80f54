//! What Prometheus may ask of the cluster; taken away when nobody is to ask.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::RIGHTS;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, kubectl};
use crate::bootstrap::render::monitoring::{ROLE, rights};
use crate::bootstrap::spec::Role;
use crate::bootstrap::steps::control_plane::STEP as CONTROL_PLANE;
use crate::bootstrap::steps::control_plane::addons::ADDONS;
use crate::bootstrap::steps::shared::Shared;

/// What `kubectl diff` ends with when something differs.
const DIFFERS: i32 = 1;

/// The kinds of rights, and whether they lie in a namespace.
const KINDS: [(&str, bool); 4] = [
    ("clusterroles", false),
    ("clusterrolebindings", false),
    ("roles", true),
    ("rolebindings", true),
];

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Rights {
    pub(super) shared: Arc<Shared>,
    /// Under whose name it is planned: the first control plane of the file.
    pub(super) host: String,
}

impl Rights {
    /// What is there and should not be: kinds, each with its namespace.
    async fn strange(
        &self,
        cx: &Context,
        via: &str,
    ) -> Result<Vec<(&'static str, String)>, StepError> {
        let path = r#"jsonpath={range .items[*]}{.metadata.name} {.metadata.namespace}{"\n"}{end}"#;
        let label = format!("app.kubernetes.io/name={ROLE}");
        let monitoring = &self.shared.cluster.monitoring;
        let of_service = monitoring.kube_state_metrics.as_ref().filter(|_| monitoring.enabled);
        let of_service = of_service.map(|service| service.namespace.as_str());
        let mut strange = Vec::new();
        for (kind, namespaced) in KINDS {
            let words = ["get", kind, "--all-namespaces", "--selector", &label, "--output", path];
            let text = Api::new(cx, via).kubectl(words).await?.text();
            for line in text.lines() {
                let (_, namespace) = line.split_once(' ').unwrap_or((line, ""));
                let namespace = namespace.trim();
                let wanted =
                    if namespaced { of_service == Some(namespace) } else { monitoring.enabled };
                if !wanted {
                    strange.push((kind, namespace.to_owned()));
                }
            }
        }
        Ok(strange)
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let enabled = self.shared.cluster.monitoring.enabled;
        let Some(via) = self.shared.serving(cx).await? else {
            let after = Check::After(StepId::new(&self.host, CONTROL_PLANE));
            return Ok(if enabled { after } else { Check::Done });
        };
        if !self.strange(cx, &via).await?.is_empty() {
            return Ok(Check::Needed(Change::new("it may ask what it is not to ask any more")));
        }
        if !enabled {
            return Ok(Check::Done);
        }
        let command = kubectl(["diff", "--server-side", "--force-conflicts", "-f", "-"]);
        let manifest = rights(&self.shared.cluster);
        let output = cx.host(&via)?.run(&command.stdin(manifest)).await?;
        if output.ok() {
            return Ok(Check::Done);
        }
        if output.code == DIFFERS || output.complaint().contains("not found") {
            return Ok(Check::Needed(Change::new("Prometheus may not ask for metrics")));
        }
        let (host, command) = (via, "kubectl diff -f -".to_owned());
        let (code, complaint) = (output.code, output.complaint());
        Err(StepError::Command { host, command, code, complaint })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let via = self.shared.through(cx).await?;
        let api = Api::new(cx, &via);
        for (kind, namespace) in self.strange(cx, &via).await? {
            let words = ["delete", kind, ROLE, "--ignore-not-found"].map(str::to_owned);
            let of = (!namespace.is_empty()).then(|| format!("--namespace={namespace}"));
            api.kubectl(words.into_iter().chain(of)).await?;
        }
        if self.shared.cluster.monitoring.enabled {
            api.apply(rights(&self.shared.cluster).as_bytes()).await?;
        }
        Ok(())
    }
}

impl Step for Rights {
    fn id(&self) -> StepId {
        StepId::new(&self.host, RIGHTS)
    }

    fn title(&self) -> String {
        "say what Prometheus may ask of the cluster".to_owned()
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn follows(&self) -> Vec<StepId> {
        let planes = self.shared.cluster.with_role(Role::ControlPlane);
        let planes = planes.map(|host| StepId::new(&host.name, CONTROL_PLANE));
        planes.chain([StepId::new(&self.host, ADDONS)]).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}
