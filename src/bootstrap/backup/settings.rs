//! What a host that takes backups knows: written by `apply`, read by every run there.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bucket::BucketSettings;
use super::journal::{JOURNAL, Logbook};
use super::schedule::Schedule;
use crate::bootstrap::spec::is_cluster_name;

/// Where it lies.
pub const SETTINGS: &str = "/etc/apiproxy/backup/config.json";

/// The settings of a host that takes backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The cluster's name.
    pub cluster: String,
    /// This host's name in the spec.
    pub host: String,
    /// The version of Kubernetes that the spec wishes.
    pub kubernetes_version: String,
    /// How this host's etcd is asked.
    pub etcd: EtcdAccess,
    /// Five fields as in crontab(5), in UTC.
    pub schedule: String,
    /// How many backups are kept.
    pub keep: usize,
    /// The folder of backups.
    pub directory: PathBuf,
    /// Public keys of age; plain when there are none.
    pub recipients: Vec<String>,
    /// Hosts that get a copy.
    pub copy_to: Vec<Target>,
    /// With what they are reached.
    pub ssh: SshAccess,
    /// A bucket that gets a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketSettings>,
    /// What goes into a backup beside the snapshot.
    pub files: Vec<Wanted>,
    /// Where node-exporter reads metrics from.
    pub textfile: PathBuf,
    /// Where this host remembers what came of them.
    #[serde(default = "journal")]
    pub journal: PathBuf,
}

fn journal() -> PathBuf {
    PathBuf::from(JOURNAL)
}

/// How etcd is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EtcdAccess {
    /// Its URL: this host's own member.
    pub endpoint: String,
    /// Whom its certificate is signed by.
    pub ca_file: PathBuf,
    /// What it is shown.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// A host that gets a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Its name in the spec.
    pub name: String,
    /// Where it is reached.
    pub address: IpAddr,
    /// The port of its sshd.
    pub port: u16,
}

/// With what hosts are reached that get a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SshAccess {
    /// Whom to log in as.
    pub user: String,
    /// The private key.
    pub identity_file: PathBuf,
    /// The host keys.
    pub known_hosts_file: PathBuf,
}

/// A file that goes into a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wanted {
    /// Its path in the bundle.
    pub path: String,
    /// Where it lies on the host.
    pub file: PathBuf,
    /// Is a backup without it incomplete?
    pub required: bool,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}; `apiproxy bootstrap apply` writes it anew")]
pub struct SettingsError {
    path: PathBuf,
    reason: String,
}

impl SettingsError {
    pub(super) fn new(path: &Path, reason: &dyn std::fmt::Display) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl Settings {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not what `apply` writes.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let wrong = |reason: String| SettingsError::new(path, &reason);
        let json = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let settings: Self =
            serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
        if !is_cluster_name(&settings.cluster) {
            return Err(wrong(format!("`{}` is no name of a cluster", settings.cluster)));
        }
        settings.schedule().map_err(wrong)?;
        Ok(settings)
    }

    /// When backups are taken.
    ///
    /// # Errors
    /// If the schedule is none.
    pub fn schedule(&self) -> Result<Schedule, String> {
        Schedule::parse(&self.schedule)
    }

    /// Where this host remembers.
    pub fn logbook(&self) -> Logbook {
        Logbook {
            cluster: self.cluster.clone(),
            journal: self.journal.clone(),
            textfile: self.textfile.clone(),
        }
    }
}
