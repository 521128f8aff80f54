//! The kernel of a node: modules and parameters.

use std::fmt::Write as _;

use crate::bootstrap::spec::Cluster;
use crate::bootstrap::transport::File;

use super::{kube_proxy, paths};

/// Modules that are loaded at boot: for overlay file systems, for traffic over bridges, and for what
/// kube-proxy is to balance with.
pub fn modules(cluster: &Cluster) -> Vec<&'static str> {
    let mut modules = vec!["overlay", "br_netfilter"];
    match kube_proxy::mode(cluster) {
        Some("ipvs") => {
            modules.extend(["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"]);
        }
        Some("nftables") => modules.extend(["nf_tables", "nf_conntrack"]),
        _ => modules.push("nf_conntrack"),
    }
    modules
}

/// The file of those modules, for systemd-modules-load(8).
pub fn modules_file(cluster: &Cluster) -> File {
    let modules = modules(cluster).join("\n");
    File::new(paths::MODULES, format!("# Written by apiproxy bootstrap.\n{modules}\n"))
}

/// Kernel parameters, by name. Forwarding has the kernel ignore router advertisements for IPv6: hosts
/// whose default route comes from them need `accept_ra = 2` on that interface.
pub fn sysctl(cluster: &Cluster) -> Vec<(&'static str, &'static str)> {
    let mut parameters = vec![
        // Kubelet and each container that watches files take one; the default is 128 for each user.
        ("fs.inotify.max_user_instances", "8192"),
        ("net.bridge.bridge-nf-call-ip6tables", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.ipv4.ip_forward", "1"),
    ];
    if cluster.network.pod_cidrs.iter().any(|(ip, _)| ip.is_ipv6()) {
        parameters.push(("net.ipv6.conf.all.forwarding", "1"));
    }
    parameters
}

/// The file of those parameters, for systemd-sysctl(8).
pub fn sysctl_file(cluster: &Cluster) -> File {
    let mut text = "# Written by apiproxy bootstrap.\n".to_owned();
    for (name, value) in sysctl(cluster) {
        let _infallible = writeln!(text, "{name} = {value}");
    }
    File::new(paths::SYSCTL, text)
}
