//! containerd: its configuration in the format of its version, and the mirror of Kubernetes' registry.

use serde_json::{Map, Value, json};

use crate::bootstrap::spec::{Artifacts, Cluster, Host, Version};
use crate::bootstrap::transport::File;

use super::kubeadm::{REGISTRY, registry};
use super::{RenderError, merge, paths};

/// The one plugin for Kubernetes in containerd 1.x; in 2.x only its streaming server is left in it.
const V1: &str = "io.containerd.grpc.v1.cri";

/// Images in containerd 2.x.
const V2_IMAGES: &str = "io.containerd.cri.v1.images";

/// Containers in containerd 2.x.
const V2_RUNTIME: &str = "io.containerd.cri.v1.runtime";

/// What containerd 2.x still reads in the old plugin.
const V2_STREAMING: &[&str] = &[
    "disable_tcp_service",
    "enable_tls_streaming",
    "stream_idle_timeout",
    "stream_server_address",
    "stream_server_port",
    "x509_key_pair_streaming",
];

/// A format of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Of containerd 1.3 and later; 2.x converts it.
    Version2,
    /// Of containerd 2.0 and later.
    Version3,
}

/// The image that holds a pod's namespaces, as kubeadm of this version pulls it: another one could be
/// collected as garbage, or be missing where there is no registry.
pub fn pause_image(cluster: &Cluster) -> String {
    let tag = match cluster.kubernetes_version.minor {
        ..=22 => "3.5",
        23 => "3.6",
        24 => "3.7",
        25 => "3.8",
        26..=30 => "3.9",
        31..=33 => "3.10",
        34..=35 => "3.10.1",
        _ => "3.10.2",
    };
    format!("{}/pause:{tag}", registry(cluster))
}

/// containerd's configuration on this host, which has containerd of this version.
///
/// Overrides that set the old plugin `io.containerd.grpc.v1.cri` have the whole file written in the
/// old format, which containerd 2.x converts.
///
/// # Errors
/// If the overrides name plugins that this containerd does not have, or have no form in TOML.
pub fn config(cluster: &Cluster, host: &Host, containerd: Version) -> Result<File, RenderError> {
    let mut over = cluster.overrides.containerd.clone();
    merge::lay_over(&mut over, &host.overrides.containerd);
    let format = format(host, containerd, &over)?;
    let mut settings = ours(format, &pause_image(cluster));
    if has_own_mirrors(&over) {
        // containerd refuses mirrors in the file beside a folder of mirrors.
        without_folder(&mut settings);
    }
    merge::lay_over(&mut settings, &over);
    let wrong = |reason: String| RenderError::Format { what: "containerd's configuration", reason };
    let table = toml::Table::try_from(&settings).map_err(|error| wrong(error.to_string()))?;
    let text = toml::to_string_pretty(&table).map_err(|error| wrong(error.to_string()))?;
    Ok(File::new(
        paths::CONTAINERD_CONFIG,
        format!(
            "# Written by apiproxy bootstrap: overrides.containerd of the spec is for changes.\n{text}"
        ),
    ))
}

/// Where containerd looks for `registry.k8s.io`: the spec's registry first. kubeadm's own images name
/// that registry anyway; this is for all others, such as those of a CNI. None without one.
pub fn mirror(cluster: &Cluster) -> Option<File> {
    let Artifacts::Packages { registry: Some(_), .. } = cluster.artifacts else {
        return None;
    };
    let registry = registry(cluster);
    let (url, path) = match registry.split_once('/') {
        // A path stands behind the API's version, and containerd must not add that again.
        Some((host, path)) => (format!("https://{host}/v2/{path}"), true),
        None => (format!("https://{registry}"), false),
    };
    let mut text = format!(
        "# Written by apiproxy bootstrap.\nserver = \"https://{REGISTRY}\"\n\n[host.{url}]\n\
         capabilities = [\"pull\", \"resolve\"]\n",
        url = toml::Value::from(url)
    );
    if path {
        text += "override_path = true\n";
    }
    Some(File::new(format!("{}/{REGISTRY}/hosts.toml", paths::CONTAINERD_REGISTRIES), text))
}

fn ours(format: Format, pause: &str) -> Map<String, Value> {
    let runc = json!({
        "runtimes": {
            "runc": {
                "runtime_type": "io.containerd.runc.v2",
                // As kubelet's cgroupDriver: systemd is to be the only one that writes cgroups.
                "options": { "SystemdCgroup": true },
            },
        },
    });
    let registry = json!({ "config_path": paths::CONTAINERD_REGISTRIES });
    let settings = match format {
        Format::Version2 => json!({
            "version": 2,
            "plugins": {
                V1: { "sandbox_image": pause, "containerd": runc, "registry": registry },
            },
        }),
        Format::Version3 => json!({
            "version": 3,
            "plugins": {
                V2_IMAGES: { "pinned_images": { "sandbox": pause }, "registry": registry },
                V2_RUNTIME: { "containerd": runc },
            },
        }),
    };
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

fn format(host: &Host, version: Version, over: &Map<String, Value>) -> Result<Format, RenderError> {
    let new = [V2_IMAGES, V2_RUNTIME].into_iter().find(|name| plugin(over, name).is_some());
    let old = plugin(over, V1).is_some_and(|settings| {
        settings.keys().any(|key| version.major < 2 || !V2_STREAMING.contains(&key.as_str()))
    });
    let refuse = |plugin: &str, remedy| {
        let (host, plugin) = (host.name.clone(), plugin.to_owned());
        Err(RenderError::Containerd { host, plugin, version, remedy })
    };
    match (version.major, new) {
        (..=1, Some(new)) => refuse(new, "use io.containerd.grpc.v1.cri for this host"),
        (..=1, None) => Ok(Format::Version2),
        (_, Some(_)) if old => {
            refuse(V1, "use io.containerd.cri.v1.runtime and io.containerd.cri.v1.images alone")
        }
        _ if old => Ok(Format::Version2),
        _ => Ok(Format::Version3),
    }
}

fn plugin<'a>(settings: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    settings.get("plugins")?.get(name)?.as_object()
}

fn has_own_mirrors(over: &Map<String, Value>) -> bool {
    [V1, V2_IMAGES].into_iter().any(|name| {
        let registry = plugin(over, name).and_then(|settings| settings.get("registry"));
        registry.is_some_and(|registry| {
            registry.get("mirrors").is_some() || registry.get("configs").is_some()
        })
    })
}

fn without_folder(settings: &mut Map<String, Value>) {
    let plugins = settings.get_mut("plugins").and_then(Value::as_object_mut);
    for plugin in plugins.into_iter().flat_map(Map::values_mut) {
        if let Some(plugin) = plugin.as_object_mut() {
            plugin.remove("registry");
        }
    }
}

#[cfg(test)]
mod tests;
