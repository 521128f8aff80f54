//! Checks each cluster, and that several do not get in each other's way.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::addresses::At;
use super::{Check, quoted};
use crate::config::shape::{self, List};
use crate::config::{BackendSpec, Cluster, Listen, Place};
use crate::model::ClusterName;

/// More clusters than an external host has business with.
const MOST: usize = 16;

/// What is a cluster's own: it is never taken from above.
const OWN: [&str; 3] = ["listen", "backends", "discovery"];

/// Does the value at this path hold for each cluster that does not say otherwise, when it stands above
/// them?
pub(super) fn is_inherited(at: &str) -> bool {
    !OWN.contains(&at.split(['.', '[']).next().unwrap_or(at)) && at != "name"
}

/// A cluster, with the paths of what must not be in another one too.
struct Checked {
    within: String,
    listen: Vec<At<Listen>>,
    backends: Vec<At<BackendSpec>>,
    cluster: Cluster,
}

impl Check<'_, '_> {
    /// The only cluster.
    pub(super) fn cluster(
        &mut self,
        name: Option<ClusterName>,
        raw: shape::Cluster,
        admin: SocketAddr,
    ) -> Cluster {
        let Checked { listen, backends, cluster, .. } = self.one(name, raw);
        self.no_conflicts(&listen, admin);
        self.no_loops(&listen, admin, &backends);
        cluster
    }

    /// The clusters of a list.
    pub(super) fn clusters(
        &mut self,
        list: List<shape::Cluster>,
        above: &shape::Cluster,
        admin: SocketAddr,
    ) -> Vec<Cluster> {
        self.nothing_of_one(above);
        if list.is_empty() {
            let hint = "list each with `name`, `listen` and `backends`, or remove `clusters`";
            self.hinted("clusters", "there are no clusters", hint);
        }
        if list.len() > MOST {
            self.fault("clusters", format!("{} clusters are more than {MOST}", list.len()));
        }
        let mut checked: Vec<Checked> = Vec::new();
        let mut names = HashMap::new();
        for (index, raw) in list.into_iter().enumerate() {
            let within = format!("clusters[{index}]");
            let Some(raw) = self.item(&within, raw) else { continue };
            self.within.clone_from(&within);
            let name = self.name(raw.name.as_deref());
            if let Some(name) = &name
                && let Some(first) = names.insert(name.clone(), index)
            {
                let message = format!("`{name}` is also the name of clusters[{first}]");
                self.hinted("name", message, "give each cluster a name of its own");
            }
            checked.push(Checked { within, ..self.one(name, raw.below(above)) });
        }
        self.apart(&checked, admin);
        self.within.clear();
        checked.into_iter().map(|checked| checked.cluster).collect()
    }

    /// A cluster by itself.
    fn one(&mut self, name: Option<ClusterName>, raw: shape::Cluster) -> Checked {
        let listen = self.listen(raw.listen);
        let discovery = self.discovery(raw.discovery.unwrap_or_default());
        let finds = discovery.file.is_some() || discovery.cache_file.is_some();
        let backends = self.backends(raw.backends, finds, name.as_ref());
        let cluster = Cluster {
            name,
            listen: listen.iter().map(|(_, listen)| *listen).collect(),
            zone: self.zone("zone", raw.zone),
            backends: backends.iter().map(|(_, backend)| backend.clone()).collect(),
            balance: raw.balance.unwrap_or_default(),
            health_check: self.health_check(raw.health_check.unwrap_or_default()),
            connect: self.connect(&raw.connect.unwrap_or_default()),
            connections: self.connections(&raw.connections.unwrap_or_default()),
            rebalance: self.rebalance(&raw.rebalance.unwrap_or_default()),
            discovery,
        };
        Checked { within: self.within.clone(), listen, backends, cluster }
    }

    fn name(&mut self, raw: Option<&str>) -> Option<ClusterName> {
        let Some(text) = raw else {
            if !self.is_given("name") {
                self.hinted("name", "it has no name", "add `name: NAME`");
            }
            return None;
        };
        let name = ClusterName::new(text);
        if name.is_none() {
            let message = format!("{} cannot be the name of a cluster", quoted(text));
            let hint = "use 1 to 63 lower-case letters, digits and hyphens, no hyphen at an end";
            self.hinted("name", message, hint);
        }
        name
    }

    /// What can only be meant for one cluster cannot stand above several.
    fn nothing_of_one(&mut self, above: &shape::Cluster) {
        let flags: Vec<_> = self.around.overrides.for_one_cluster().collect();
        for flag in flags {
            let message = "it cannot go with `clusters`: which of them is meant?";
            let fault = crate::config::Fault::new(Place::Flag(flag), message);
            self.faults.push(fault.hint("write it into the file, in the cluster that it is for"));
        }
        let given = [above.listen.is_some(), above.backends.is_some(), above.discovery.is_some()];
        for (at, _) in OWN.into_iter().zip(given).filter(|(_, given)| *given) {
            if self.around.overrides.flag(at).is_none() {
                let hint = "move it into one of the clusters, or remove `clusters`";
                self.hinted(at, "it cannot stand beside `clusters`, which have their own", hint);
            }
        }
    }

    /// No address, server or file belongs to two clusters, and none leads back to this proxy.
    fn apart(&mut self, clusters: &[Checked], admin: SocketAddr) {
        let everywhere: Vec<_> = clusters.iter().flat_map(|one| one.listen.clone()).collect();
        for (number, one) in clusters.iter().enumerate() {
            let before = &clusters[..number];
            self.within.clone_from(&one.within);
            self.no_conflicts(&one.listen, admin);
            self.no_loops(&everywhere, admin, &one.backends);
            for (at, listen) in &one.listen {
                let meets = |other: &At<Listen>| overlap(listen.address, other.1.address);
                if let Some(other) = before.iter().find(|other| other.listen.iter().any(meets)) {
                    let message =
                        format!("clients of {} connect at {} too", other.within, listen.address);
                    self.hinted(at, message, "give each cluster an address or port of its own");
                }
            }
            for (at, backend) in &one.backends {
                let is_it = |other: &At<BackendSpec>| other.1.address == backend.address;
                if let Some(other) = before.iter().find(|other| other.backends.iter().any(is_it)) {
                    let message =
                        format!("{} is a backend of {} too", backend.address, other.within);
                    self.hinted(
                        at,
                        message,
                        "an apiserver belongs to one cluster: remove it from the other",
                    );
                }
            }
            let cache = one.cluster.discovery.cache_file.as_ref();
            let has_it = |other: &&Checked| other.cluster.discovery.cache_file.as_ref() == cache;
            if let (Some(_), Some(other)) = (cache, before.iter().find(has_it)) {
                let message = format!("{} keeps its servers in this file too", other.within);
                self.hinted("discovery.cacheFile", message, "give each cluster a file of its own");
            }
        }
    }
}

/// Can only one of them be listened on?
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_ip = one.ip() == other.ip() || (any && one.is_ipv4() == other.is_ipv4());
    one.port() != 0 && one.port() == other.port() && same_ip
}
