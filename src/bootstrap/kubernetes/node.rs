//! Nodes, as `kubectl get nodes -o json` prints them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::bootstrap::spec::{Taint, Version};

/// What marks the Node of a control plane.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The output of kubectl is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("kubectl printed no list of nodes: {0}")]
pub struct NodeError(#[from] serde_json::Error);

/// One Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Is it cordoned?
    pub cordoned: bool,
    /// Does kubelet say that it is ready?
    pub ready: bool,
    /// Where it is reached, if it says so.
    pub address: Option<IpAddr>,
    /// The version of its kubelet, if it can be read.
    pub kubelet: Option<Version>,
}

impl Node {
    /// Does it run a control plane?
    pub fn is_control_plane(&self) -> bool {
        self.labels.contains_key(CONTROL_PLANE)
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
    taints: Vec<RawTaint>,
}

#[derive(Deserialize)]
struct RawTaint {
    key: String,
    #[serde(default)]
    value: String,
    effect: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    conditions: Vec<Condition>,
    addresses: Vec<Address>,
    node_info: Info,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    kubelet_version: String,
}

impl From<Item> for Node {
    fn from(Item { metadata, spec, status }: Item) -> Self {
        let is_ready = |condition: &Condition| condition.r#type == "Ready";
        let internal = status.addresses.iter().find(|address| address.r#type == "InternalIP");
        let taint = |RawTaint { key, value, effect }| Taint { key, value, effect };
        Self {
            name: metadata.name,
            labels: metadata.labels,
            annotations: metadata.annotations,
            taints: spec.taints.into_iter().map(taint).collect(),
            cordoned: spec.unschedulable,
            ready: status.conditions.iter().any(|found| is_ready(found) && found.status == "True"),
            address: internal.and_then(|internal| internal.address.parse().ok()),
            kubelet: status.node_info.kubelet_version.parse().ok(),
        }
    }
}

/// Reads a list of Nodes.
///
/// # Errors
/// It is none.
pub fn nodes(json: &str) -> Result<Vec<Node>, NodeError> {
    let List { items } = serde_json::from_str(json)?;
    Ok(items.into_iter().map(Node::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read() {
        let json = r#"{"kind": "List", "items": [
            {"metadata": {"name": "cp1", "labels": {"node-role.kubernetes.io/control-plane": ""},
              "annotations": {"apiproxy.io/given": "{}"}},
             "spec": {"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]},
             "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
                        "addresses": [{"type": "Hostname", "address": "cp1"}, {"type": "InternalIP", "address": "10.0.0.11"}],
                        "nodeInfo": {"kubeletVersion": "v1.34.2"}}},
            {"metadata": {"name": "w1"}, "spec": {"unschedulable": true},
             "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}]}"#;
        let nodes = nodes(json).unwrap();
        assert!(nodes[0].is_control_plane() && nodes[0].ready && !nodes[0].cordoned);
        assert_eq!(nodes[0].address, Some("10.0.0.11".parse().unwrap()));
        assert_eq!(nodes[0].kubelet, Some(Version::new(1, 34, 2)));
        assert_eq!(nodes[0].taints[0].effect, "NoSchedule");
        assert_eq!(nodes[0].annotations["apiproxy.io/given"], "{}");
        assert!(!nodes[1].is_control_plane() && !nodes[1].ready && nodes[1].cordoned);
        assert!(super::nodes("error: no").is_err());
    }
}
