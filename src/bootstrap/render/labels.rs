//! Labels of a Node: which kubelet may give itself, and which an administrator has to.

use std::collections::BTreeMap;

use crate::bootstrap::spec::Host;

/// The failure domain of a Node.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Labels under `kubernetes.io` that kubelet may set on its own Node (kubelet's `IsKubeletLabel`).
const OWN: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    ZONE,
];

/// Prefixes under which it may set any label, with what ends in a dot and one of them.
const OWN_PREFIXES: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// All labels that the host's Node is to have: the spec's, and its zone.
pub fn all(host: &Host) -> BTreeMap<String, String> {
    let mut labels = host.labels.clone();
    if let Some(zone) = &host.zone {
        labels.entry(ZONE.to_owned()).or_insert_with(|| zone.clone());
    }
    labels
}

/// Those that kubelet gives its Node when it registers. With any other label under `kubernetes.io`
/// or `k8s.io` it refuses to start.
pub fn of_kubelet(host: &Host) -> BTreeMap<String, String> {
    let mut labels = all(host);
    labels.retain(|label, _| may_kubelet(label));
    labels
}

/// Those that an administrator gives it after it has joined, such as `node-role.kubernetes.io/gpu`.
pub fn of_administrator(host: &Host) -> BTreeMap<String, String> {
    let mut labels = all(host);
    labels.retain(|label, _| !may_kubelet(label));
    labels
}

fn may_kubelet(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else {
        return true;
    };
    let within = |domain: &str| {
        prefix.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN.contains(&label) || OWN_PREFIXES.iter().copied().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelet_may_not_raise_itself() {
        for label in [
            "disk",
            "example.com/disk",
            "notkubernetes.io/a",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/exclude-from-external-load-balancers",
            "team.node.kubernetes.io/a",
            "kubelet.kubernetes.io/a",
        ] {
            assert!(may_kubelet(label), "{label}");
        }
        for label in [
            "node-role.kubernetes.io/worker",
            "node-restriction.kubernetes.io/pci",
            "kubernetes.io/role",
            "topology.kubernetes.io/rack",
            "x.k8s.io/a",
            "k8s.io/a",
        ] {
            assert!(!may_kubelet(label), "{label}");
        }
    }
}
