//! `status`: the cluster as it is, for people and programs.

mod faults;
mod host;
mod member;
mod proxy;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;

use super::certs::Certificate;
use super::control_plane::look::Standing;
use super::remove;
use super::shared::Shared;
use super::survey;
use crate::bootstrap::backup::BackupName;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Member, Node};
use crate::bootstrap::spec::{Host, Role, Topology};
use host::Seen;

pub use host::lacks;
pub use member::MemberStatus;
pub use proxy::{ProxyStatus, Server};

/// The cluster as it is. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The version of the file.
    pub kubernetes_version: String,
    /// Is nothing in `faults`?
    pub healthy: bool,
    /// The hosts of the file, and then the Nodes that it does not name.
    pub hosts: Vec<HostStatus>,
    /// The members of etcd.
    pub members: Vec<MemberStatus>,
    /// The proxies of the workers.
    pub proxies: Vec<ProxyStatus>,
    /// The certificates of all hosts, those that end first before others.
    pub certificates: Vec<Certificate>,
    /// What is not as it should be, one line each.
    pub faults: Vec<String>,
}

/// A host of the file, or a Node that it does not name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Does the file name it?
    pub in_file: bool,
    /// What it is there for, by the file.
    pub roles: BTreeSet<Role>,
    /// Why it was not reached, if it was not.
    pub unreached: Option<String>,
    /// How its control plane stands, if it is one.
    pub control_plane: Option<String>,
    /// The version of its kube-apiserver, by its manifest.
    pub api_server: Option<String>,
    /// Its Node, if it is registered.
    pub node: Option<NodeStatus>,
    /// Of a spare: what it lacks to take a place; empty if nothing.
    pub lacks: Option<String>,
    /// Of a spare that gets copies of backups: the newest it has.
    pub copy: Option<CopyStatus>,
}

/// What a spare has of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyStatus {
    /// The newest backup that it has a copy of; none until the first comes.
    pub newest: Option<BackupName>,
    /// How long ago that was taken, in seconds.
    pub age_seconds: Option<u64>,
}

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Does it run a control plane?
    pub control_plane: bool,
    /// Does kubelet say that it is ready?
    pub ready: bool,
    /// Is it cordoned?
    pub cordoned: bool,
    /// The version of kubelet.
    pub kubelet: Option<String>,
}

impl From<&Node> for NodeStatus {
    fn from(node: &Node) -> Self {
        let kubelet = node.kubelet.map(|version| version.to_string());
        let (ready, cordoned) = (node.ready, node.cordoned);
        Self { control_plane: node.is_control_plane(), ready, cordoned, kubelet }
    }
}

/// What a control plane that serves tells of the cluster.
#[derive(Debug, Default)]
struct Told {
    nodes: Vec<Node>,
    /// The members of the stacked etcd.
    members: Vec<Member>,
    healthy: BTreeSet<u64>,
}

/// Looks at everything, or at the chosen hosts, at so many at once. Whatever cannot be seen is a fault; the
/// rest is told nevertheless. Of hosts that were not chosen nothing is told, but of etcd all that is not
/// well, if a chosen host has a member of it.
pub async fn gather(
    shared: &Shared,
    cx: &Context,
    chosen: Option<&BTreeSet<String>>,
    parallel: usize,
) -> Status {
    let cluster = &shared.cluster;
    let is_meant = |name: &str| chosen.is_none_or(|chosen| chosen.contains(name));
    let hosts = cluster.hosts.iter().filter(|host| is_meant(&host.name));
    let looks = survey::each(hosts, parallel, |host| Seen::of(shared, cx, host));
    let with_etcd = cluster.etcd_hosts().any(|host| is_meant(&host.name));
    let external =
        async { if with_etcd { member::external(cx, cluster).await } else { Default::default() } };
    let (seen, external) = tokio::join!(looks, external);
    let (mut told, fault) = match chosen {
        None => ask(shared, cx, &seen).await,
        Some(_) => ask_another(shared, cx).await,
    };
    let mut faults: Vec<_> = fault.iter().map(ToString::to_string).collect();
    let (mut members, etcd_faults) = match cluster.topology {
        Topology::External => external,
        Topology::Stacked => member::stacked(cluster, &told, &seen),
    };
    if chosen.is_some() {
        told.nodes.retain(|node| is_meant(&node.name));
        members.retain(|member| member.host.as_deref().is_some_and(is_meant));
    }
    let mut status = Status {
        cluster: cluster.name.clone(),
        kubernetes_version: cluster.kubernetes_version.to_string(),
        members,
        ..Status::default()
    };
    for (host, seen) in &seen {
        status.hosts.push(HostStatus::new(host, seen, &told.nodes));
        if let Ok(seen) = seen {
            status.certificates.extend(seen.certificates.iter().cloned());
        }
        if let Some(proxy) = proxy::of(host, seen) {
            status.proxies.push(proxy);
        }
    }
    status.certificates.sort();
    faults.extend(faults::of_hosts(&status.hosts));
    faults.extend(etcd_faults.into_iter().filter(|_| with_etcd));
    faults.extend(faults::of_nodes(&told.nodes, cluster.kubernetes_version));
    faults.extend(faults::of_api_servers(&status.hosts, cluster.kubernetes_version));
    if chosen.is_none() {
        let extras = remove::unaccounted(cluster, told.nodes.clone(), told.members);
        faults.extend(extras.iter().map(remove::Extra::note));
    }
    let is_extra = |node: &&Node| cluster.host(&node.name).is_none();
    status.hosts.extend(told.nodes.iter().filter(is_extra).map(HostStatus::unknown));
    faults.extend(proxy::faults(cluster, &status.proxies));
    faults.extend(faults::of_certificates(&status.certificates));
    status.healthy = faults.is_empty();
    status.faults = faults;
    status
}

/// Asks any control plane that serves, whether it was looked at or not. Nothing if there is no cluster yet.
async fn ask_another(shared: &Shared, cx: &Context) -> (Told, Option<StepError>) {
    let told = async {
        match shared.serving(cx).await? {
            Some(via) => survey::bounded(&via, all(shared, &Api::new(cx, &via))).await,
            None => Ok(Told::default()),
        }
    };
    match told.await {
        Ok(told) => (told, None),
        Err(error) => (Told::default(), Some(error)),
    }
}

/// Asks a control plane that serves about the cluster; where none does, one whose etcd answers about
/// that. Nothing if there is no cluster yet.
async fn ask(
    shared: &Shared,
    cx: &Context,
    seen: &[(&Host, Result<Seen, StepError>)],
) -> (Told, Option<StepError>) {
    let planes = seen.iter().filter(|(host, _)| host.roles.contains(&Role::ControlPlane));
    let reached: Vec<_> =
        planes.clone().filter_map(|(h, seen)| Some((*h, seen.as_ref().ok()?))).collect();
    let stands = |seen: &Seen, standing: Standing| seen.standing.as_ref() == Some(&standing);
    if let Some((host, _)) = reached.iter().find(|(_, seen)| stands(seen, Standing::Serving)) {
        return match survey::bounded(&host.name, all(shared, &Api::new(cx, &host.name))).await {
            Ok(told) => (told, None),
            Err(error) => (Told::default(), Some(error)),
        };
    }
    if reached.len() == planes.count()
        && reached.iter().all(|(_, seen)| stands(seen, Standing::Fresh))
    {
        return (Told::default(), None);
    }
    let fault = StepError::Refused {
        reason: "no control plane serves, so its nodes cannot be seen".to_owned(),
        remedy: "bring one of them back first".to_owned(),
    };
    let with_etcd = reached.iter().find_map(|(host, seen)| Some((host, seen.members.clone()?)));
    let Some((host, members)) = with_etcd else {
        return (Told::default(), Some(fault));
    };
    let api = Api::new(cx, &host.name);
    let healthy = survey::bounded(&host.name, api.healthy(&members)).await.unwrap_or_default();
    (Told { nodes: Vec::new(), members, healthy }, Some(fault))
}

async fn all(shared: &Shared, api: &Api<'_>) -> Result<Told, StepError> {
    let nodes = api.nodes().await?;
    let members = match shared.cluster.topology {
        Topology::Stacked => api.members().await?,
        Topology::External => Vec::new(),
    };
    let healthy = api.healthy(&members).await?;
    Ok(Told { nodes, members, healthy })
}
