//! What we put onto a host and take away again: nothing that others put there, and no backup.

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::steps::control_plane::leave;
use crate::bootstrap::steps::documents::{
    Documents, ENCRYPTION, PATCHES, PROXY_CA, PROXY_CONFIG, PROXY_KUBECONFIG, UNIT,
};
use crate::bootstrap::steps::shared::etc_hosts;
use crate::bootstrap::transport::{Command, File};

/// Files of ours, beside those that kubeadm's reset removes.
const OURS: [&str; 8] = [
    "/etc/kubernetes/audit/policy.yaml",
    "/etc/kubernetes/kubeadm.yaml",
    ENCRYPTION,
    PROXY_CONFIG,
    PROXY_CA,
    PROXY_KUBECONFIG,
    "/var/lib/apiproxy/endpoints.json",
    "/etc/tmpfiles.d/apiproxy.conf",
];

/// Looks for what there is to take away; prints a line for each.
pub(super) fn look() -> Command {
    let script = r#"for file; do if [ -e "$file" ]; then echo "$file"; fi; done"#;
    let kubeadm = ["kubelet.conf", "admin.conf", "manifests/kube-apiserver.yaml"];
    let kubeadm = kubeadm.into_iter().map(|file| format!("/etc/kubernetes/{file}"));
    Command::script(script, kubeadm.chain(OURS.map(str::to_owned)))
}

/// Takes the host out of Kubernetes and our files off it.
///
/// # Errors
/// The host cannot be reached, or kubeadm complains.
pub(super) async fn clean(
    cx: &Context,
    documents: &dyn Documents,
    name: &str,
) -> Result<(), StepError> {
    leave::reset(cx, name).await?;
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
