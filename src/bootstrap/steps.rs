//! All steps of a cluster, by what they are about.

pub mod backup;
pub mod certs;
pub mod control_plane;
pub mod documents;
pub mod etcd;
pub mod hosts;
pub mod kubeconfig;
pub mod recent;
pub mod remove;
pub mod replace;
pub mod shared;
#[cfg(test)]
mod shell;
pub mod status;
#[cfg(test)]
mod tests;
pub mod upgrade;
pub mod workers;
#[cfg(test)]
mod world;

use std::path::Path;
use std::sync::Arc;

use super::engine::Step;
use super::spec::{Cluster, SourceFile};

/// What has to be so on all hosts of a cluster, in no order: each step names what it needs.
/// The authority of an external etcd is kept in `keys`; `sources` are the texts that the cluster was read
/// from, which go into its backups.
pub fn graph(
    cluster: &Arc<Cluster>,
    keys: &Arc<etcd::Keys>,
    sources: &[SourceFile],
) -> Vec<Arc<dyn Step>> {
    // Every host gets this very program.
    let mut steps = hosts::steps(cluster, Path::new("/proc/self/exe"));
    steps.extend(etcd::steps(cluster, keys, etcd::Renewal::WhenDue));
    let shared = shared::Shared::new(cluster.clone(), Arc::new(documents::Rendered));
    steps.extend(control_plane::steps(&shared));
    steps.extend(workers::steps(&shared));
    steps.extend(backup::steps(cluster, sources));
    steps
}
