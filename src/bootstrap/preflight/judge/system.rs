//! The system: root, distribution, processors, memory, init, security modules.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::finding::Findings;
use crate::bootstrap::spec::{Artifacts, Role};

/// Distributions whose packages we install, and the oldest of each.
const DISTRIBUTIONS: [(&str, u32, &str); 2] =
    [("debian", 11, "Debian 11"), ("ubuntu", 20, "Ubuntu 20.04")];

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    match facts.user {
        Some(0) => findings.ok("root", "commands run as root"),
        Some(user) => findings.error(
            "root",
            format!("commands run as user {user}, not as root"),
            "set `ssh: {sudo: true}` and let the user run sudo, or log in as root",
        ),
        None => findings.error(
            "root",
            "the host did not tell what it is: the script broke off",
            "see whether `id` and `sh` work for the user that logs in",
        ),
    }
    distribution(case, findings);
    match facts.arch.as_str() {
        "amd64" | "arm64" => {}
        other => findings.error(
            "arch",
            format!("a machine of type {other:?}"),
            "use amd64 or arm64: apiproxy is built for those",
        ),
    }
    if facts.init != "systemd" {
        findings.error(
            "systemd",
            format!("process 1 is {:?}, not systemd", facts.init),
            "use a host that systemd starts: kubelet, containerd and etcd run as its units",
        );
    }
    resources(case, findings);
    match facts.selinux.as_deref() {
        Some("Enforcing") => findings.warn(
            "selinux",
            "SELinux is enforcing, and no policy of ours is loaded",
            "install container-selinux, or `setenforce 0` and SELINUX=permissive",
        ),
        _ if facts.apparmor => {
            findings.ok("apparmor", "AppArmor is on; its profiles do not bind us");
        }
        _ => {}
    }
    if let Some(firewall) = facts.firewalls.first() {
        findings.warn(
            "firewall",
            format!("a firewall is active: {firewall}"),
            format!("let in TCP {} from the other hosts", wanted_ports(case)),
        );
    }
}

fn wanted_ports(case: &Case<'_>) -> String {
    let local = [10248, 10249, 10242, 10257, 10259];
    let ports = needs::ports(case.cluster, case.host).into_iter().map(|port| port.number);
    let mut ports: Vec<_> = ports.filter(|port| !local.contains(port)).collect();
    ports.sort_unstable();
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    ports.join(", ")
}

fn distribution(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    let name = if facts.os_name.is_empty() { "an unknown system" } else { &facts.os_name };
    let major: u32 = facts.os_version.split('.').next().and_then(|m| m.parse().ok()).unwrap_or(0);
    match DISTRIBUTIONS.iter().find(|(id, ..)| *id == facts.os) {
        Some((_, least, _)) if major >= *least => findings.ok("os", name),
        Some((.., least)) => findings.warn(
            "os",
            format!("{name} is older than {least}, the oldest that is tried"),
            format!("use {least} or newer"),
        ),
        None if matches!(case.cluster.artifacts, Artifacts::Directory(_)) => findings.warn(
            "os",
            format!("{name} is not among the systems that are tried"),
            "programs come from the directory, so it may work; Debian and Ubuntu are tried",
        ),
        None => findings.error(
            "os",
            format!("no packages can be installed on {name}: only apt is supported, not dnf"),
            "use Debian or Ubuntu, or `artifacts: {from: directory}`",
        ),
    }
}

fn resources(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    let control_plane = case.host.roles.contains(&Role::ControlPlane);
    if let Some(cpus) = facts.cpus.filter(|cpus| *cpus < needs::CONTROL_PLANE_CPUS)
        && control_plane
    {
        findings.error(
            "cpus",
            format!(
                "{cpus} processor, and kubeadm wants {} of a control plane",
                needs::CONTROL_PLANE_CPUS
            ),
            "give it another processor",
        );
    }
    let Some(memory) = facts.memory else { return };
    let mib = memory >> 20;
    if control_plane && memory < needs::CONTROL_PLANE_MEMORY {
        findings.error(
            "memory",
            format!("{mib} MiB of memory, and kubeadm wants 1700 of a control plane"),
            "give it more memory",
        );
    } else if needs::is_node(case.host) && memory < needs::NODE_MEMORY {
        findings.warn(
            "memory",
            format!("{mib} MiB of memory leave little for pods"),
            "give it 2 GiB or more",
        );
    } else {
        findings.ok("memory", format!("{mib} MiB of memory"));
    }
}
