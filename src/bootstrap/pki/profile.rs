//! What a certificate is for: its subject, the names it is valid for, and its usages.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// An extended key usage that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// `serverAuth`.
    Server,
    /// `clientAuth`.
    Client,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        })
    }
}

/// What a leaf certificate has to say. The names and usages are those of kubeadm's etcd certificates
/// (kubernetes: cmd/kubeadm/app/phases/certs/certlist.go).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The common name, the whole of the subject.
    pub common_name: String,
    /// The names it is valid for.
    pub names: BTreeSet<Name>,
    /// What it may be used for.
    pub usages: BTreeSet<Usage>,
}

impl Profile {
    /// Of an etcd member, for its clients: etcd's own gRPC gateway uses it as a client too.
    pub fn etcd_server(host: &str, address: IpAddr) -> Self {
        Self {
            common_name: host.to_owned(),
            names: BTreeSet::from([
                Name::Dns(host.to_owned()),
                Name::Dns("localhost".to_owned()),
                Name::Ip(address),
                Name::Ip(Ipv4Addr::LOCALHOST.into()),
                Name::Ip(Ipv6Addr::LOCALHOST.into()),
            ]),
            usages: BTreeSet::from([Usage::Server, Usage::Client]),
        }
    }

    /// Of an etcd member, for the other members: each is server and client of each.
    pub fn etcd_peer(host: &str, address: IpAddr) -> Self {
        Self::etcd_server(host, address)
    }

    /// Of a client, such as `kube-apiserver-etcd-client`.
    pub fn client(common_name: &str) -> Self {
        Self {
            common_name: common_name.to_owned(),
            names: BTreeSet::new(),
            usages: BTreeSet::from([Usage::Client]),
        }
    }
}
