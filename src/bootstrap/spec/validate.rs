//! From the keys as written to a [`Cluster`] that cannot be wrong.

mod artifacts;
mod endpoint;
mod etcd;
mod extensions;
mod hosts;
mod network;
mod overrides;
mod reserved;
mod roles;
mod roster;
mod s3;
mod ssh;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::shape::{self, List};
use super::{Cluster, Monitoring, Version, syntax};
use crate::config::{Document, Fault, Faults, Place, quoted};

/// The oldest and the newest minor release of Kubernetes 1 that is supported.
pub(super) const SUPPORTED: RangeInclusive<u32> = 22..=36;

/// What validation needs besides the values.
pub(super) struct Surroundings<'a> {
    /// For the places of values.
    pub(super) document: &'a Document,
    /// The folder that relative paths of the file start from.
    pub(super) base: &'a Path,
    /// What `~` stands for.
    pub(super) home: Option<&'a Path>,
    /// The text of the table of hosts, in place of what is in its file.
    pub(super) rows: Option<&'a str>,
}

/// A validation in progress.
struct Check<'a> {
    around: Surroundings<'a>,
    /// Of the cluster's file.
    faults: &'a mut Faults,
    /// Of the table of hosts that it names.
    table: Option<Faults>,
}

/// Where a value was written, when that may be in the table of hosts.
struct Spot {
    in_table: bool,
    place: Place,
    /// The value's name in messages.
    label: String,
}

/// Turns the values into a cluster. Every fault is noted, those of the table of hosts in what comes
/// back; with any, there is no use for the cluster.
pub(super) fn cluster(
    raw: shape::File,
    around: Surroundings<'_>,
    faults: &mut Faults,
) -> (Option<Cluster>, Option<Faults>) {
    let mut check = Check { around, faults, table: None };
    let name = check.cluster_name(raw.metadata);
    let Some(spec) = raw.spec else {
        let hint = "it says what the cluster is made of; see `apiproxy bootstrap new`";
        check.missing("", "spec", hint);
        return (None, None);
    };
    let cluster = check.spec(name, spec);
    (Some(cluster), check.table)
}

impl Check<'_> {
    fn spec(&mut self, name: String, raw: shape::Spec) -> Cluster {
        let is_bad = raw.topology.is_none() && self.around.document.has("spec.topology");
        let topology = (!is_bad).then(|| raw.topology.unwrap_or_default());
        let kubernetes_version = self.kubernetes_version(raw.kubernetes_version.as_deref());
        let ssh = self.ssh("spec.ssh", raw.ssh.unwrap_or_default(), None);
        let audit = raw.audit.unwrap_or(false);
        let encryption_at_rest = raw.encryption_at_rest.unwrap_or(false);
        let ours = reserved::Options { audit, encryption_at_rest };
        let given = overrides::Given {
            kubelet: raw.kubelet,
            containerd: raw.containerd,
            api_server: raw.api_server,
            controller_manager: raw.controller_manager,
            scheduler: raw.scheduler,
            kube_proxy: raw.kube_proxy,
            kubelet_extra_args: raw.kubelet_extra_args,
        };
        let overrides = self.overrides("spec", given, ours);
        let settings = hosts::Settings { ssh: &ssh, topology, ours };
        let roster = self.roster(raw.hosts, raw.hosts_from, &settings);
        self.role_counts(&roster, topology);
        let endpoint = self.endpoint(raw.endpoint.unwrap_or_default(), &name, &roster);
        let network = self.network(raw.network.unwrap_or_default(), &roster, &overrides);
        let monitoring = raw.monitoring.unwrap_or_default();
        Cluster {
            name,
            kubernetes_version,
            endpoint,
            topology: topology.unwrap_or_default(),
            network,
            artifacts: self.artifacts(raw.artifacts.unwrap_or_default(), kubernetes_version),
            etcd: self.etcd(raw.etcd.unwrap_or_default(), topology, &roster),
            monitoring: Monitoring {
                enabled: monitoring.enabled.unwrap_or(true),
                pushgateway: monitoring.pushgateway.unwrap_or(false),
            },
            extensions: self.extensions(raw.extensions.unwrap_or_default(), &roster),
            hosts: roster.into_hosts(),
            ssh,
            overrides,
            audit,
            encryption_at_rest,
        }
    }

    fn cluster_name(&mut self, raw: Option<shape::Metadata>) -> String {
        let Some(metadata) = raw else {
            self.missing("", "metadata", "write `metadata: { name: NAME }`");
            return String::new();
        };
        let Some(name) = metadata.name else {
            self.missing("metadata", "name", "write `metadata: { name: NAME }`");
            return String::new();
        };
        if !syntax::is_label(&name) {
            let message = format!("{} cannot be the name of a cluster", quoted(&name));
            let hint = "use 1 to 63 lower-case letters, digits and inner hyphens";
            self.fault("metadata.name", message, hint);
        }
        name
    }

    fn kubernetes_version(&mut self, raw: Option<&str>) -> Version {
        let (oldest, newest) = (*SUPPORTED.start(), *SUPPORTED.end());
        let fall_back = Version::new(1, newest, 0);
        let at = "spec.kubernetesVersion";
        let hint = format!("supported are v1.{oldest} to v1.{newest}; write it as v1.{newest}.0");
        let Some(text) = raw else {
            self.missing("spec", "kubernetesVersion", &hint);
            return fall_back;
        };
        match text.parse::<Version>() {
            Ok(version) if version.major == 1 && SUPPORTED.contains(&version.minor) => version,
            Ok(version) => {
                self.fault(at, format!("{version} is not supported"), hint);
                fall_back
            }
            Err(_) => {
                self.fault(at, format!("{} is no version", quoted(text)), hint);
                fall_back
            }
        }
    }

    /// An item of a list. One that was refused has its fault already; an empty one gets one here.
    fn item<T>(&mut self, at: &str, item: Option<T>) -> Option<T> {
        if item.is_none() && !self.around.document.has(at) {
            self.fault(at, "the item is empty", "remove it, or say what it is");
        }
        item
    }

    /// The items of a list with their paths.
    fn items<T>(&mut self, at: &str, list: Option<List<T>>) -> Vec<(String, T)> {
        let items = list.unwrap_or_default().into_iter().enumerate();
        let items = items.filter_map(|(index, item)| {
            let at = format!("{at}[{index}]");
            self.item(&at, item).map(|item| (at, item))
        });
        items.collect()
    }

    /// A number of the file.
    fn number<N: TryFrom<i128> + Copy>(
        &mut self,
        at: &str,
        raw: Option<i128>,
        range: RangeInclusive<i128>,
    ) -> Option<N> {
        let raw = raw?;
        let number = range.contains(&raw).then(|| N::try_from(raw).ok()).flatten();
        if number.is_none() {
            let hint = format!("write a number from {} to {}", range.start(), range.end());
            self.fault(at, format!("{raw} is outside {} to {}", range.start(), range.end()), hint);
        }
        number
    }

    /// A path of the file, from its folder on.
    fn path(&self, raw: &Path) -> PathBuf {
        self.around.base.join(raw)
    }

    /// Tells that a key is missing, unless something of it is there that has a fault of its own.
    fn missing(&mut self, section: &str, key: &str, hint: &str) {
        let at = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        let document = self.around.document;
        if !document.has(&at) && !document.has_misspelt(section, key) {
            let fault = Fault::new(document.place(&at), format!("`{at}` is missing"));
            self.faults.push(fault.hint(hint));
        }
    }

    fn fault(&mut self, at: &str, message: impl AsRef<str>, hint: impl Into<String>) {
        let place = self.around.document.place(at);
        self.faults.push(Fault::new(place, format!("`{at}`: {}", message.as_ref())).hint(hint));
    }

    fn fault_at(&mut self, spot: &Spot, message: impl AsRef<str>, hint: impl Into<String>) {
        let message = format!("`{}`: {}", spot.label, message.as_ref());
        let fault = Fault::new(spot.place, message).hint(hint);
        match &mut self.table {
            Some(table) if spot.in_table => table.push(fault),
            _ => self.faults.push(fault),
        }
    }
}
