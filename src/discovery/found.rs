//! Servers that were found, and which answers are too absurd to act on.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::BackendSpec;
use crate::model::{BackendAddress, BackendName, ClusterName, Host, MAX_BACKENDS, Zone};
use crate::net;

/// The longest name that a file or cache may give, as in the configuration.
const LONGEST_NAME: usize = 253;

/// Where servers are found, in the order of their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The EndpointSlices of `default/kubernetes`.
    Kubernetes,
    /// `discovery.file`.
    File,
    /// What earlier runs have found: only until one of the others answers.
    Cache,
}

impl Origin {
    /// The word in metrics and status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::File => "file",
            Self::Cache => "cache",
        }
    }
}

/// A server that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where it listens.
    pub address: BackendAddress,
    /// Its failure domain, if it was told.
    pub zone: Option<Zone>,
}

impl Server {
    /// The backend it makes, of this cluster if there are several: a found server is called by its
    /// address.
    pub(super) fn spec(&self, cluster: Option<&ClusterName>) -> BackendSpec {
        BackendSpec {
            name: BackendName::new(self.address.to_string()).within(cluster),
            address: self.address.clone(),
            zone: self.zone.clone(),
        }
    }
}

/// A zone as somebody else wrote it; what cannot be one is none.
pub(super) fn zone(text: Option<String>) -> Option<Zone> {
    let visible = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`');
    let fits =
        |text: &String| (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(visible);
    text.filter(fits).map(Zone::from)
}

/// An answer that can be acted on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sane {
    /// The servers that it names, each once: at least one.
    pub(super) servers: Vec<Server>,
    /// Where a connection would come back to this proxy: left out.
    pub(super) own: Vec<BackendAddress>,
}

/// Takes an answer as it is, but for this proxy itself, or not at all. `own` is where it listens; only a
/// file that a person wrote may mean this host (`loopback`).
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn sane(
    servers: Vec<Server>,
    own: &[SocketAddr],
    loopback: bool,
) -> Result<Sane, String> {
    sane_at(servers, own, loopback, net::is_of_this_host)
}

fn sane_at(
    servers: Vec<Server>,
    own: &[SocketAddr],
    loopback: bool,
    is_own: fn(IpAddr) -> bool,
) -> Result<Sane, String> {
    let mut seen = HashSet::new();
    let mut sane = Sane { servers: Vec::new(), own: Vec::new() };
    for server in servers {
        if let Some(problem) = absurd(&server.address, loopback) {
            return Err(format!("{} is {problem}", server.address));
        }
        if !seen.insert(server.address.clone()) {
            continue;
        }
        let target = server.address.socket_addr();
        if target.is_some_and(|target| own.iter().any(|own| net::meets(*own, target, is_own))) {
            sane.own.push(server.address);
        } else {
            sane.servers.push(server);
        }
    }
    match (sane.servers.len(), sane.own.first()) {
        (0, Some(own)) => Err(format!("{own} is this proxy itself, and it names no other server")),
        (0, None) => Err("it names no server".to_owned()),
        (many, _) if many > MAX_BACKENDS => Err(format!("it names {many} servers")),
        _ => Ok(sane),
    }
}

fn absurd(address: &BackendAddress, loopback: bool) -> Option<&'static str> {
    let ip = match address.host() {
        Host::Ip(ip) => ip.to_canonical(),
        Host::Name(_) => return None,
    };
    if ip.is_unspecified() {
        Some("no address of a server")
    } else if ip.is_multicast() || ip == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        Some("an address of many")
    } else if ip.is_loopback() && !loopback {
        Some("an address of this host")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(texts: &[&str]) -> Vec<Server> {
        let address = |text: &&str| text.parse::<SocketAddr>().unwrap().into();
        let server = |text: &&str| Server { address: address(text), zone: None };
        texts.iter().map(server).collect()
    }

    #[test]
    fn an_absurd_answer_is_refused_as_a_whole() {
        let own = ["0.0.0.0:7443".parse().unwrap(), "10.0.0.9:6443".parse().unwrap()];
        let is_own = |ip: IpAddr| ip.to_string().ends_with('5');
        let check = |texts: &[&str], loopback| sane_at(servers(texts), &own, loopback, is_own);
        let good = check(&["10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.1:6443"], false).unwrap();
        assert_eq!(good.servers, servers(&["10.0.0.1:6443", "10.0.0.2:6443"]));
        assert_eq!(good.own, []);
        for bad in [
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "127.0.0.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(check(&["10.0.0.1:6443", bad], false).is_err(), "{bad}");
        }
        assert!(check(&["127.0.0.1:1"], true).is_ok());
        assert!(check(&["127.0.0.1:7443"], true).is_err(), "this proxy");
        assert!(check(&[], true).is_err());
        let many: Vec<String> = (0..=MAX_BACKENDS).map(|n| format!("10.1.0.{n}:1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(check(&many, false).is_err());
        assert!(check(&many[1..], false).is_ok());
    }

    #[test]
    fn this_proxy_is_left_out_wherever_it_listens() {
        let own = ["0.0.0.0:7443".parse().unwrap(), "10.0.0.9:6443".parse().unwrap()];
        let is_own = |ip: IpAddr| ip.to_string().ends_with('5');
        let check = |texts: &[&str]| sane_at(servers(texts), &own, true, is_own);
        // The second is the apiserver of this node.
        let sane = check(&["10.0.0.5:7443", "10.0.0.5:6443", "10.0.0.9:6443", "127.0.0.1:7443"]);
        let sane = sane.unwrap();
        assert_eq!(sane.servers, servers(&["10.0.0.5:6443"]));
        let left_out: Vec<_> = sane.own.iter().map(ToString::to_string).collect();
        assert_eq!(left_out, ["10.0.0.5:7443", "10.0.0.9:6443", "127.0.0.1:7443"]);
        let alone = check(&["10.0.0.5:7443"]).unwrap_err();
        assert_eq!(alone, "10.0.0.5:7443 is this proxy itself, and it names no other server");
    }

    #[test]
    fn what_cannot_be_a_zone_is_none() {
        assert_eq!(zone(Some("a-1".into())).as_deref(), Some("a-1"));
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(254)] {
            assert_eq!(zone(Some(bad.to_owned())), None, "{bad}");
        }
    }
}
