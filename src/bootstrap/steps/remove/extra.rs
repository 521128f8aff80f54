//! Nodes and etcd members that no host of the file accounts for. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bootstrap::kubernetes::{Member, Node};
use crate::bootstrap::spec::{Cluster, Host, Overrides, Role};
use crate::bootstrap::steps::etcd;

/// A node or an etcd member that no host of the file accounts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Its name; for a member that never started, where the others reach it.
    pub name: String,
    /// Its Node.
    pub node: Option<Node>,
    /// Its member of the stacked etcd.
    pub member: Option<Member>,
    /// Has it a member of an external etcd, or had it one?
    pub is_etcd_host: bool,
    /// Where its etcd member is reached.
    pub address: Option<IpAddr>,
    /// Does its etcd member take no part in the quorum, or was it removed already?
    pub is_dead: bool,
    /// Was it a Node by the file, whether it is one still or not?
    pub was_node: bool,
    /// The host that takes its place, without which it stays.
    pub successor: Option<String>,
}

impl Extra {
    /// A host that leaves, whether the cluster still has something of it or not.
    pub fn of_host(host: &Host) -> Self {
        Self {
            name: host.name.clone(),
            is_etcd_host: host.roles.contains(&Role::Etcd),
            was_node: [Role::ControlPlane, Role::Worker]
                .iter()
                .any(|role| host.roles.contains(role)),
            address: Some(host.address),
            ..Self::default()
        }
    }

    /// Has or had it more to leave than an external etcd?
    pub(super) fn is_node_host(&self) -> bool {
        !self.is_etcd_host || self.was_node || self.node.is_some() || self.member.is_some()
    }

    /// How it may be reached to be cleaned, by the cluster's settings; none if nobody tells its address.
    pub fn host(&self, cluster: &Cluster) -> Option<Host> {
        let of_node = self.node.as_ref().and_then(|node| node.address);
        let address = of_node.or(self.address)?;
        Some(Host {
            name: self.name.clone(),
            address,
            roles: BTreeSet::from([Role::Spare]),
            zone: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            ssh: cluster.ssh.clone(),
            overrides: Overrides::default(),
        })
    }

    /// What it is, for people: `the node w9`.
    pub fn title(&self) -> String {
        let what = match (&self.node, &self.member) {
            (Some(node), _) if node.is_control_plane() => "the control plane",
            (Some(_), _) => "the node",
            (None, _) => "the etcd member",
        };
        format!("{what} {}", self.name)
    }

    /// A line of the plan.
    pub fn note(&self) -> String {
        let title = self.title();
        format!("{title} is in the cluster and not in the file; `apply --prune` removes it")
    }
}

/// What of this the file does not account for. Pure.
pub fn unaccounted(cluster: &Cluster, nodes: Vec<Node>, members: Vec<Member>) -> Vec<Extra> {
    let is_node = |name: &str| {
        let roles = cluster.host(name).map(|host| &host.roles);
        roles.is_some_and(|roles| {
            roles.contains(&Role::ControlPlane) || roles.contains(&Role::Worker)
        })
    };
    let nodes = nodes.into_iter().filter(|node| !is_node(&node.name));
    let mut extras: Vec<_> = nodes
        .map(|node| Extra { name: node.name.clone(), node: Some(node), ..Extra::default() })
        .collect();
    for member in members {
        let mut control_planes = cluster.with_role(Role::ControlPlane);
        if control_planes.any(|host| member.is_of(&host.name, host.address)) {
            continue;
        }
        let is_of = |extra: &&mut Extra| match extra.node.as_ref().and_then(|node| node.address) {
            Some(address) => member.is_of(&extra.name, address),
            None => member.name == extra.name,
        };
        if let Some(extra) = extras.iter_mut().find(is_of) {
            extra.member = Some(member);
        } else {
            let name =
                if member.started() { member.name.clone() } else { member.peer_urls.join(",") };
            let address = address(&member.peer_urls);
            extras.push(Extra { name, address, member: Some(member), ..Extra::default() });
        }
    }
    extras
}

/// The members of an external etcd that no etcd host of the file accounts for.
pub(super) fn strangers(cluster: &Cluster, view: &etcd::View) -> Vec<Extra> {
    let ours: Vec<_> =
        cluster.etcd_hosts().map(|host| etcd::paths::peer_url(host.address)).collect();
    let is_ours =
        |member: &&etcd::EtcdMember| member.peer_urls.iter().any(|url| ours.contains(url));
    let strange = view.members.list.iter().filter(|member| !is_ours(member));
    strange
        .map(|member| Extra {
            name: member.title(),
            is_etcd_host: true,
            address: address(&member.peer_urls),
            is_dead: !view.is_healthy(member.id),
            ..Extra::default()
        })
        .collect()
}

/// The address in `https://10.0.0.11:2380`.
fn address(urls: &[String]) -> Option<IpAddr> {
    let socket = |url: &String| url.split_once("//")?.1.parse::<std::net::SocketAddr>().ok();
    urls.iter().find_map(socket).map(|socket| socket.ip())
}
