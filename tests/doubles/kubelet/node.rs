//! The Node of a kubelet, and the lease by which it says that it lives.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::flags::Line;
use crate::kubeconfig;
use crate::token::{date, now};
use crate::version::Version;

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// How often it says that it lives, as the real one does.
const BEAT: Duration = Duration::from_secs(10);

/// When it last did.
static LAST: Mutex<Option<Instant>> = Mutex::new(None);

/// The Node's name.
pub(super) fn name(line: &Line) -> String {
    let hostname = || {
        fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase()
    };
    line.get("hostname-override").map_or_else(hostname, str::to_owned)
}

/// Sees to it that the Node is there, and renews its lease and its status when it is time.
pub(super) fn register(line: &Line, name: &str, version: Version) -> Result<(), String> {
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if last.is_some_and(|last| last.elapsed() < BEAT) {
        return Ok(());
    }
    let api = kubeconfig::client(Path::new(line.need("kubeconfig")?))?;
    let path = format!("{NODES}/{name}");
    let mut node = match api.get(&path)? {
        Some(node) => node,
        None => api.done("POST", NODES, &object(line, name)?)?,
    };
    node["status"] = status(&api, line, &node, version)?;
    api.done("PUT", &format!("{path}/status"), &node)?;
    renew_lease(&api, name)?;
    forget_pods(&api, name)?;
    *last = Some(Instant::now());
    Ok(())
}

fn renew_lease(api: &Client, name: &str) -> Result<(), String> {
    let path = format!("{LEASES}/{name}");
    let renewed = date(now()).replace('Z', ".000000Z");
    let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed });
    if api.get(&path)?.is_some() {
        return api.done("PATCH", &path, &json!({ "spec": spec })).map(drop);
    }
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": name, "namespace": "kube-node-lease" }, "spec": spec,
    });
    api.done("POST", LEASES, &lease).map(drop)
}

/// Pods that are to go are gone at once: none of them ever ran.
fn forget_pods(api: &Client, name: &str) -> Result<(), String> {
    let pods = api.need(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{name}"))?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let metadata = &pod["metadata"];
        if let (Some(namespace), Some(name), false) = (
            metadata["namespace"].as_str(),
            metadata["name"].as_str(),
            metadata["deletionTimestamp"].is_null(),
        ) {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            api.done("DELETE", &path, &json!({ "gracePeriodSeconds": 0 }))?;
        }
    }
    Ok(())
}

fn object(line: &Line, name: &str) -> Result<Value, String> {
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
    });
    for label in line.list("node-labels") {
        let (key, value) =
            label.split_once('=').ok_or(format!("--node-labels: {label} has no value"))?;
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let reserved = domain.ends_with("kubernetes.io") || domain.ends_with("k8s.io");
        let free =
            ["kubelet.kubernetes.io", "node.kubernetes.io"].iter().any(|end| domain.ends_with(end))
                || [
                    "topology.kubernetes.io/region",
                    "topology.kubernetes.io/zone",
                    "kubernetes.io/hostname",
                    "kubernetes.io/os",
                    "kubernetes.io/arch",
                    "node.kubernetes.io/instance-type",
                ]
                .contains(&key);
        if reserved && !free {
            return Err(format!(
                "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{key}]"
            ));
        }
        labels[key] = json!(value);
    }
    let mut taints = Vec::new();
    for taint in line.list("register-with-taints") {
        let (rest, effect) = taint
            .rsplit_once(':')
            .ok_or(format!("--register-with-taints: {taint} has no effect"))?;
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        taints.push(json!({ "key": key, "value": value, "effect": effect }));
    }
    Ok(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints }, "status": {},
    }))
}

/// Pods have a network when a plugin is configured, or when something is meant to bring one: no pod of
/// a daemon set runs here.
fn has_network(api: &Client) -> bool {
    let configured = fs::read_dir("/etc/cni/net.d").is_ok_and(|files| {
        files
            .flatten()
            .any(|file| file.path().extension().is_some_and(|e| e == "conf" || e == "conflist"))
    });
    let Ok(daemons) = api.get("/apis/apps/v1/daemonsets") else {
        // A real apiserver does not tell nodes.
        return true;
    };
    let daemons = daemons.unwrap_or_default();
    let mut daemons = daemons["items"].as_array().into_iter().flatten();
    configured || daemons.any(|daemon| daemon["metadata"]["name"] != "kube-proxy")
}

fn status(api: &Client, line: &Line, node: &Value, version: Version) -> Result<Value, String> {
    let ready = if has_network(api) {
        ("True", "KubeletReady", "kubelet is posting ready status")
    } else {
        (
            "False",
            "KubeletNotReady",
            "container runtime network not ready: cni plugin not initialized",
        )
    };
    let conditions = node["status"]["conditions"].as_array();
    let old = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let since =
        old.filter(|old| old["status"] == ready.0).map(|old| old["lastTransitionTime"].clone());
    let address = match line.get("node-ip") {
        Some(address) => address.to_owned(),
        None => own_address()?,
    };
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    Ok(json!({
        "addresses": [{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": node["metadata"]["name"] }],
        "capacity": { "cpu": "2", "memory": "4Gi", "pods": "110" },
        "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "110" },
        "conditions": [{
            "type": "Ready", "status": ready.0, "reason": ready.1, "message": ready.2,
            "lastHeartbeatTime": date(now()), "lastTransitionTime": since.unwrap_or_else(|| json!(date(now()))),
        }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
        "nodeInfo": {
            "kubeletVersion": version.to_string(), "kubeProxyVersion": version.to_string(),
            "kernelVersion": text("/proc/sys/kernel/osrelease"), "machineID": text("/etc/machine-id"),
            "systemUUID": text("/etc/machine-id"), "bootID": text("/proc/sys/kernel/random/boot_id"),
            "osImage": "Debian GNU/Linux 12 (bookworm)", "containerRuntimeVersion": "containerd://1.6.20",
            "operatingSystem": "linux", "architecture": "amd64",
        },
    }))
}

/// The address that the default route goes out from; nothing is sent.
pub(crate) fn own_address() -> Result<String, String> {
    let told = |error: std::io::Error| format!("this host has no address: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(told)?;
    socket.connect("192.0.2.1:9").map_err(told)?;
    Ok(socket.local_addr().map_err(told)?.ip().to_string())
}
