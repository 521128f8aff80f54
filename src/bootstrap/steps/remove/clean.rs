//! What we put onto a host and take away again: nothing that others put there, and no backup.

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::paths;
use crate::bootstrap::steps::backup;
use crate::bootstrap::steps::certs::renew;
use crate::bootstrap::steps::control_plane::leave;
use crate::bootstrap::steps::documents::{
    Documents, ENCRYPTION, PATCHES, PROXY_CA, PROXY_CONFIG, PROXY_KUBECONFIG, UNIT,
};
use crate::bootstrap::steps::etcd::data::{Data, settle};
use crate::bootstrap::steps::etcd::paths::DATA;
use crate::bootstrap::steps::shared::etc_hosts;
use crate::bootstrap::transport::{Command, File};

/// Files of ours, beside those that kubeadm's reset removes.
const OURS: [&str; 10] = [
    paths::AUDIT_POLICY,
    paths::KUBEADM_CONFIG,
    ENCRYPTION,
    PROXY_CONFIG,
    PROXY_CA,
    PROXY_KUBECONFIG,
    paths::PROXY_CACHE,
    paths::PROXY_TMPFILES,
    paths::PROXY_USER,
    renew::MARKER,
];

/// Looks for what there is to take away; prints a line for each.
pub(super) fn look(stacked: bool) -> Command {
    let script = r#"for file; do if [ -e "$file" ]; then echo "$file"; fi; done"#;
    let kubeadm = ["kubelet.conf", "admin.conf", "manifests/kube-apiserver.yaml"];
    let kubeadm = kubeadm.into_iter().map(|file| format!("/etc/kubernetes/{file}"));
    let data = stacked.then(|| format!("{DATA}/member"));
    Command::script(script, kubeadm.chain(OURS.map(str::to_owned)).chain(data))
}

/// Takes a host out of Kubernetes and our files off it. Nobody is asked to remove its etcd member: that
/// was done before, or the whole cluster is given up. The data of the member become what is wished.
///
/// # Errors
/// The host cannot be reached, or kubeadm complains.
pub(super) async fn clean(
    cx: &Context,
    documents: &dyn Documents,
    name: &str,
    data: Data,
) -> Result<(), StepError> {
    backup::leave(cx, name).await?;
    leave::reset_keeping_data(cx, name).await?;
    settle(cx, name, data).await?;
    let transport = cx.host(name)?;
    // It is in the way of nothing if there is none.
    transport.run(&Command::new(["systemctl", "stop", UNIT])).await?;
    cx.run(name, &Command::new(["rm", "-f", "--"].into_iter().chain(OURS))).await?;
    cx.run(name, &Command::new(["rm", "-rf", "--", PATCHES])).await?;
    if let Some(found) = transport.read(etc_hosts::PATH).await? {
        let wanted = documents.hosts_without_ours(&found.content);
        if wanted != found.content {
            transport.write(&File::new(etc_hosts::PATH, wanted)).await?;
        }
    }
    Ok(())
}
