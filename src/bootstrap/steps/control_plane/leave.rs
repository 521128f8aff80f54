//! How a host is taken out: the cluster forgets it, and kubeadm's files go.

use std::sync::Arc;
use std::time::Duration;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::Api;
use crate::bootstrap::render::paths;
use crate::bootstrap::spec::{Host, Topology};
use crate::bootstrap::steps::shared::Shared;
use crate::bootstrap::steps::workers::look as worker;
use crate::bootstrap::transport::Command;

use super::look::MARKER;

/// `kubeadm reset` stops all pods of the host first.
const RESET: Duration = Duration::from_mins(5);

/// Takes away what the cluster knows of a host that is about to join anew: its etcd member first, so
/// that its ghost has no vote, then its Node. Nothing happens if it knows nothing.
///
/// # Errors
/// The quorum would break, or the control plane cannot be reached.
pub async fn forget(
    shared: &Arc<Shared>,
    cx: &Context,
    via: &str,
    host: &Host,
) -> Result<(), StepError> {
    let api = Api::new(cx, via);
    if shared.cluster.topology == Topology::Stacked {
        let members = api.members().await?;
        let ghosts = members.iter().filter(|member| member.is_of(&host.name, host.address));
        for ghost in ghosts {
            api.remove_member(&members, ghost.id).await?;
        }
    }
    api.kubectl(["delete", "node", host.name.as_str(), "--ignore-not-found"]).await.map(drop)
}

/// `kubeadm reset`, and with it the markers of what was begun.
///
/// # Errors
/// The host cannot be reached, or kubeadm complains.
pub async fn reset(cx: &Context, name: &str) -> Result<(), StepError> {
    run(cx, name, &[]).await
}

/// The same, but an etcd member is not removed from its cluster, and its data stay.
///
/// # Errors
/// The host cannot be reached, or kubeadm complains.
pub async fn reset_keeping_data(cx: &Context, name: &str) -> Result<(), StepError> {
    run(cx, name, &["--skip-phases", "remove-etcd-member"]).await
}

async fn run(cx: &Context, name: &str, more: &[&str]) -> Result<(), StepError> {
    let words = ["kubeadm", "reset", "--force", "--cri-socket", paths::CRI_SOCKET];
    let command = Command::new(words.iter().chain(more).copied()).timeout(RESET);
    cx.run(name, &command).await?;
    cx.run(name, &Command::new(["rm", "-f", "--", MARKER, worker::MARKER])).await.map(drop)
}
