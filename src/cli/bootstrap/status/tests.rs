//! The tables of a cluster that is well, and of one with every fault.

use std::collections::BTreeSet;

use super::*;
use crate::bootstrap::spec::Role;
use crate::bootstrap::steps::certs::Renewer;
use crate::bootstrap::steps::status::{CopyStatus, NodeStatus};

fn node(ready: bool, kubelet: &str) -> NodeStatus {
    NodeStatus { control_plane: false, ready, cordoned: false, kubelet: Some(kubelet.to_owned()) }
}

fn named(name: &str, role: Role, node: Option<NodeStatus>) -> HostStatus {
    let (name, roles) = (name.to_owned(), BTreeSet::from([role]));
    HostStatus { name, in_file: true, roles, node, ..HostStatus::default() }
}

fn plane(name: &str) -> HostStatus {
    HostStatus {
        control_plane: Some("ready".to_owned()),
        api_server: Some("v1.34.2".to_owned()),
        ..named(name, Role::ControlPlane, Some(node(true, "v1.34.2")))
    }
}

fn etcd(name: &str, id: &str) -> MemberStatus {
    MemberStatus {
        name: name.to_owned(),
        id: id.to_owned(),
        host: Some(name.to_owned()),
        healthy: true,
        version: Some("3.6.5".to_owned()),
        db_size: Some(21_483_520),
        ..MemberStatus::default()
    }
}

fn server(name: &str, state: &str) -> Server {
    Server {
        name: name.to_owned(),
        address: "10.0.0.11:6443".to_owned(),
        state: state.to_owned(),
        reason: String::new(),
    }
}

fn well() -> Status {
    Status {
        cluster: "prod".to_owned(),
        kubernetes_version: "v1.34.2".to_owned(),
        healthy: true,
        hosts: vec![
            plane("cp1"),
            plane("cp2"),
            named("w1", Role::Worker, Some(node(true, "v1.34.2"))),
            HostStatus {
                lacks: Some(String::new()),
                copy: Some(CopyStatus {
                    newest: "prod-20261201T060000Z-r48213".parse().ok(),
                    age_seconds: Some(3 * 3600),
                }),
                ..named("s1", Role::Spare, None)
            },
            named("x1", Role::External, None),
        ],
        members: vec![
            MemberStatus { leader: true, ..etcd("cp1", "8e9e05c52164694d") },
            etcd("cp2", "91bc3c398fb3c146"),
        ],
        proxies: vec![ProxyStatus {
            host: "w1".to_owned(),
            usable: true,
            static_pod: true,
            version: Some("0.1.0".to_owned()),
            servers: vec![server("cp1", "ready"), server("cp2", "ready")],
            problem: None,
        }],
        ..Status::default()
    }
}

#[test]
fn a_cluster_that_is_well() {
    insta::assert_snapshot!(render(&well()));
}

#[test]
fn a_cluster_with_many_faults() {
    let mut status = well();
    status.healthy = false;
    status.hosts[1] = HostStatus {
        control_plane: Some("its kube-apiserver is not ready: refused".to_owned()),
        node: Some(NodeStatus { cordoned: true, ..node(false, "v1.33.0") }),
        ..plane("cp2")
    };
    status.hosts[2].unreached = Some("w1: no answer on port 22; is it up?".to_owned());
    status.hosts[3].lacks = Some("containerd.service does not run".to_owned());
    status.hosts.push(HostStatus {
        name: "w9".to_owned(),
        node: Some(node(true, "v1.34.2")),
        ..HostStatus::default()
    });
    let fresh = Some("not in the cluster".to_owned());
    status
        .hosts
        .push(HostStatus { control_plane: fresh, ..named("cp3", Role::ControlPlane, None) });
    status.members[1].healthy = false;
    status.members.push(MemberStatus { learner: true, ..etcd("cp3", "3") });
    status.members.push(MemberStatus { id: "4".to_owned(), ..MemberStatus::default() });
    status.proxies[0].servers[1] = server("cp2", "dead");
    status.proxies[0].static_pod = false;
    status.proxies.push(ProxyStatus { host: "w2".to_owned(), ..ProxyStatus::default() });
    let mut dark = status.proxies[0].clone();
    (dark.host, dark.usable) = ("w3".to_owned(), false);
    dark.servers[0] = server("cp1", "dead");
    status.proxies.push(dark);
    status.certificates.push(Certificate {
        days_left: 12,
        host: "cp1".to_owned(),
        file: "/etc/kubernetes/admin.conf".to_owned(),
        ends: "2026-12-13T08:00:00Z".to_owned(),
        renewed_by: Renewer::Renew,
        ending: true,
    });
    status.faults = ["w1: no answer on port 22; is it up?", "the etcd member cp2 is not healthy"]
        .map(str::to_owned)
        .to_vec();
    insta::assert_snapshot!(render(&status));
}
