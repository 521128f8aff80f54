//! `kubeadm join`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::certificates::{self, PKI};
use super::config::{self, Cluster, Etcd, Join, Node};
use super::manifests;
use super::node::{self, wait};
use super::objects;
use super::preflight::Preflight;
use crate::client::Client;
use crate::etcd;
use crate::flags::Line;
use crate::kubeconfig::{self, Identity};
use crate::pki;
use crate::version::Version;

pub(super) const FLAGS: &[&str] = &["config", "ignore-preflight-errors"];

const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";

pub(super) fn run(line: &Line) -> Result<(), String> {
    let own = Version::own();
    let documents = super::read(line.need("config")?, own)?;
    let join = config::join(&documents)?;
    let node = &join.node;
    if let Some(phase) = node.skipped.first() {
        return Err(format!("this double cannot skip the phase {phase:?}"));
    }
    preflight(&join, line)?;
    let (server, ca) = wait("cluster-info", || discover(&join))?;
    // From here on everything goes where the cluster says that it is reached.
    let token = join.token.text();
    let api = Client::new(&server, &ca, None, Some(&token))?;
    let cluster = node::of_cluster(&api, own)
        .map_err(|error| format!("error fetching the kubeadm-config: {error}"))?;
    if cluster.version.minor > own.minor || cluster.version.minor + 1 < own.minor {
        return Err(format!("this kubeadm, {own}, does not join a cluster of {}", cluster.version));
    }
    if join.control_plane {
        prepare_control_plane(&api, &cluster, node)?;
    } else {
        pki::write(&Path::new(PKI).join("ca.crt"), &ca, 0o644)?;
    }
    let text = kubeconfig::text(&server, &ca, "tls-bootstrap-token-user", &Identity::Token(token));
    pki::write(Path::new(BOOTSTRAP), text.as_bytes(), 0o600)?;
    if api.get(&format!("/api/v1/nodes/{}", node.name))?.is_some_and(|found| is_ready(&found)) {
        let _ = fs::remove_file(BOOTSTRAP);
        return Err(format!(
            "a Node with name {:?} and status \"Ready\" already exists in the cluster",
            node.name
        ));
    }
    let kubelet = objects::stored(&api, "kubelet-config", "kubelet")?;
    node::start_kubelet(node, &kubelet, own)?;
    println!("[kubelet-start] Waiting for the kubelet to perform the TLS Bootstrap");
    wait("the TLS bootstrap", || {
        Path::new(KUBELET).exists().then_some(()).ok_or_else(|| format!("there is no {KUBELET}"))
    })?;
    fs::remove_file(BOOTSTRAP).map_err(|error| format!("{BOOTSTRAP}: {error}"))?;
    if join.control_plane {
        join_etcd(&cluster, node)?;
        let admin = super::admin(line)?;
        wait("the apiserver", || {
            admin
                .call("GET", "/readyz", None)
                .and_then(|(s, text)| (s == 200).then_some(()).ok_or_else(|| text.to_string()))
        })?;
        node::mark(&admin, node, true)?;
    } else {
        let kubelet = kubeconfig::client(Path::new(KUBELET))?;
        node::mark(&kubelet, node, false)?;
    }
    println!("This node has joined the cluster.");
    Ok(())
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn preflight(join: &Join, line: &Line) -> Result<(), String> {
    let mut preflight = Preflight::new(&join.node, line, Version::own());
    preflight.no_file(KUBELET);
    preflight.no_file(BOOTSTRAP);
    preflight.empty(manifests::FOLDER);
    if join.control_plane {
        for port in [join.node.port, 10_259, 10_257, 2379, 2380] {
            preflight.port(port);
        }
    } else {
        preflight.no_file(&format!("{PKI}/ca.crt"));
    }
    preflight.end()
}

/// Where the cluster is and its CA: told by a server that nobody vouches for, signed with the token, and
/// by a CA that is pinned.
fn discover(join: &Join) -> Result<(String, Vec<u8>), String> {
    const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    let address = format!("https://{}", join.server);
    let info = Client::blind(&address)?.need(INFO)?;
    let text = info["data"]["kubeconfig"].as_str().ok_or("cluster-info has no kubeconfig")?;
    let signature = info["data"][format!("jws-kubeconfig-{}", join.token.id)].as_str();
    let signature = signature.ok_or(format!(
        "the cluster-info ConfigMap does not yet contain a JWS signature for token ID {:?}",
        join.token.id
    ))?;
    if signature != join.token.sign(text) {
        return Err("failed to verify JWS signature of received cluster info object".to_owned());
    }
    let (server, ca) = kubeconfig::cluster(text)?;
    let pin = pki::pin(&ca)?;
    if !join.pins.is_empty() && !join.pins.contains(&pin) {
        return Err(format!(
            "cluster CA found in cluster-info ConfigMap is invalid: none of the public keys {pin:?} are pinned"
        ));
    }
    let again = Client::new(&address, &ca, None, None)?.need(INFO)?;
    if again["data"]["kubeconfig"] != *text {
        return Err("the second fetch of cluster-info differs from the first".to_owned());
    }
    Ok((server, ca))
}

fn prepare_control_plane(api: &Client, cluster: &Cluster, node: &Node) -> Result<(), String> {
    if cluster.endpoint.is_empty() {
        return Err("unable to add a new control plane instance to a cluster that doesn't have a stable controlPlaneEndpoint address".to_owned());
    }
    if let Some(key) = &node.certificate_key {
        objects::download_certificates(api, cluster, key)?;
    }
    certificates::ensure(cluster, node, false)?;
    certificates::ensure_kubeconfigs(cluster, node, false)?;
    manifests::write_control_plane(cluster, node)
}

/// Adds a member as a learner, starts it and gives it its vote.
fn join_etcd(cluster: &Cluster, node: &Node) -> Result<(), String> {
    let Etcd::Local { .. } = cluster.etcd else { return Ok(()) };
    let admin = kubeconfig::client(Path::new(super::ADMIN))?;
    let store = members(&admin, &node.name)?;
    let own = format!("https://{}:2380", node.address);
    let known = store.members()?;
    if let Some(ill) =
        known.iter().find(|member| member.name.is_empty() && !member.peers.contains(&own))
    {
        return Err(format!("[check-etcd] the member {} has not started", ill.id));
    }
    let id = match known.iter().find(|member| member.peers.contains(&own)) {
        Some(member) => member.id.clone(),
        None => store.add_learner(&own)?,
    };
    let peers: Vec<_> = store
        .members()?
        .into_iter()
        .map(|member| {
            let name = if member.id == id { node.name.clone() } else { member.name };
            (name, member.peers.first().cloned().unwrap_or_default())
        })
        .collect();
    manifests::write_etcd(cluster, node, &peers)?;
    wait("the etcd member", || match store.promote(&id) {
        Err(error) if !error.contains("not a learner") => Err(error),
        _ => Ok(()),
    })
}

/// A client of the members on other control planes.
fn members(admin: &Client, but: &str) -> Result<etcd::Etcd, String> {
    let nodes = admin.need("/api/v1/nodes?labelSelector=node-role.kubernetes.io/control-plane")?;
    let others = nodes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node["metadata"]["name"] != but);
    let address = |node: &Value| {
        let addresses = node["status"]["addresses"].as_array()?.iter();
        let internal = addresses.into_iter().find(|address| address["type"] == "InternalIP")?;
        Some(format!("https://{}:2379", internal["address"].as_str()?))
    };
    let endpoints: Vec<_> = others.filter_map(address).collect();
    let read = |file: &str| {
        fs::read(Path::new(PKI).join(file)).map_err(|error| format!("{file}: {error}"))
    };
    etcd::Etcd::new(
        &endpoints,
        &read("etcd/ca.crt")?,
        &read("etcd/healthcheck-client.crt")?,
        &read("etcd/healthcheck-client.key")?,
    )
}
