//! All steps of a cluster, by what they are about.

pub mod after;
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
pub mod restore;
pub mod shared;
#[cfg(test)]
mod shell;
pub mod status;
pub mod survey;
#[cfg(test)]
mod tests;
pub mod upgrade;
pub mod workers;
#[cfg(test)]
mod world;

use std::path::Path;
use std::sync::Arc;

use super::engine::Step;
use super::spec::SourceFile;

/// What has to be so on all hosts of a cluster, in no order: each step names what it needs.
/// The authority of an external etcd is kept in `keys`; its certificates are renewed as told. `sources` are
/// the texts of the cluster's file, which go into its backups.
pub fn all(
    shared: &Arc<shared::Shared>,
    keys: &Arc<etcd::Keys>,
    sources: &[SourceFile],
    renewal: etcd::Renewal,
) -> Vec<Arc<dyn Step>> {
    // Every host gets this very program.
    let mut steps = hosts::steps(&shared.cluster, Path::new("/proc/self/exe"));
    steps.extend(etcd::steps(&shared.cluster, keys, renewal));
    steps.extend(control_plane::steps(shared));
    steps.extend(workers::steps(shared));
    steps.extend(backup::steps(&shared.cluster, sources));
    steps
}

/// The same, and what takes these out, which the file does not name.
pub fn without(
    shared: &Arc<shared::Shared>,
    keys: &Arc<etcd::Keys>,
    sources: &[SourceFile],
    extras: &[remove::Extra],
) -> Vec<Arc<dyn Step>> {
    let mut steps = all(shared, keys, sources, etcd::Renewal::WhenDue);
    steps.extend(remove::steps(shared, extras));
    remove::in_order(shared, steps)
}
