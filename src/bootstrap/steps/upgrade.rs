//! `upgrade`: one control plane after the other, then workers in batches; each is drained before its
//! kubelet is restarted, and the first fault stops it.

mod control_plane;
mod kubelet;
mod programs;
pub mod skew;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures_util::future::{BoxFuture, try_join_all};

use super::documents::PATCHES;
use super::hosts;
use super::shared::Shared;
use super::workers::{self, config, node, proxy, static_pod};
use crate::bootstrap::engine::{Context, PARALLEL, Step, StepError};
use crate::bootstrap::kubernetes::Api;
use crate::bootstrap::spec::{Cluster, Host, Role, Version};
pub use programs::Sourced;
use skew::Versions;

/// How the programs of a version come onto a host: the other part of an upgrade.
pub trait Programs: Send + Sync + fmt::Debug {
    /// kubeadm of this version, and kubectl.
    fn kubeadm<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>>;

    /// kubelet of this version. It is restarted by the caller.
    fn kubelet<'a>(
        &'a self,
        cx: &'a Context,
        host: &'a str,
        version: Version,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

/// What the steps of an upgrade share.
#[derive(Clone, Debug)]
pub struct Upgrade {
    shared: Arc<Shared>,
    programs: Arc<dyn Programs>,
    /// So many workers are away at the same time.
    batch: usize,
    /// The first worker that failed: no other is taken down after it.
    failed: Arc<OnceLock<String>>,
}

impl Upgrade {
    /// kubeadm is told of the host's patches anew each time.
    fn patches(&self, host: &Host) -> Result<Vec<String>, StepError> {
        let files = self.shared.documents.beside(&self.shared.cluster, host)?;
        let some = files.iter().any(|file| file.path.starts_with(PATCHES));
        Ok(if some { vec!["--patches".to_owned(), PATCHES.to_owned()] } else { Vec::new() })
    }

    fn target(&self) -> Version {
        self.shared.cluster.kubernetes_version
    }
}

/// The versions that run now.
///
/// # Errors
/// No control plane serves, or one cannot be asked.
pub async fn versions(shared: &Shared, cx: &Context) -> Result<Versions, StepError> {
    let via = shared.through(cx).await?;
    let control_planes = shared.cluster.with_role(Role::ControlPlane).map(async |host| {
        let version = control_plane::version(shared, cx, host).await?;
        Ok::<_, StepError>((host.name.clone(), version))
    });
    let api_servers: BTreeMap<_, _> = try_join_all(control_planes).await?.into_iter().collect();
    let nodes = Api::new(cx, &via).nodes().await?;
    let kubelets = nodes.into_iter().filter_map(|node| Some((node.name, node.kubelet?)));
    Ok(Versions { api_servers, kubelets: kubelets.collect() })
}

/// The steps to the version of the file, after what runs now was found to allow it; so many workers at
/// the same time.
///
/// # Errors
/// The versions that run now do not allow it, or cannot be seen.
pub async fn steps(
    shared: &Arc<Shared>,
    cx: &Context,
    programs: Arc<dyn Programs>,
    batch: usize,
) -> Result<Vec<Arc<dyn Step>>, StepError> {
    let target = shared.cluster.kubernetes_version;
    let found = versions(shared, cx).await?;
    skew::allows(&found, target)
        .map_err(|fault| StepError::Refused { reason: fault.reason, remedy: fault.remedy })?;
    let failed = Arc::default();
    let upgrade = Upgrade { shared: shared.clone(), programs, batch, failed };
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    let mut before = None;
    for host in shared.cluster.with_role(Role::ControlPlane) {
        steps.push(Arc::new(control_plane::Step::new(
            &upgrade,
            host,
            before.replace(host.name.clone()),
        )));
    }
    let last = before;
    // One that is no Node yet joins with the version of the file.
    for host in
        behind_proxies(&shared.cluster).filter(|host| found.kubelets.contains_key(&host.name))
    {
        steps.push(Arc::new(worker::Step::new(&upgrade, host, last.clone())));
    }
    Ok(steps)
}

/// The workers that reach the apiservers through their proxies.
fn behind_proxies(cluster: &Cluster) -> impl Iterator<Item = &Host> {
    let workers = cluster.with_role(Role::Worker);
    workers.filter(|host| !host.roles.contains(&Role::ControlPlane))
}

/// How many workers are away at the same time unless the user says otherwise: a tenth of them.
pub fn batch(cluster: &Cluster) -> usize {
    (behind_proxies(cluster).count() / 10).clamp(1, PARALLEL)
}

/// The same, and before them what every node needs for the new version: images where there is no
/// registry, and first of all the proxies, which are what bridges the restart of an apiserver. `program`
/// is this very program.
///
/// # Errors
/// As [`steps`].
pub async fn all(
    shared: &Arc<Shared>,
    cx: &Context,
    program: &Path,
    batch: usize,
) -> Result<Vec<Arc<dyn Step>>, StepError> {
    let cluster = &shared.cluster;
    let programs = Arc::new(Sourced::new(cluster, program));
    let upgrades = steps(shared, cx, programs, batch).await?;
    let meant: BTreeSet<_> = upgrades.iter().map(|step| step.id().host).collect();
    let of_proxy = [config::STEP, proxy::STEP, node::STEP, static_pod::STEP];
    let proxies = workers::steps(shared).into_iter();
    let proxies = proxies.filter(|step| of_proxy.contains(&step.id().name.as_str()));
    let before = hosts::steps(cluster, program).into_iter().chain(proxies);
    let before = before.filter(|step| meant.contains(&step.id().host));
    Ok(before.chain(upgrades).collect())
}
