//! A node's kubelet is replaced while no pod depends on it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Upgrade;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Node};
use crate::bootstrap::spec::Host;
use crate::bootstrap::steps::remove;
use crate::bootstrap::steps::shared::PACE;
use crate::bootstrap::transport::Command;

/// How long the Node may take to be ready again.
const READY: Duration = Duration::from_mins(5);

/// Which Nodes were cordoned by us: a Node that an operator had cordoned stays so.
const CORDONED: &str = "apiproxy.io/cordoned-for-upgrade";

impl Upgrade {
    /// Is kubelet of this host at the target, ready, and open to pods again?
    pub(super) fn kubelet_is_new(&self, node: Option<&Node>) -> Result<(), String> {
        let node = node.ok_or("it has no Node")?;
        match node.kubelet {
            Some(version) if version == self.target() => {}
            Some(version) => return Err(format!("its kubelet is {version}")),
            None => return Err("its kubelet does not tell its version".to_owned()),
        }
        if node.labels.contains_key(CORDONED) {
            return Err("it is still cordoned for the upgrade".to_owned());
        }
        Ok(())
    }

    /// Drains the node, replaces kubelet, and lets pods come back.
    pub(super) async fn replace_kubelet(
        &self,
        cx: &Context,
        via: &str,
        host: &Host,
    ) -> Result<(), StepError> {
        let name = host.name.as_str();
        let api = Api::new(cx, via);
        let nodes = api.nodes().await?;
        let node = nodes.iter().find(|node| node.name == name);
        let node = node.ok_or_else(|| StepError::Unverified(format!("{name} has no Node")))?;
        if !node.cordoned {
            api.kubectl(["label", "node", name, "--overwrite", &format!("{CORDONED}=true")])
                .await?;
        }
        remove::drain(&api, node).await?;
        self.programs.kubelet(cx, name, self.target()).await?;
        cx.run(name, &Command::new(["systemctl", "daemon-reload"])).await?;
        cx.run(name, &Command::new(["systemctl", "restart", "kubelet.service"])).await?;
        self.ready(&api, name).await?;
        if !node.cordoned || node.labels.contains_key(CORDONED) {
            api.kubectl(["uncordon", name]).await?;
            api.kubectl(["label", "node", name, &format!("{CORDONED}-")]).await?;
        }
        Ok(())
    }

    async fn ready(&self, api: &Api<'_>, name: &str) -> Result<(), StepError> {
        let begun = Instant::now();
        loop {
            // The apiserver may be restarting.
            let nodes = api.nodes().await.unwrap_or_default();
            let node = nodes.iter().find(|node| node.name == name);
            if node.is_some_and(|node| node.ready && node.kubelet == Some(self.target())) {
                return Ok(());
            }
            if begun.elapsed() > READY {
                return Err(StepError::Unverified(format!(
                    "{name} stays cordoned: its Node is not ready with {} within {READY:?}; see `journalctl \
                     -u kubelet` there, and run the upgrade again",
                    self.target()
                )));
            }
            sleep(PACE).await;
        }
    }
}
