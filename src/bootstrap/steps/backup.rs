//! Backups as the spec wishes them: a key on each etcd host that can put copies onto other hosts and do
//! nothing else there, the folder that takes them, and the timer with what it needs.

mod cluster_files;
mod config;
mod drill;
mod gone;
mod key;
mod leave;
mod place;
mod store;
#[cfg(test)]
mod tests;
mod unit;

use std::sync::Arc;

use crate::bootstrap::engine::{Step, StepId};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::spec::{Cluster, EtcdBackup, Host, Role, SourceFile, Topology};

pub use cluster_files::FILES as CLUSTER_FILES;
pub use leave::leave;
pub use place::Place;

/// The step that makes the key of an etcd host.
pub const KEY: &str = "backup-key";
/// The step that makes a host take copies.
pub const STORE: &str = "backup-store";
/// The step that has an etcd host take backups.
pub const BACKUP: &str = "backup";

/// The step that has a host hold drills.
pub const DRILL: &str = "backup-drill";
/// The step that takes away what a host no longer needs.
pub const GONE: &str = "backup-gone";

/// The folder of what an etcd host needs for backups.
const FOLDER: &str = "/etc/apiproxy/backup";
/// The private key of an etcd host; the public one has `.pub` behind it.
const IDENTITY: &str = "/etc/apiproxy/backup/id_ed25519";
/// The host keys of those that take copies.
const KNOWN_HOSTS: &str = "/etc/apiproxy/backup/known_hosts";
/// Who takes copies on another host.
const USER: &str = "apiproxy-backup";
/// Its home, which is root's: it cannot change what its key allows.
const HOME: &str = "/var/lib/apiproxy-backup";
/// What its keys allow.
const AUTHORIZED_KEYS: &str = "/var/lib/apiproxy-backup/.ssh/authorized_keys";

/// What all of these steps know.
#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    backup: EtcdBackup,
    /// The texts of the cluster's file, and of the table that it names.
    sources: Vec<SourceFile>,
}

/// The steps of backups: those that make what is wished, and one on each host that takes away what is not.
pub fn steps(cluster: &Arc<Cluster>, sources: &[SourceFile]) -> Vec<Arc<dyn Step>> {
    let gone = |host: &Host| -> Arc<dyn Step> {
        Arc::new(gone::Gone { cluster: cluster.clone(), host: host.clone() })
    };
    let mut steps = wished(cluster, sources);
    steps.extend(cluster.hosts.iter().map(gone));
    steps
}

/// The hosts that take backups are told of what these steps of an upgrade have changed.
pub fn upgraded(
    cluster: &Arc<Cluster>,
    sources: &[SourceFile],
    steps: &[Arc<dyn Step>],
) -> Vec<Arc<dyn Step>> {
    let Some(backup) = cluster.etcd.backup.clone() else { return Vec::new() };
    let shared = Shared { cluster: cluster.clone(), backup, sources: sources.to_vec() };
    let (shared, ids) = (Arc::new(shared), steps.iter().map(|step| step.id()).collect::<Vec<_>>());
    let place = |host: &Host| -> Arc<dyn Step> {
        let upgraded = Some(ids.clone());
        Arc::new(Place { shared: shared.clone(), host: host.clone(), upgraded })
    };
    cluster.etcd_hosts().map(place).collect()
}

fn wished(cluster: &Arc<Cluster>, sources: &[SourceFile]) -> Vec<Arc<dyn Step>> {
    let mut steps: Vec<Arc<dyn Step>> = Vec::new();
    let Some(backup) = cluster.etcd.backup.clone() else { return steps };
    let (cluster, sources) = (cluster.clone(), sources.to_vec());
    let shared = Arc::new(Shared { cluster, backup, sources });
    for host in shared.cluster.etcd_hosts() {
        if shared.targets(host).next().is_some() {
            steps.push(Arc::new(key::Key { host: host.clone() }));
        }
        steps.push(Arc::new(Place { shared: shared.clone(), host: host.clone(), upgraded: None }));
    }
    for host in shared.stores().filter(|host| shared.givers(host).next().is_some()) {
        steps.push(Arc::new(store::Store { shared: shared.clone(), host: host.clone() }));
    }
    if let Some(drill) = shared.backup.drill.clone()
        && let Some(host) = shared.cluster.drill_host().cloned()
    {
        steps.push(Arc::new(drill::Drill { shared: shared.clone(), host, wished: drill }));
    }
    steps
}

impl Shared {
    /// The hosts that get copies.
    fn stores(&self) -> impl Iterator<Item = &Host> {
        self.backup.copy_to.iter().filter_map(|name| self.cluster.host(name))
    }

    /// The hosts that get copies of what this one takes.
    fn targets<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a Host> {
        self.stores().filter(|target| target.name != host.name)
    }

    /// The hosts whose backups this one gets.
    fn givers<'a>(&'a self, store: &'a Host) -> impl Iterator<Item = &'a Host> {
        self.cluster.etcd_hosts().filter(|host| host.name != store.name)
    }

    /// The steps after which a host carries its member.
    fn member(&self, host: &Host) -> StepId {
        let step = match self.cluster.topology {
            Topology::External => super::etcd::MEMBER,
            Topology::Stacked => super::control_plane::STEP,
        };
        StepId::new(&host.name, step)
    }

    /// The control planes, where an external etcd does not lie.
    fn control_planes(&self) -> impl Iterator<Item = &Host> {
        let external = self.cluster.topology == Topology::External;
        self.cluster.with_role(Role::ControlPlane).filter(move |_| external)
    }
}

/// What a giver's key allows on a store.
fn command(shared: &Shared) -> String {
    let Shared { cluster, backup, .. } = shared;
    // Half the time for which backups are kept: whoever floods the store has to keep it up for as long.
    let period = crate::bootstrap::backup::Schedule::parse(&backup.schedule);
    let period = period.map_or(0, |schedule| schedule.period());
    let at_least = period.saturating_mul(u64::from(backup.keep)) / 2;
    format!(
        "{PROXY_PROGRAM} bootstrap etcd receive --directory {} --cluster {} --keep {} --at-least \
         {at_least}",
        crate::bootstrap::backup::fleet::COPIES,
        cluster.name,
        backup.keep,
    )
}
