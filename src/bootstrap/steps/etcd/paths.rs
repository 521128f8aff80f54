//! Where things are on a member and on a control plane: one place for all names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The systemd unit of a member. It is not `etcd.service`: that one is Debian's, which a change of
/// the package replaces, and which starts a member of its own on the same ports.
pub const UNIT: &str = "apiproxy-etcd.service";
/// The file of the unit.
pub const UNIT_FILE: &str = "/etc/systemd/system/apiproxy-etcd.service";
/// The folder of a member's settings and certificates.
pub const FOLDER: &str = "/etc/apiproxy/etcd";
/// The settings of a member, as environment variables.
pub const SETTINGS: &str = "/etc/apiproxy/etcd/member.env";
/// How a member finds its cluster at its first start. It is there from before that start until the
/// member is part of the cluster, and never again: a member that lost its data then fails to start
/// instead of coming back as somebody who forgot what it voted for.
pub const INITIAL: &str = "/etc/apiproxy/etcd/initial.env";
/// It is there while settings were written that the running member may not have read.
pub const PENDING: &str = "/etc/apiproxy/etcd/restart-needed";
/// The folder of a member's certificates.
pub const PKI: &str = "/etc/apiproxy/etcd/pki";
/// The certificate of etcd's authority on a member.
pub const CA_CERT: &str = "/etc/apiproxy/etcd/pki/ca.crt";
/// What a member shows its clients.
pub const SERVER_CERT: &str = "/etc/apiproxy/etcd/pki/server.crt";
/// Its key.
pub const SERVER_KEY: &str = "/etc/apiproxy/etcd/pki/server.key";
/// What a member shows other members.
pub const PEER_CERT: &str = "/etc/apiproxy/etcd/pki/peer.crt";
/// Its key.
pub const PEER_KEY: &str = "/etc/apiproxy/etcd/pki/peer.key";
/// What etcdctl on a member shows.
pub const CLIENT_CERT: &str = "/etc/apiproxy/etcd/pki/healthcheck-client.crt";
/// Its key.
pub const CLIENT_KEY: &str = "/etc/apiproxy/etcd/pki/healthcheck-client.key";
/// The data of a member; those of etcd itself are in `member` below it.
pub const DATA: &str = "/var/lib/etcd";
/// Whom a member runs as, and its group.
pub const USER: &str = "etcd";

/// The certificate of etcd's authority on a control plane, where kubeadm looks for it.
pub const API_CA_CERT: &str = "/etc/kubernetes/pki/etcd/ca.crt";
/// What a kube-apiserver shows etcd.
pub const API_CERT: &str = "/etc/kubernetes/pki/apiserver-etcd-client.crt";
/// Its key.
pub const API_KEY: &str = "/etc/kubernetes/pki/apiserver-etcd-client.key";

/// The common name of etcd's authority, as kubeadm's.
pub const CA_NAME: &str = "etcd-ca";
/// The folder of the authority on a host, if it is to be kept on one.
pub const CA_FOLDER: &str = "/etc/apiproxy/etcd-ca";

/// The port for clients.
pub const CLIENT_PORT: u16 = 2379;
/// The port for other members.
pub const PEER_PORT: u16 = 2380;
/// The port of `/metrics` and `/health` in plain text, on the loopback address alone.
pub const METRICS_PORT: u16 = 2381;

/// What clients call a member by.
pub fn client_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, CLIENT_PORT))
}

/// What other members call a member by.
pub fn peer_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, PEER_PORT))
}

/// What a member's own host calls it by.
pub fn local_url() -> String {
    client_url(Ipv4Addr::LOCALHOST.into())
}
