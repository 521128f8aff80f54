//! What makes a host a node: kubelet's files, its service, and the marks on its Node.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::config::{Cluster, Node};
use super::manifests;
use super::objects;
use crate::client::Client;
use crate::flags::Line;
use crate::pki;
use crate::schema::Document;
use crate::version::Version;

/// How long kubelet and static pods may take to come up.
const PATIENCE: Duration = Duration::from_mins(4);

/// The configuration of all kubelets of a cluster, with what kubeadm sets.
pub(super) fn kubelet_configuration(documents: &[Document], cluster: &Cluster) -> Value {
    let mut document = super::config::component(
        documents,
        "KubeletConfiguration",
        "kubelet.config.k8s.io/v1beta1",
    );
    let dns = cluster.service_address();
    let dns =
        dns.rsplit_once('.').map_or_else(|| format!("{dns}0a"), |(start, _)| format!("{start}.10"));
    let defaults = json!({
        "authentication": {
            "anonymous": { "enabled": false }, "webhook": { "enabled": true, "cacheTTL": "0s" },
            "x509": { "clientCAFile": "/etc/kubernetes/pki/ca.crt" },
        },
        "authorization": { "mode": "Webhook" },
        "clusterDNS": [dns], "clusterDomain": "cluster.local",
        "healthzBindAddress": "127.0.0.1", "healthzPort": 10248, "rotateCertificates": true,
        "staticPodPath": manifests::FOLDER, "cgroupDriver": "systemd",
    });
    for (key, value) in defaults.as_object().into_iter().flatten() {
        if document[key].is_null() {
            document[key] = value.clone();
        }
    }
    document
}

/// Writes kubelet's files and starts it.
pub(super) fn start_kubelet(
    node: &Node,
    configuration: &Value,
    own: Version,
) -> Result<(), String> {
    let mut configuration = configuration.clone();
    let mut flags = node.arguments.clone();
    flags.push(("hostname-override".to_owned(), node.name.clone()));
    if own.minor >= 35 {
        configuration["containerRuntimeEndpoint"] = json!(node.socket);
    } else {
        flags.push(("container-runtime-endpoint".to_owned(), node.socket.clone()));
    }
    for taint in node.taints.iter().flatten() {
        let text = |name: &str| taint[name].as_str().unwrap_or_default();
        flags.push((
            "register-with-taints".to_owned(),
            format!("{}={}:{}", text("key"), text("value"), text("effect")),
        ));
    }
    manifests::patched("kubeletconfiguration", &mut configuration, node)?;
    pki::write(
        Path::new("/var/lib/kubelet/config.yaml"),
        crate::schema::text(&configuration).as_bytes(),
        0o644,
    )?;
    let flags: Vec<_> = flags.iter().map(|(name, value)| format!("--{name}={value}")).collect();
    let text = format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", flags.join(" "));
    pki::write(Path::new("/var/lib/kubelet/kubeadm-flags.env"), text.as_bytes(), 0o644)?;
    let status = Command::new("systemctl").args(["restart", "kubelet"]).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(
            "[kubelet-start] kubelet cannot be started: see `systemctl status kubelet`".to_owned()
        );
    }
    Ok(())
}

/// Waits for something.
pub(super) fn wait<T>(
    what: &str,
    mut try_it: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match try_it() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > end => {
                return Err(format!("timed out waiting for {what}: {error}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    }
}

/// Marks the Node as one of the control plane, and notes its container runtime.
pub(super) fn mark(api: &Client, node: &Node, control_plane: bool) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{}", node.name);
    let current = wait("the Node", || api.need(&path))?;
    let mut change = json!({ "metadata": { "annotations": { "kubeadm.alpha.kubernetes.io/cri-socket": node.socket } } });
    if control_plane {
        change["metadata"]["labels"] = json!({
            "node-role.kubernetes.io/control-plane": "", "node.kubernetes.io/exclude-from-external-load-balancers": "",
        });
        let own = json!({ "key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule" });
        let mut taints = current["spec"]["taints"].as_array().cloned().unwrap_or_default();
        for taint in node.taints.clone().unwrap_or_else(|| vec![own]) {
            if !taints
                .iter()
                .any(|other| other["key"] == taint["key"] && other["effect"] == taint["effect"])
            {
                taints.push(taint);
            }
        }
        change["spec"] = json!({ "taints": taints });
    }
    api.done("PATCH", &path, &change).map(drop)
}

/// This cluster and this control plane, as they are stored.
pub(super) fn stored(
    line: &Line,
    documents: Option<&[Document]>,
) -> Result<(Cluster, Node), String> {
    let own = Version::own();
    let hostname =
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    let cluster = match documents {
        Some(documents) => Cluster::read(documents, own)?,
        None => of_cluster(&super::admin(line)?, own)?,
    };
    let apiserver = fs::read_to_string(format!("{}/kube-apiserver.yaml", manifests::FOLDER))
        .unwrap_or_default();
    let pod = crate::schema::yaml(&apiserver)?.into_iter().next().unwrap_or_default();
    let flag = |name: &str| {
        let words = pod["spec"]["containers"][0]["command"].as_array().into_iter().flatten();
        words
            .filter_map(Value::as_str)
            .find_map(|word| word.strip_prefix(&format!("--{name}=")).map(str::to_owned))
    };
    let address = flag("advertise-address").map_or_else(crate::kubelet::own_address, Ok)?;
    let port = flag("secure-port").and_then(|port| port.parse().ok()).unwrap_or(6443);
    let patches = line.get("patches").map(str::to_owned);
    Ok((cluster, Node { name: hostname, address, port, patches, ..Node::default() }))
}

/// The cluster as it says of itself; its version may be one that this kubeadm does not deploy.
pub(super) fn of_cluster(api: &Client, own: Version) -> Result<Cluster, String> {
    let mut document = objects::stored(api, "kubeadm-config", "ClusterConfiguration")?;
    let version = document["kubernetesVersion"]
        .as_str()
        .and_then(Version::parse)
        .ok_or("the cluster has no version")?;
    document["kubernetesVersion"] = Value::Null;
    let documents = [Document { kind: "ClusterConfiguration".to_owned(), value: document }];
    let mut cluster = Cluster::read(&documents, own)?;
    cluster.version = version;
    Ok(cluster)
}
