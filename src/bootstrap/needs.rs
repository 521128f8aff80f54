//! What a host of some role needs: numbers and names, each with its source.

use std::net::IpAddr;

use crate::bootstrap::spec::{Cluster, Host, Role, Topology, Version};

/// kubeadm refuses control planes with less (its `ControlPlaneMem`, in MiB).
pub const CONTROL_PLANE_MEMORY: u64 = 1700 << 20;
/// kubeadm refuses control planes with fewer processors (its `ControlPlaneNumCPU`).
pub const CONTROL_PLANE_CPUS: u32 = 2;
/// kubeadm's documentation asks for 2 GB a machine; less leaves little for pods.
pub const NODE_MEMORY: u64 = 1700 << 20;
/// etcd's default limit of its database (`--quota-backend-bytes`, 2 GiB), twice, for a snapshot.
pub const ETCD_DISK: u64 = 4 << 30;
/// Images and logs; kubelet evicts pods below 15 % of the file system of images.
pub const NODE_DISK: u64 = 10 << 30;
/// etcd's guidance for the 99th percentile of `wal_fsync_duration_seconds`.
pub const SYNC_P99_MICROS: u64 = 10_000;

/// Will this host be a node, now or when it takes another's place?
pub fn is_node(host: &Host) -> bool {
    [Role::ControlPlane, Role::Worker, Role::Spare].iter().any(|role| host.roles.contains(role))
}

/// Will this host carry an etcd member, now or when it takes another's place?
pub fn may_carry_etcd(cluster: &Cluster, host: &Host) -> bool {
    carries_etcd(cluster, host) || host.roles.contains(&Role::Spare)
}

/// Does this host carry an etcd member?
pub fn carries_etcd(cluster: &Cluster, host: &Host) -> bool {
    cluster.etcd_hosts().any(|other| other.name == host.name)
}

/// Will this host run etcd as a program of its own, now or when it takes another's place?
pub fn runs_etcd_itself(cluster: &Cluster, host: &Host) -> bool {
    cluster.topology == Topology::External && may_carry_etcd(cluster, host)
}

/// Is this host's etcd asked by backups, though it runs as a pod?
pub fn asks_stacked_etcd(cluster: &Cluster, host: &Host) -> bool {
    let stacked = cluster.topology == Topology::Stacked;
    stacked && cluster.etcd.backup.is_some() && carries_etcd(cluster, host)
}

/// Are drills held on this host, with an etcd of their own?
pub fn holds_drills(cluster: &Cluster, host: &Host) -> bool {
    cluster.drill_host().is_some_and(|other| other.name == host.name)
}

/// Programs that kubeadm's own preflight wants, and the Debian package of each. `conntrack` until
/// 1.31 (kube-proxy called it), `crictl` until 1.30 (kubeadm called it; a warning in 1.31).
pub fn tools(version: Version) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("losetup", "mount"),
        ("mount", "mount"),
        ("cp", "coreutils"),
        ("modprobe", "kmod"),
        ("iptables", "iptables"),
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
    ];
    if version < Version::new(1, 32, 0) {
        all.push(("conntrack", "conntrack"));
    }
    all
}

/// Does kubeadm of this version call `crictl`?
pub fn wants_crictl(version: Version) -> bool {
    version < Version::new(1, 31, 0)
}

/// The oldest containerd for a version: the CRI's v1 since 1.26, `RuntimeConfig` since 1.36.
pub fn least_containerd(version: Version) -> Version {
    match version.minor {
        ..26 => Version::new(1, 4, 0),
        26..36 => Version::new(1, 6, 0),
        36.. => Version::new(2, 0, 0),
    }
}

/// A port and who may hold it on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port.
    pub number: u16,
    /// Programs that may: `kube-apiserver`.
    pub holders: &'static [&'static str],
}

/// The ports that this host's programs will listen on.
pub fn ports(cluster: &Cluster, host: &Host) -> Vec<Port> {
    let port = |number, holders| Port { number, holders };
    let mut all = Vec::new();
    if host.roles.contains(&Role::ControlPlane) {
        all.push(port(cluster.endpoint.port, &["kube-apiserver"][..]));
        all.push(port(10257, &["kube-controller"]));
        all.push(port(10259, &["kube-scheduler"]));
    } else if is_node(host) {
        all.push(port(cluster.endpoint.port, &["apiproxy"]));
        all.push(port(10242, &["apiproxy"]));
    }
    if carries_etcd(cluster, host) {
        all.push(port(2379, &["etcd"]));
        all.push(port(2380, &["etcd"]));
    }
    if is_node(host) {
        all.push(port(10250, &["kubelet"]));
        all.push(port(10248, &["kubelet"]));
        all.push(port(10256, &["kube-proxy"]));
        all.push(port(10249, &["kube-proxy"]));
    }
    all
}

/// To how many kubelets a control plane's way is tried: with more, one firewall tells of all.
const KUBELETS: usize = 32;

/// Where this host's programs will connect to on other hosts.
pub fn peers(cluster: &Cluster, host: &Host) -> Vec<(String, IpAddr, u16)> {
    let control_plane = host.roles.contains(&Role::ControlPlane);
    let member = carries_etcd(cluster, host);
    let mut all = Vec::new();
    let mut kubelets = 0;
    let mut to = |other: &Host, port| all.push((other.name.clone(), other.address, port));
    for other in cluster.hosts.iter().filter(|other| other.name != host.name) {
        let etcd = carries_etcd(cluster, other);
        if is_node(host) && other.roles.contains(&Role::ControlPlane) {
            to(other, cluster.endpoint.port);
        }
        if etcd && (control_plane || member) {
            to(other, 2379);
        }
        if etcd && member {
            to(other, 2380);
        }
        let node = is_node(other) && !other.roles.contains(&Role::Spare);
        if control_plane && node && kubelets < KUBELETS {
            kubelets += 1;
            to(other, 10250);
        }
    }
    all
}

/// Does a kernel parameter have the value that is wished, or for limits a higher one?
pub fn holds(name: &str, wanted: &str, value: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    value == wanted
        || name.starts_with("fs.inotify.")
            && matches!((number(value), number(wanted)), (Some(value), Some(wanted)) if value >= wanted)
}

/// Is kubelet told, on this host, to bear swapping?
pub fn bears_swap(cluster: &Cluster, host: &Host) -> bool {
    let settings = [&host.overrides, &cluster.overrides];
    let told = settings.iter().find_map(|overrides| overrides.kubelet.get("failSwapOn"));
    told == Some(&serde_json::Value::Bool(false))
}

#[cfg(test)]
pub(crate) mod sample;
