//! The cluster as the steps see it: nothing in it can be wrong any more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Overrides, Version};

/// A whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name: part of unit names, etcd tokens and kubeconfig contexts.
    pub name: String,
    /// Of the whole cluster, once `apply` is through.
    pub kubernetes_version: Version,
    /// What every node calls the apiservers.
    pub endpoint: Endpoint,
    /// Where etcd lives.
    pub topology: Topology,
    /// How hosts are reached unless they say otherwise.
    pub ssh: Ssh,
    /// All hosts, in the order of the file.
    pub hosts: Vec<Host>,
    /// Pods, services and what joins them.
    pub network: Network,
    /// Where programs and images come from.
    pub artifacts: Artifacts,
    /// The store.
    pub etcd: Etcd,
    /// Prometheus and its company.
    pub monitoring: Monitoring,
    /// Custom controllers and schedulers.
    pub extensions: Vec<Extension>,
    /// Settings of components, for all hosts.
    pub overrides: Overrides,
    /// Is every request to the apiservers put on record?
    pub audit: bool,
    /// Are Secrets encrypted in etcd?
    pub encryption_at_rest: bool,
}

impl Cluster {
    /// The hosts of a role, in the order of the file.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.roles.contains(&role))
    }

    /// Where drills are held by a timer, if there are to be any: by default on the first host that gets copies,
    /// or else on the first of etcd.
    pub fn drill_host(&self) -> Option<&Host> {
        let backup = self.etcd.backup.as_ref()?;
        let named = backup.drill.as_ref()?.host.as_ref().or(backup.copy_to.first());
        named.map_or_else(|| self.etcd_hosts().next(), |name| self.host(name))
    }

    /// The hosts that carry an etcd member.
    pub fn etcd_hosts(&self) -> impl Iterator<Item = &Host> {
        self.with_role(match self.topology {
            Topology::Stacked => Role::ControlPlane,
            Topology::External => Role::Etcd,
        })
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }
}

/// What every node calls the apiservers: a name that is 127.0.0.1 on each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A DNS name, put into `/etc/hosts`.
    pub name: String,
    /// The port of every apiserver and of every node's proxy.
    pub port: u16,
}

/// Where etcd lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Topology {
    /// On the control planes, as static pods of kubeadm.
    #[default]
    Stacked,
    /// On hosts of its own, as systemd units.
    External,
}

/// What a host is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// kube-apiserver, controller-manager and scheduler; etcd too when it is stacked.
    ControlPlane,
    /// An etcd member of an external cluster.
    Etcd,
    /// A node for pods. A control plane with this role too has no taint that keeps pods away.
    Worker,
    /// Prepared and idle: what `replace` and a restore use.
    Spare,
    /// Outside the cluster, running controllers of it.
    External,
    /// Runs Prometheus and Alertmanager outside the cluster.
    Monitoring,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::ControlPlane,
        Self::Etcd,
        Self::Worker,
        Self::Spare,
        Self::External,
        Self::Monitoring,
    ];

    /// As it is written in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "controlPlane",
            Self::Etcd => "etcd",
            Self::Worker => "worker",
            Self::Spare => "spare",
            Self::External => "external",
            Self::Monitoring => "monitoring",
        }
    }
}

/// One host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its name: its hostname, and its Node's name.
    pub name: String,
    /// Where the other hosts reach it.
    pub address: IpAddr,
    /// What it is for; never empty.
    pub roles: BTreeSet<Role>,
    /// Its failure domain, for the proxy's choice and `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Labels of its Node.
    pub labels: BTreeMap<String, String>,
    /// Taints of its Node.
    pub taints: Vec<Taint>,
    /// How it is reached, complete: the cluster's settings where it has none of its own.
    pub ssh: Ssh,
    /// Settings of components, for this host alone; they win over the cluster's.
    pub overrides: Overrides,
}

/// `key=value:effect` of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// A qualified name.
    pub key: String,
    /// May be empty.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Whom to log in as; what `ssh_config` says if there is none.
    pub user: Option<String>,
    /// The port; what `ssh_config` says if there is none.
    pub port: Option<u16>,
    /// The private key; the agent's and `ssh_config`'s if there is none. `~` is resolved.
    pub identity_file: Option<PathBuf>,
    /// Is root reached through sudo? Not needed for `user: root`.
    pub sudo: bool,
    /// This machine itself: no ssh at all.
    pub local: bool,
}

/// Pods, services and what joins them.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Addresses of pods, one or two (dual stack), such as `10.244.0.0/16`.
    pub pod_cidrs: Vec<(IpAddr, u8)>,
    /// Addresses of services, of the same families.
    pub service_cidrs: Vec<(IpAddr, u8)>,
    /// The domain of services: `cluster.local`.
    pub dns_domain: String,
    /// What gives pods their network.
    pub cni: Cni,
}

/// What gives pods their network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cni {
    /// A manifest that is applied after the first control plane is up.
    Manifest(PathBuf),
    /// The user sees to it; nodes stay `NotReady` until then.
    None,
}

/// Where programs and images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// The distribution's repository and Kubernetes' own.
    Packages {
        /// Instead of `https://pkgs.k8s.io/core:/stable:`.
        kubernetes_mirror: Option<String>,
        /// Instead of the repositories that the host has: lines for sources.list.
        distribution_mirror: Option<String>,
        /// Instead of `registry.k8s.io`.
        registry: Option<String>,
    },
    /// A folder of this machine: programs, packages and image archives, with their checksums.
    Directory(PathBuf),
}

/// The store.
#[derive(Clone, Debug, PartialEq)]
pub struct Etcd {
    /// Its version when external, if the file says; stacked etcd follows kubeadm.
    pub version: Option<Version>,
    /// Arguments beside those that we give, by name without dashes.
    pub extra_args: BTreeMap<String, String>,
    /// Backups, if there are to be any.
    pub backup: Option<EtcdBackup>,
}

/// When backups of etcd are taken and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdBackup {
    /// Five fields as in crontab(5).
    pub schedule: String,
    /// How many are kept; at least 1.
    pub keep: u32,
    /// The folder on each etcd host.
    pub directory: String,
    /// Hosts that get a copy.
    pub copy_to: Vec<String>,
    /// Are those the spares, because the file names none?
    pub to_spares: bool,
    /// Public keys of age(1) that they are encrypted for; plain when there are none.
    pub recipients: Vec<String>,
    /// A bucket that gets a copy.
    pub s3: Option<S3>,
    /// Drills by a timer, if there are to be any.
    pub drill: Option<EtcdDrill>,
}

/// A bucket of an object store that understands S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The URL of the store.
    pub endpoint: String,
    /// The bucket's name.
    pub bucket: String,
    /// What the keys of its objects begin with; may be empty.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// A file of this machine, as the tools of AWS have it.
    pub credentials_file: PathBuf,
    /// A file of this machine: whom the store's certificate is signed by.
    pub ca_file: Option<PathBuf>,
}

/// When and where the newest backup is restored to prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdDrill {
    /// Five fields as in crontab(5).
    pub schedule: String,
    /// The host, which has backups; [`Cluster::drill_host`] if it is not named.
    pub host: Option<String>,
    /// The private key of age on that host; none where backups are plain.
    pub identity_file: Option<String>,
}

/// Prometheus and its company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Is it wished?
    pub enabled: bool,
    /// Pushgateway too?
    pub pushgateway: bool,
}

/// A custom controller or scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ExtensionKind,
    /// Where it runs.
    pub placement: Placement,
}

/// What an extension is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExtensionKind {
    /// It binds pods that name it.
    Scheduler,
    /// It reconciles something.
    Controller,
}

/// Where an extension runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// As a Deployment on the control planes, of this image.
    ControlPlane {
        /// The image.
        image: String,
    },
    /// As a systemd unit on the external hosts, with this command.
    External {
        /// Program and arguments.
        command: Vec<String>,
    },
}
