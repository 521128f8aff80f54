//! Settings of components that win over ours, of the cluster or of a host.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Settings of components that win over ours.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Merged into the `KubeletConfiguration`.
    pub kubelet: Map<String, Value>,
    /// Merged into containerd's configuration (as TOML tables).
    pub containerd: Map<String, Value>,
    /// Flags of kube-apiserver, by name without dashes.
    pub api_server: BTreeMap<String, String>,
    /// Flags of kube-controller-manager.
    pub controller_manager: BTreeMap<String, String>,
    /// Flags of kube-scheduler.
    pub scheduler: BTreeMap<String, String>,
    /// Merged into the `KubeProxyConfiguration`.
    pub kube_proxy: Map<String, Value>,
    /// Flags of kubelet that its configuration has no field for, by name without dashes.
    pub kubelet_flags: BTreeMap<String, String>,
}

impl Overrides {
    /// These, and those of another host for components for which there are none.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let settings = |of: fn(&Self) -> &Map<String, Value>| {
            if of(self).is_empty() { of(other).clone() } else { of(self).clone() }
        };
        let flags = |of: fn(&Self) -> &BTreeMap<String, String>| {
            if of(self).is_empty() { of(other).clone() } else { of(self).clone() }
        };
        Self {
            kubelet: settings(|own| &own.kubelet),
            containerd: settings(|own| &own.containerd),
            api_server: flags(|own| &own.api_server),
            controller_manager: flags(|own| &own.controller_manager),
            scheduler: flags(|own| &own.scheduler),
            kube_proxy: settings(|own| &own.kube_proxy),
            kubelet_flags: flags(|own| &own.kubelet_flags),
        }
    }

    /// Those that there are as an entry of `hosts` has them: a key, and its value as JSON, which is
    /// YAML too.
    pub(super) fn entries(&self) -> Vec<(&'static str, String)> {
        let settings = |key, map: &Map<String, Value>| (key, json!(map), map.is_empty());
        let flags = |key, map: &BTreeMap<String, String>| {
            (key, json!({ "extraArgs": map }), map.is_empty())
        };
        let all = [
            settings("kubelet", &self.kubelet),
            settings("containerd", &self.containerd),
            flags("apiServer", &self.api_server),
            flags("controllerManager", &self.controller_manager),
            flags("scheduler", &self.scheduler),
            settings("kubeProxy", &self.kube_proxy),
            ("kubeletExtraArgs", json!(self.kubelet_flags), self.kubelet_flags.is_empty()),
        ];
        let given = all.into_iter().filter(|(_, _, is_empty)| !is_empty);
        given.map(|(key, value, _)| (key, value.to_string())).collect()
    }
}
