//! A control plane is upgraded: kubeadm first, then the static pods, then kubelet.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Upgrade;
use crate::bootstrap::engine::{self, Change, Check, Context, Disruption, Lane, StepError, StepId};
use crate::bootstrap::kubernetes::Api;
use crate::bootstrap::spec::{Host, Role, Version};
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::workers;
use crate::bootstrap::transport::Command;

/// The name of the step.
pub(super) const STEP: &str = "upgrade-control-plane";

/// kubeadm pulls images and waits for each static pod.
const KUBEADM: Duration = Duration::from_mins(20);

/// The version of a control plane's apiserver.
pub(super) async fn version(
    shared: &Shared,
    cx: &Context,
    host: &Host,
) -> Result<Version, StepError> {
    let server = SocketAddr::new(host.address, shared.cluster.endpoint.port);
    Api::new(cx, &host.name).version(server).await
}

/// One control plane.
#[derive(Clone, Debug)]
pub(super) struct Step {
    upgrade: Upgrade,
    host: Host,
    before: Option<String>,
}

impl Step {
    pub(super) fn new(upgrade: &Upgrade, host: &Host, before: Option<String>) -> Self {
        Self { upgrade: upgrade.clone(), host: host.clone(), before }
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let (shared, target) = (&self.upgrade.shared, self.upgrade.target());
        let version = version(shared, cx, &self.host).await?;
        if version != target {
            return Ok(Check::Needed(Change::new(format!(
                "its control plane is {version}, not {target}"
            ))));
        }
        let nodes = Api::new(cx, &self.host.name).nodes().await?;
        let node = nodes.iter().find(|node| node.name == self.host.name);
        Ok(match self.upgrade.kubelet_is_new(node) {
            Ok(()) => Check::Done,
            Err(why) => Check::Needed(Change::new(why)),
        })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let (shared, target) = (&self.upgrade.shared, self.upgrade.target());
        let name = self.host.name.as_str();
        if version(shared, cx, &self.host).await? != target {
            self.upgrade.programs.kubeadm(cx, name, target).await?;
            let words = if self.configured(cx).await? == Some(target) {
                vec!["kubeadm".to_owned(), "upgrade".to_owned(), "node".to_owned()]
            } else {
                let words = ["kubeadm", "upgrade", "apply", "--yes"].map(str::to_owned);
                words.into_iter().chain([target.to_string()]).collect()
            };
            let words = words.into_iter().chain(self.upgrade.patches(&self.host)?);
            cx.run(name, &Command::new(words).timeout(KUBEADM)).await?;
            shared.changed(name);
        }
        self.upgrade.replace_kubelet(cx, name, &self.host).await
    }

    /// The version that the cluster's own configuration has: the target from the first on.
    async fn configured(&self, cx: &Context) -> Result<Option<Version>, StepError> {
        let path = "--output=jsonpath={.data.ClusterConfiguration}";
        let words = ["get", "configmap", "--namespace", "kube-system", "kubeadm-config", path];
        let text = Api::new(cx, &self.host.name).kubectl(words).await?.text();
        let line = text.lines().find_map(|line| line.strip_prefix("kubernetesVersion:"));
        Ok(line.and_then(|version| version.trim().trim_matches('"').parse().ok()))
    }
}

impl engine::Step for Step {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("upgrade the control plane {} to {}", self.host.name, self.upgrade.target())
    }

    fn needs(&self) -> Vec<StepId> {
        self.before.iter().map(|name| StepId::new(name, STEP)).collect()
    }

    /// The proxies first: they are what bridges the restart of an apiserver.
    fn follows(&self) -> Vec<StepId> {
        let workers = self.upgrade.shared.cluster.with_role(Role::Worker);
        let workers = workers.filter(|host| !host.roles.contains(&Role::ControlPlane));
        let proxies = workers.map(|host| StepId::new(&host.name, workers::static_pod::STEP));
        proxies.chain([StepId::new(&self.host.name, "prepared")]).collect()
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(Disruption::ApiServer)
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.make(cx).boxed()
    }
}
