//! What is not as it should be with hosts, versions and certificates. Pure.

use std::collections::BTreeMap;

use super::HostStatus;
use crate::bootstrap::kubernetes::Node;
use crate::bootstrap::spec::Version;
use crate::bootstrap::steps::certs::Certificate;
use crate::bootstrap::steps::upgrade::skew;

/// So many names are told; of more, how many there are.
const NAMES: usize = 4;

/// The names of some hosts, in few words.
pub(super) fn names(hosts: &[&str]) -> String {
    match hosts.len().checked_sub(NAMES) {
        None | Some(0) => hosts.join(", "),
        Some(more) => format!("{} and {more} more", hosts[..NAMES].join(", ")),
    }
}

/// A fault of a host, with its name before it once.
fn told(host: &str, words: &str) -> String {
    let host = format!("{host}: ");
    if words.starts_with(&host) { words.to_owned() } else { host + words }
}

/// Hosts that were not reached, control planes that do not serve, spares that are not prepared.
pub(super) fn of_hosts(hosts: &[HostStatus]) -> Vec<String> {
    let fault = |host: &HostStatus| {
        let plane = host.control_plane.as_deref().filter(|words| *words != "ready");
        let lacks = host.lacks.as_deref().filter(|words| !words.is_empty());
        let lacks = lacks.map(|words| format!("this spare is not prepared: {words}; see `apply`"));
        let words = host.unreached.clone().or(plane.map(str::to_owned)).or(lacks)?;
        Some(told(&host.name, &words))
    };
    hosts.iter().filter_map(fault).collect()
}

/// Nodes that are not ready, and kubelets of another version than the file's, by version.
pub(super) fn of_nodes(nodes: &[Node], target: Version) -> Vec<String> {
    let not_ready = nodes.iter().filter(|node| !node.ready);
    let mut faults: Vec<_> =
        not_ready.map(|node| told(&node.name, "its Node is not ready")).collect();
    let mut others: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
    for node in nodes {
        if let Some(version) = node.kubelet.filter(|version| *version != target) {
            others.entry(version).or_default().push(&node.name);
        }
    }
    let most = skew::kubelet_skew(target);
    faults.extend(others.iter().map(|(version, hosts)| {
        let whose = if hosts.len() == 1 { "its kubelet is" } else { "their kubelets are" };
        let words = if target.minor.saturating_sub(version.minor) > most {
            format!("{whose} {version}, too old for {target}")
        } else if (version.major, version.minor) > (target.major, target.minor) {
            format!("{whose} {version}, newer than the apiservers may be by the file ({target})")
        } else {
            format!("{whose} {version}, and the file says {target}")
        };
        format!("{}: {words}; see `upgrade`", names(hosts))
    }));
    faults
}

/// kube-apiservers of another version than the file's, by version.
pub(super) fn of_api_servers(hosts: &[HostStatus], target: Version) -> Vec<String> {
    let target = target.to_string();
    let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        if let Some(version) = host.api_server.as_deref().filter(|version| *version != target) {
            others.entry(version).or_default().push(&host.name);
        }
    }
    let line = |(version, hosts): (&&str, &Vec<&str>)| {
        let hosts = names(hosts);
        format!("{hosts}: kube-apiserver {version}, and the file says {target}; see `upgrade`")
    };
    others.iter().map(line).collect()
}

/// Certificates that have ended, or end soon.
pub(super) fn of_certificates(certificates: &[Certificate]) -> Vec<String> {
    let ending = certificates.iter().filter(|certificate| certificate.ending);
    let line = |certificate: &Certificate| {
        let Certificate { host, file, days_left, .. } = certificate;
        let when = match days_left {
            ..0 => "has ended".to_owned(),
            0 => "ends today".to_owned(),
            1 => "ends in 1 day".to_owned(),
            days => format!("ends in {days} days"),
        };
        format!("{host}: {file} {when}; see `apiproxy bootstrap certs`")
    };
    ending.map(line).collect()
}
