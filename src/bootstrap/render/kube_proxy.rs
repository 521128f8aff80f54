//! kube-proxy's configuration: one for all nodes.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use crate::bootstrap::spec::Cluster;

use super::kubelet::Configuration;
use super::{RenderError, merge, yaml};

/// The `KubeProxyConfiguration`: a document of kubeadm's file, and what the `kube-proxy` `ConfigMap` of a
/// running cluster should hold. kubeadm adds pod addresses and the kubeconfig, which has the endpoint's
/// name: 127.0.0.1 on every node.
///
/// # Errors
/// If a setting cannot be written as YAML.
pub fn configuration(cluster: &Cluster) -> Result<String, RenderError> {
    let what = "KubeProxyConfiguration";
    let mut settings = Map::new();
    if cluster.monitoring.enabled {
        let any: SocketAddr = match cluster.network.pod_cidrs.first() {
            Some((ip, _)) if ip.is_ipv6() => (std::net::Ipv6Addr::UNSPECIFIED, 10249).into(),
            _ => (std::net::Ipv4Addr::UNSPECIFIED, 10249).into(),
        };
        settings.insert("metricsBindAddress".to_owned(), Value::from(any.to_string()));
    }
    merge::lay_over(&mut settings, &cluster.overrides.kube_proxy);
    let api_version = "kubeproxy.config.k8s.io/v1alpha1";
    yaml::document(what, &Configuration { api_version, kind: what, settings: &settings })
}

/// How services are balanced, if the overrides say: it decides which kernel modules are needed.
pub(super) fn mode(cluster: &Cluster) -> Option<&str> {
    cluster.overrides.kube_proxy.get("mode").and_then(Value::as_str)
}
