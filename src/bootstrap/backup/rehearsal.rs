//! What a host knows that holds drills: written by `apply`, read by every one of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::Logbook;
use super::settings::SettingsError;

/// Where it lies.
pub const DRILL_SETTINGS: &str = "/etc/apiproxy/backup/drill.json";

/// The settings of a host that holds drills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrillSettings {
    /// The cluster's name.
    pub cluster: String,
    /// The folders in which its backups may lie on this host.
    pub folders: Vec<PathBuf>,
    /// The private key of age, on this host, if they are encrypted.
    pub identity_file: Option<PathBuf>,
    /// Where node-exporter reads metrics from.
    pub textfile: PathBuf,
    /// Where this host remembers what came of them.
    pub journal: PathBuf,
}

impl DrillSettings {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is not what `apply` writes.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let json = std::fs::read(path).map_err(|error| SettingsError::new(path, &error))?;
        serde_json::from_slice(&json).map_err(|error| SettingsError::new(path, &error))
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
