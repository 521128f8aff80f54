//! How a host registers as a Node.

use std::collections::BTreeMap;

use crate::bootstrap::render::{labels, paths};
use crate::bootstrap::spec::{Cluster, Host, Role};

use super::api::{Api, Args, NodeRegistration, NodeTaint};
use super::control_plane_taints;

pub(super) fn registration(api: Api, cluster: &Cluster, host: &Host) -> NodeRegistration {
    let mut flags = BTreeMap::from([("node-ip".to_owned(), host.address.to_string())]);
    let labels: Vec<_> = labels::of_kubelet(host)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if !labels.is_empty() {
        flags.insert("node-labels".to_owned(), labels.join(","));
    }
    NodeRegistration {
        name: host.name.clone(),
        cri_socket: paths::CRI_SOCKET,
        // Also without a registry: an image that is missing is then told by preflight.
        image_pull_policy: "IfNotPresent",
        kubelet_extra_args: Args { api, flags },
        taints: taints(cluster, host),
    }
}

/// None leaves them to kubeadm: a control plane gets its own, a worker none. A control plane that is a
/// worker too takes pods; one with taints of the spec keeps kubeadm's beside them.
fn taints(cluster: &Cluster, host: &Host) -> Option<Vec<NodeTaint>> {
    let control_plane = host.roles.contains(&Role::ControlPlane);
    let takes_pods = host.roles.contains(&Role::Worker);
    let given = host.taints.iter().map(|taint| NodeTaint {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: taint.effect.clone(),
    });
    match (control_plane, takes_pods) {
        (true, true) => Some(given.collect()),
        (true, false) if !host.taints.is_empty() => {
            let own = control_plane_taints(cluster.kubernetes_version).iter().map(|key| {
                let (value, effect) = (String::new(), "NoSchedule".to_owned());
                NodeTaint { key: (*key).to_owned(), value, effect }
            });
            let mut all: Vec<_> = own.collect();
            for taint in given {
                if !all.contains(&taint) {
                    all.push(taint);
                }
            }
            Some(all)
        }
        (false, _) if !host.taints.is_empty() => Some(given.collect()),
        _ => None,
    }
}
