//! What a host remembers of its backups, and the metrics that are made of it for node-exporter.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file in the folder of backups.
pub(super) const JOURNAL: &str = ".journal.json";

/// What a host remembers. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Journal {
    /// When a backup was last due here, or asked for.
    pub last_run: Option<u64>,
    /// Did all go well then?
    pub last_run_ok: bool,
    /// When this host last took a backup that was whole and is verified in all places.
    pub last_success: Option<u64>,
    /// The time of the newest backup of the cluster that this host knows of, whoever took it.
    pub newest: Option<u64>,
    /// The length of the last one taken here, in bytes.
    pub size: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration: Option<u64>,
    /// When a backup was last restored as a drill here, and all was as it should be.
    pub last_restore: Option<u64>,
    /// The hosts that get copies, and whether they had all of them last time.
    pub copies: BTreeMap<String, bool>,
    /// How many backups lie here.
    pub stored: usize,
}

impl Journal {
    /// Reads it; an empty one if there is none, or none that can be read.
    pub fn load(folder: &Path) -> Self {
        let json = fs::read(folder.join(JOURNAL)).ok();
        json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Writes it, and the metrics.
    ///
    /// # Errors
    /// If one of them cannot be written.
    pub fn save(&self, folder: &Path, cluster: &str, textfile: &Path) -> io::Result<()> {
        replace(&folder.join(JOURNAL), &serde_json::to_vec_pretty(self)?)?;
        if let Some(folder) = textfile.parent() {
            fs::create_dir_all(folder)?;
        }
        replace(textfile, self.metrics(cluster).as_bytes())
    }

    /// The metrics, in the text format of Prometheus.
    pub fn metrics(&self, cluster: &str) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, values: &[(String, Option<String>)]| {
            let values =
                values.iter().filter_map(|(labels, value)| Some((labels, value.as_ref()?)));
            let lines: Vec<_> = values
                .map(|(labels, value)| {
                    format!(
                        "apiproxy_etcd_backup_{name}{{cluster=\"{cluster}\"{labels}}} {value}\n"
                    )
                })
                .collect();
            if !lines.is_empty() {
                let name = format!("apiproxy_etcd_backup_{name}");
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
                text.extend(lines);
            }
        };
        let number =
            |value: Option<u64>| vec![(String::new(), value.map(|value| value.to_string()))];
        let yes = |value: bool| Some(u8::from(value).to_string());
        gauge(
            "newest_timestamp_seconds",
            "When the newest backup was taken that this host knows of.",
            &number(self.newest),
        );
        gauge(
            "last_run_timestamp_seconds",
            "When a backup was last due on this host.",
            &number(self.last_run),
        );
        gauge(
            "last_run_success",
            "Did the last run on this host do all it should?",
            &[(String::new(), self.last_run.and(yes(self.last_run_ok)))],
        );
        gauge(
            "last_success_timestamp_seconds",
            "When this host last took a whole backup that is verified in all places.",
            &number(self.last_success),
        );
        gauge("size_bytes", "Length of the last backup taken here.", &number(self.size));
        let seconds = self.duration.map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000));
        gauge(
            "duration_seconds",
            "How long the last backup took here, with its copies.",
            &[(String::new(), seconds)],
        );
        gauge(
            "last_verified_restore_timestamp_seconds",
            "When a backup was last restored as a drill here and found good.",
            &number(self.last_restore),
        );
        let copies = self.copies.iter();
        let copies: Vec<_> =
            copies.map(|(host, ok)| (format!(",target=\"{host}\""), yes(*ok))).collect();
        gauge("copies_complete", "Does this host have all copies that it should?", &copies);
        gauge("stored", "How many backups lie on this host.", &number(Some(self.stored as u64)));
        text
    }
}

/// Replaces a file as a whole.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".apiproxy").tempfile_in(folder)?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().sync_all()?;
    // node-exporter is another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_told_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let textfile = folder.path().join("exporter/backup.prom");
        assert_eq!(Journal::load(folder.path()), Journal::default());
        let journal = Journal {
            last_run: Some(30),
            newest: Some(20),
            duration: Some(1_250),
            copies: BTreeMap::from([("s1".to_owned(), false)]),
            stored: 3,
            ..Journal::default()
        };
        journal.save(folder.path(), "prod", &textfile).unwrap();
        assert_eq!(Journal::load(folder.path()), journal);
        let text = fs::read_to_string(textfile).unwrap();
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let all = [
            "apiproxy_etcd_backup_newest_timestamp_seconds{cluster=\"prod\"} 20",
            "apiproxy_etcd_backup_last_run_timestamp_seconds{cluster=\"prod\"} 30",
            "apiproxy_etcd_backup_last_run_success{cluster=\"prod\"} 0",
            "apiproxy_etcd_backup_duration_seconds{cluster=\"prod\"} 1.250",
            "apiproxy_etcd_backup_copies_complete{cluster=\"prod\",target=\"s1\"} 0",
            "apiproxy_etcd_backup_stored{cluster=\"prod\"} 3",
        ];
        assert_eq!(values, all);
        assert_eq!(text.matches("# TYPE ").count(), all.len());
        fs::write(folder.path().join(JOURNAL), "{").unwrap();
        assert_eq!(Journal::load(folder.path()), Journal::default(), "a torn one is none");
    }
}
