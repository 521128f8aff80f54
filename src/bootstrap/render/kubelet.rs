//! kubelet: its configuration for the whole cluster, and its flags on one host.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::File;

use super::{RenderError, merge, paths, yaml};

/// A component's configuration: its settings in the order of their names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration<'a> {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) settings: &'a Map<String, Value>,
}

/// What we set; kubeadm adds the cluster's DNS, CA, authentication and the folder of static pods.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ours<'a> {
    /// Hosts run systemd, which has to be the only one that writes cgroups.
    cgroup_driver: &'static str,
    cluster_domain: &'a str,
    /// The client certificate is renewed before it ends.
    rotate_certificates: bool,
    /// When the machine shuts down, pods have so long to end, ..
    shutdown_grace_period: &'static str,
    /// .. the last of it for critical ones. All versions since 1.22 have both by default.
    shutdown_grace_period_critical_pods: &'static str,
}

/// The `KubeletConfiguration` of the whole cluster: a document of kubeadm's file, and what the
/// `kubelet-config` `ConfigMap` of a running cluster should hold.
///
/// # Errors
/// If a setting cannot be written as YAML.
pub fn configuration(cluster: &Cluster) -> Result<String, RenderError> {
    let what = "KubeletConfiguration";
    let ours = Ours {
        cgroup_driver: "systemd",
        cluster_domain: &cluster.network.dns_domain,
        rotate_certificates: true,
        shutdown_grace_period: "30s",
        shutdown_grace_period_critical_pods: "10s",
    };
    let mut settings = mapping(what, &ours)?;
    merge::lay_over(&mut settings, &cluster.overrides.kubelet);
    let api_version = "kubelet.config.k8s.io/v1beta1";
    yaml::document(what, &Configuration { api_version, kind: what, settings: &settings })
}

pub(super) fn mapping<T: Serialize>(
    what: &'static str,
    value: &T,
) -> Result<Map<String, Value>, RenderError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(RenderError::Format { what, reason: "it is no mapping".to_owned() }),
        Err(error) => Err(RenderError::Format { what, reason: error.to_string() }),
    }
}

/// The flags that the spec gives kubelet on this host, the host's over the cluster's.
pub fn flags(cluster: &Cluster, host: &Host) -> BTreeMap<String, String> {
    merge::flags([&cluster.overrides.kubelet_flags, &host.overrides.kubelet_flags])
}

/// What gives kubelet those flags: an environment file, and a drop-in of its unit that has it read.
/// The file stands last, so that it wins over `/etc/default/kubelet`, which Debian's package brings
/// with an empty `KUBELET_EXTRA_ARGS`. Empty when there are no flags.
///
/// # Errors
/// If a flag has a character that an environment file cannot hold.
pub fn drop_in(cluster: &Cluster, host: &Host) -> Result<Vec<File>, RenderError> {
    let flags = flags(cluster, host);
    if flags.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    for (name, value) in &flags {
        let word = format!("--{name}={value}");
        let unfit = |c: char| c.is_whitespace() || c.is_control() || "'\"\\".contains(c);
        if word.contains(unfit) {
            return Err(RenderError::Flag { host: host.name.clone(), flag: name.clone() });
        }
        words.push(word);
    }
    let drop_in = format!(
        "# Written by apiproxy bootstrap.\n[Service]\nEnvironmentFile={}\n",
        paths::KUBELET_ENVIRONMENT
    );
    let environment =
        format!("# Written by apiproxy bootstrap.\nKUBELET_EXTRA_ARGS='{}'\n", words.join(" "));
    Ok(vec![
        File::new(paths::KUBELET_ENVIRONMENT, environment),
        File::new(paths::KUBELET_DROP_IN, drop_in),
    ])
}
