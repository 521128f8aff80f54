//! Settings of one host over those of the cluster: patches that kubeadm applies there.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bootstrap::spec::{Cluster, Host, Role, Version};
use crate::bootstrap::transport::File;

use super::{RenderError, paths, yaml};

/// Since when kubeadm patches kubelet's configuration.
const KUBELET_PATCHES: Version = Version::new(1, 25, 0);

/// One operation of RFC 6902 (JSON Patch).
#[derive(Serialize)]
struct Operation {
    op: &'static str,
    path: &'static str,
    value: String,
}

/// The patches of a host, in [`paths::PATCHES`]; none if it has no settings of its own. `kubeadm
/// upgrade` has to be told of the folder with `--patches`.
///
/// # Errors
/// If a setting cannot be one host's alone: kube-proxy's never, kubelet's not before Kubernetes 1.25.
pub fn of(cluster: &Cluster, host: &Host) -> Result<Vec<File>, RenderError> {
    let mut files = Vec::new();
    let refuse = |setting, why: String, remedy| {
        let host = host.name.clone();
        Err(RenderError::HostSetting { host, setting, why, remedy })
    };
    let overrides = &host.overrides;
    if !overrides.kube_proxy.is_empty() {
        return refuse(
            "kubeProxy",
            "(all share one ConfigMap)".to_owned(),
            "move it to spec.kubeProxy",
        );
    }
    if !overrides.kubelet.is_empty() {
        if cluster.kubernetes_version < KUBELET_PATCHES {
            let why = format!("before Kubernetes v1.25 (this is {})", cluster.kubernetes_version);
            return refuse("kubelet", why, "move it to spec.kubelet, or use kubeletFlags");
        }
        let text = yaml::document("kubelet", &overrides.kubelet)?;
        files.push(file("kubeletconfiguration+merge.yaml", text));
    }
    if host.roles.contains(&Role::ControlPlane) {
        for (component, flags) in [
            ("kube-apiserver", &overrides.api_server),
            ("kube-controller-manager", &overrides.controller_manager),
            ("kube-scheduler", &overrides.scheduler),
        ] {
            if !flags.is_empty() {
                let text = yaml::document("flags", &append(flags))?;
                files.push(file(&format!("{component}+json.yaml"), text));
            }
        }
    }
    Ok(files)
}

/// Of a flag that is given twice the last one counts; those that are lists or mappings add up.
fn append(flags: &BTreeMap<String, String>) -> Vec<Operation> {
    let operation = |(name, value): (&String, &String)| Operation {
        op: "add",
        path: "/spec/containers/0/command/-",
        value: format!("--{name}={value}"),
    };
    flags.iter().map(operation).collect()
}

fn file(name: &str, text: String) -> File {
    File::new(format!("{}/{name}", paths::PATCHES), text)
}
