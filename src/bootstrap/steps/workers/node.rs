//! A worker joins: kubelet's only way to the cluster is the proxy of its own host.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::look::{Look, MARKER};
use super::{Worker, proxy};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, Node};
use crate::bootstrap::steps::control_plane::{LOOPBACK, leave};
use crate::bootstrap::steps::shared::PACE;
use crate::bootstrap::transport::{Command, File};

/// The name of the step.
pub const STEP: &str = "node";

/// How long kubelet may take to register its Node.
const REGISTERED: Duration = Duration::from_secs(90);

/// How long a kubeadm of an earlier run may go on.
const BUSY: Duration = Duration::from_mins(12);

/// The worker is a Node of the cluster.
#[derive(Clone, Debug)]
pub struct Join(pub(super) Worker);

/// What is to be done, by what a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Nothing but the endpoint's name, perhaps.
    Stay,
    /// kubelet knows the cluster, and the cluster has no Node of it: it registers when it starts.
    Restart,
    /// An earlier `kubeadm join` was stopped half way.
    Again,
    /// It is in no cluster.
    Join,
    /// It belongs to a cluster that is not this one.
    Foreign,
}

fn way(look: &Look, registered: bool, authority: &str) -> Way {
    let ours = || look.ca.as_deref().is_none_or(|ca| ca == authority.trim());
    match (look.begun, look.kubelet) {
        (_, true) if registered && !look.busy => Way::Stay,
        (true, _) => Way::Again,
        (false, false) => Way::Join,
        (false, true) if ours() => Way::Restart,
        (false, true) => Way::Foreign,
    }
}

impl Join {
    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let Worker { shared, host } = &self.0;
        let look = shared.look_at_worker(cx, &host.name).await?;
        let Some(nodes) = shared.nodes(cx).await? else {
            return Ok(Check::After(self.0.first_control_plane()));
        };
        if look.busy {
            return Ok(Check::Needed(Change::new("kubeadm is still at work there")));
        }
        let via = shared.through(cx).await?;
        let authority = shared.authority(cx, &via).await?;
        let why = match way(&look, is_there(&nodes, &host.name), &authority) {
            Way::Stay if look.endpoint != Some(LOOPBACK) => {
                let name = &shared.cluster.endpoint.name;
                format!("{name} does not lead to {LOOPBACK} in its /etc/hosts")
            }
            Way::Stay if look.begun => "what an earlier run began is not checked yet".to_owned(),
            Way::Stay => return Ok(Check::Done),
            Way::Restart => "the cluster has no Node of it: kubelet is restarted".to_owned(),
            Way::Again => "`kubeadm join` was stopped half way: reset, and joined anew".to_owned(),
            Way::Join => "it is not in the cluster".to_owned(),
            Way::Foreign => return Err(self.foreign()),
        };
        Ok(Check::Needed(Change::new(why)))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let Worker { shared, host } = &self.0;
        let name = &host.name;
        let look = self.at_rest(cx).await?;
        let via = shared.through(cx).await?;
        let authority = shared.authority(cx, &via).await?;
        let nodes = Api::new(cx, &via).nodes().await?;
        let registered = is_there(&nodes, name);
        shared.point_endpoint(cx, host, LOOPBACK).await?;
        match way(&look, registered, &authority) {
            Way::Stay => {
                cx.run(name, &Command::new(["rm", "-f", "--", MARKER])).await?;
                return Ok(());
            }
            Way::Foreign => return Err(self.foreign()),
            Way::Join => {}
            Way::Restart => {
                cx.run(name, &Command::new(["systemctl", "restart", "kubelet.service"])).await?;
                if self.registered(cx, &via).await.is_ok() {
                    return Ok(());
                }
                self.reset(cx).await?;
            }
            Way::Again => self.reset(cx).await?,
        }
        if nodes.iter().any(|node| node.name == *name && !node.ready) {
            // Of a machine that was here before: kubelet would find itself registered already.
            Api::new(cx, &via).kubectl(["delete", "node", name, "--ignore-not-found"]).await?;
        }
        let ticket = shared.ticket(cx, &via).await?;
        cx.host(name)?.write(&File::new(MARKER, "join")).await?;
        for file in shared.documents.beside(&shared.cluster, host)? {
            cx.host(name)?.write(&file).await?;
        }
        let endpoint = &shared.cluster.endpoint;
        let server = format!("{}:{}", endpoint.name, endpoint.port);
        shared.join(cx, name, server, &ticket, None).await?;
        self.registered(cx, &via).await?;
        cx.run(name, &Command::new(["rm", "-f", "--", MARKER])).await.map(drop)
    }

    /// kubeadm's reset takes the static pod of the proxy as well.
    async fn reset(&self, cx: &Context) -> Result<(), StepError> {
        leave::reset(cx, &self.0.host.name).await?;
        self.0.serve(cx).await
    }

    async fn at_rest(&self, cx: &Context) -> Result<Arc<Look>, StepError> {
        let name = &self.0.host.name;
        let begun = Instant::now();
        loop {
            let look = self.0.shared.look_at_worker(cx, name).await?;
            if !look.busy {
                return Ok(look);
            }
            if begun.elapsed() > BUSY {
                return Err(StepError::Refused {
                    reason: format!("kubeadm has been at work on {name} for {BUSY:?}"),
                    remedy: "see what it waits for, end it, and run `apply` again".to_owned(),
                });
            }
            sleep(PACE).await;
            self.0.shared.changed(name);
        }
    }

    async fn registered(&self, cx: &Context, via: &str) -> Result<(), StepError> {
        let name = &self.0.host.name;
        let begun = Instant::now();
        while !is_there(&Api::new(cx, via).nodes().await?, name) {
            if begun.elapsed() > REGISTERED {
                return Err(StepError::Unverified(format!(
                    "{name}: kubelet has registered no Node within {REGISTERED:?}; see `journalctl -u \
                     kubelet` there"
                )));
            }
            sleep(PACE).await;
        }
        Ok(())
    }

    fn foreign(&self) -> StepError {
        StepError::Refused {
            reason: format!("{} is a node of another cluster", self.0.host.name),
            remedy: "if that is not needed any more, run `kubeadm reset -f` on it and try again"
                .into(),
        }
    }
}

fn is_there(nodes: &[Node], name: &str) -> bool {
    nodes.iter().any(|node| node.name == name)
}

impl Step for Join {
    fn id(&self) -> StepId {
        self.0.step(STEP)
    }

    fn title(&self) -> String {
        format!("join {} as a worker", self.0.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![self.0.step(proxy::STEP)]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            self.0.shared.changed(&self.0.host.name);
            let outcome = self.make(cx).await;
            self.0.shared.changed(&self.0.host.name);
            outcome
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_is_touched() {
        let look = |begun, kubelet, ca: Option<&str>| Look {
            begun,
            kubelet,
            ca: ca.map(str::to_owned),
            ..Look::default()
        };
        let ours = "ours\n";
        assert_eq!(way(&look(false, false, None), false, ours), Way::Join);
        assert_eq!(way(&look(true, false, None), false, ours), Way::Again);
        assert_eq!(way(&look(true, true, Some("ours")), false, ours), Way::Again);
        assert_eq!(way(&look(true, true, Some("ours")), true, ours), Way::Stay);
        assert_eq!(way(&look(false, true, Some("ours")), true, ours), Way::Stay);
        assert_eq!(way(&look(false, true, Some("ours")), false, ours), Way::Restart);
        assert_eq!(way(&look(false, true, Some("other")), false, ours), Way::Foreign);
        // The Node of this name in our cluster is another machine's.
        assert_eq!(way(&look(false, false, None), true, ours), Way::Join);
    }
}
