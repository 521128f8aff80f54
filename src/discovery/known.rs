//! What is known of found servers without a running proxy: the watched file and the cache, read once.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::found::{Origin, Server};
use super::{cache, list};
use crate::config::{BackendSpec, Cluster, Config};

/// What one source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub origin: Origin,
    /// The servers that it names and none of those before it, or why it names none. `None` when only
    /// a running proxy asks it.
    pub servers: Option<Result<Vec<BackendSpec>, String>>,
}

/// What the sources of a cluster of this configuration say, besides its own backends.
pub fn known(config: &Config, cluster: &Cluster) -> Vec<Known> {
    let places = &cluster.discovery;
    let listen = config.clusters.iter().flat_map(|cluster| &cluster.listen);
    let own: Vec<SocketAddr> =
        listen.map(|listen| listen.address).chain([config.admin.listen]).collect();
    let mut seen: HashSet<_> = cluster.backends.iter().map(|seed| seed.address.clone()).collect();
    let mut known = Vec::new();
    if places.kubeconfig.is_some() {
        known.push(Known { origin: Origin::Kubernetes, servers: None });
    }
    let mut add = |origin, answer: Result<Vec<Server>, String>| {
        let new = |servers: Vec<Server>| {
            let new = servers.iter().filter(|server| seen.insert(server.address.clone()));
            new.map(|server| server.spec(cluster.name.as_ref())).collect()
        };
        known.push(Known { origin, servers: Some(answer.map(new)) });
    };
    if let Some(path) = &places.file {
        add(Origin::File, list::servers(path, &own).map(|answer| answer.servers));
    }
    if let Some(path) = &places.cache_file {
        let kept = if path.exists() {
            cache::read(path, &own).map(|(answer, _)| answer.servers)
        } else {
            Ok(Vec::new())
        };
        add(Origin::Cache, kept);
    }
    known
}
