//! How far a restore is on a host, told by one command on it.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::json;

use super::scripts::{LOOK, with_pod};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::etcd_command;
use crate::bootstrap::restore::{CURRENT, FOLDER, MARK, Restore};
use crate::bootstrap::spec::{Cluster, Host, Topology};
use crate::bootstrap::steps::etcd;
use crate::bootstrap::steps::etcd::paths::{DATA, UNIT, local_url};
use crate::bootstrap::transport::Command;

/// How a host stands.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Is this the restore that is under way here?
    current: bool,
    /// Is it another one?
    other: bool,
    /// Does etcd run, or is it about to?
    running: bool,
    /// Are there data of a member?
    data: bool,
    /// Are they of this restore?
    mark: bool,
    /// How many manifests of a control plane's programs are in place.
    manifests: usize,
    /// How many of them are moved aside, by this restore or another that was under way.
    aside: usize,
    /// Is there a kubelet of a cluster?
    pub(super) kubelet: bool,
    /// What was done, by name.
    done: BTreeSet<String>,
}

impl Look {
    pub(super) async fn of(cx: &Context, host: &str, restore: &Restore) -> Result<Self, StepError> {
        let folder = restore.folder();
        let words = [CURRENT, &restore.id, &folder, UNIT, DATA, MARK];
        Ok(Self::parse(&cx.run(host, &Command::script(&with_pod(LOOK), words)).await?.text()))
    }

    fn parse(text: &str) -> Self {
        let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
        let count = |name: &str| fact(name).parse().unwrap_or_default();
        Self {
            current: fact("current") == "yes",
            other: fact("other") == "yes",
            running: ["active", "activating"].contains(&fact("etcd")) || fact("pod") == "yes",
            data: fact("data") == "yes",
            mark: fact("mark") == "yes",
            manifests: count("manifests"),
            aside: count("aside"),
            kubelet: fact("kubelet") == "yes",
            done: fact("done").split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// Was this done?
    pub(super) fn has(&self, what: &str) -> bool {
        self.done.contains(what)
    }

    /// Are the data of the member those of this restore?
    pub(super) fn is_restored(&self) -> bool {
        self.mark
    }

    /// Has etcd stopped, and are there no data of it?
    pub(super) fn is_stopped(&self) -> bool {
        self.current && self.has("stopped") && !self.running && !self.data
    }

    /// Have the programs of the control plane stopped?
    pub(super) fn is_halted(&self) -> bool {
        self.manifests == 0 && (self.current && self.has("halted") || self.aside == 0)
    }

    /// Is there nothing of a control plane?
    pub(super) fn never_ran(&self) -> bool {
        self.manifests == 0 && self.aside == 0
    }

    /// Is none under way any more, neither this one nor one before it?
    pub(super) fn is_closed(&self) -> bool {
        !self.current && !self.other
    }
}

/// The numbers of all restores of which a host has a folder.
pub(super) async fn made(cx: &Context, host: &str) -> Result<BTreeSet<String>, StepError> {
    const SCRIPT: &str = r#"ls "$1" 2>/dev/null || true"#;
    let names = cx.run(host, &Command::script(SCRIPT, [FOLDER])).await?.text();
    Ok(names
        .lines()
        .filter(|name| CURRENT != format!("{FOLDER}/{name}"))
        .map(str::to_owned)
        .collect())
}

/// The same of all hosts. Those that do not answer are passed over.
pub async fn made_everywhere(cx: &Context) -> BTreeMap<String, BTreeSet<String>> {
    let ask = cx.hosts.keys().map(|host| async move { (host.clone(), made(cx, host).await) });
    join_all(ask).await.into_iter().filter_map(|(host, made)| Some((host, made.ok()?))).collect()
}

/// A host whose member answers a read that needs a quorum: then nothing has been lost yet.
pub async fn quorum(cx: &Context, cluster: &Cluster) -> Option<String> {
    const HEALTH: &str = r#"ctl --endpoints="$1" get health"#;
    let ask = |host: &Host| {
        let command = match cluster.topology {
            Topology::External => Command::script(&etcd::with_etcdctl(HEALTH), [local_url()]),
            // The key is `health`.
            Topology::Stacked => etcd_command("/v3/kv/range", &json!({ "key": "aGVhbHRo" })),
        };
        let name = host.name.clone();
        async move {
            let output = cx.host(&name).ok()?.run(&command).await.ok()?;
            let stacked = cluster.topology == Topology::Stacked;
            let answers = output.ok() && (!stacked || output.text().contains("\"revision\""));
            answers.then_some(name)
        }
    };
    join_all(cluster.etcd_hosts().map(ask)).await.into_iter().flatten().next()
}

/// The restores that are under way, by host. Hosts that do not answer are passed over.
///
/// # Errors
/// What one of them remembers cannot be read.
pub async fn under_way(cx: &Context) -> Result<BTreeMap<String, Restore>, StepError> {
    let read =
        cx.hosts.values().map(|host| async { (host.host().to_owned(), host.read(CURRENT).await) });
    let mut found = BTreeMap::new();
    for (host, file) in join_all(read).await {
        let Ok(Some(file)) = file else { continue };
        let restore: Restore =
            serde_json::from_slice(&file.content).map_err(|error| StepError::Refused {
                reason: format!("{host}: {CURRENT} cannot be read: {error}"),
                remedy: "give --anew to begin another restore".to_owned(),
            })?;
        found.insert(host, restore);
    }
    Ok(found)
}
