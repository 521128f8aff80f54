//! The proxies of workers: whether they serve, and what they see of the apiservers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Serialize;

use super::faults::names;
use super::host::Seen;
use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::{Cluster, Host, Role};
use crate::bootstrap::steps::workers::look::{Backend, Look};

/// The proxy of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The worker's name.
    pub host: String,
    /// Is an apiserver ready for it? Not when it does not answer.
    pub usable: bool,
    /// Does its static pod serve, or still the transient unit?
    pub static_pod: bool,
    /// The version of its program, if it answers.
    pub version: Option<String>,
    /// The apiservers that it knows.
    pub servers: Vec<Server>,
    /// What is wrong with it by itself, if anything.
    pub problem: Option<String>,
}

/// An apiserver, as a proxy sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// `ready`, `notReady`, `dead`, `unknown` or `drained`.
    pub state: String,
    /// Why.
    pub reason: String,
}

impl From<&Backend> for Server {
    fn from(backend: &Backend) -> Self {
        let Backend { name, address, state, reason } = backend.clone();
        Self { name, address, state, reason: reason.message }
    }
}

/// The proxy of a worker; none on other hosts.
pub(super) fn of(host: &Host, seen: &Result<Seen, StepError>) -> Option<ProxyStatus> {
    let behind = host.roles.contains(&Role::Worker) && !host.roles.contains(&Role::ControlPlane);
    let status = ProxyStatus { host: host.name.clone(), ..ProxyStatus::default() };
    match seen {
        // Why it was not reached is told once, with its host.
        Err(_) if behind => Some(status),
        Err(_) => None,
        Ok(seen) => {
            seen.worker.as_ref().map(|look| ProxyStatus { host: status.host, ..read(look) })
        }
    }
}

fn read(look: &Look) -> ProxyStatus {
    let Some(proxy) = &look.status else {
        let joined = look.kubelet || look.begun;
        let problem = if joined { "its proxy does not answer" } else { "not in the cluster" };
        return ProxyStatus { problem: Some(problem.to_owned()), ..ProxyStatus::default() };
    };
    let static_pod =
        proxy.handover_generation.is_some_and(|generation| look.pods.contains_key(&generation));
    let problem = if !proxy.usable {
        Some(format!("its proxy finds no apiserver: {}", proxy.reasons()))
    } else if !static_pod {
        Some("its proxy is still the transient unit; `apply` goes on".to_owned())
    } else {
        None
    };
    ProxyStatus {
        usable: proxy.usable,
        static_pod,
        version: Some(proxy.version.clone()).filter(|version| !version.is_empty()),
        servers: proxy.backends.iter().map(Server::from).collect(),
        problem,
        ..ProxyStatus::default()
    }
}

/// What is wrong with proxies: each by itself, and then what many of them see alike, in one line.
pub(super) fn faults(cluster: &Cluster, proxies: &[ProxyStatus]) -> Vec<String> {
    let own = |proxy: &ProxyStatus| Some(format!("{}: {}", proxy.host, proxy.problem.as_ref()?));
    let mut faults: Vec<_> = proxies.iter().filter_map(own).collect();
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for proxy in proxies.iter().filter(|proxy| proxy.usable) {
        for server in proxy.servers.iter().filter(|server| server.state != "ready") {
            let Server { name, state, reason, .. } = server;
            let words = format!("see {name} as {state}: {reason}");
            alike.entry(words).or_default().push(&proxy.host);
        }
        let known: BTreeSet<_> =
            proxy.servers.iter().map(|server| server.address.as_str()).collect();
        for host in cluster.with_role(Role::ControlPlane) {
            let address = SocketAddr::new(host.address, cluster.endpoint.port).to_string();
            if !known.is_empty() && !known.contains(address.as_str()) {
                let words = format!("do not know {}; `apply` tells them", host.name);
                alike.entry(words).or_default().push(&proxy.host);
            }
        }
    }
    faults.extend(
        alike.iter().map(|(words, hosts)| format!("the proxies of {} {words}", names(hosts))),
    );
    faults
}
