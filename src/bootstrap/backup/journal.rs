//! What a host remembers of its backups, and tells node-exporter.

mod metrics;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use metrics::METRICS;

/// Where a host remembers it: not with the backups, for several hosts may share that folder.
pub const JOURNAL: &str = "/var/lib/apiproxy/backup-journal.json";

/// What a host remembers. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Journal {
    /// Since when this host remembers anything.
    pub since: Option<u64>,
    /// When a backup was last due here, or asked for.
    pub last_run: Option<u64>,
    /// Did all go well then?
    pub last_run_ok: bool,
    /// When this host last took a backup that was whole and is verified in all places.
    pub last_success: Option<u64>,
    /// The time of the newest backup of the cluster that this host knows of, whoever took it.
    pub newest: Option<u64>,
    /// When the backup after that one is due.
    pub due: Option<u64>,
    /// The length of the last one taken here, in bytes.
    pub size: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration: Option<u64>,
    /// When a backup was last restored as a drill with what this host has, and all was as it should be.
    pub last_restore: Option<u64>,
    /// The last drill of that kind, whatever came of it.
    pub last_drill: Option<Drilled>,
    /// The hosts that get copies, and whether they had all of them last time.
    pub copies: BTreeMap<String, bool>,
    /// How many backups lie here.
    pub stored: Option<usize>,
}

/// What is remembered of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drilled {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Was all as it should be?
    pub passed: bool,
    /// How long it took, in milliseconds.
    pub duration: u64,
}

/// Where a host remembers, and where it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logbook {
    /// The cluster that it is about.
    pub cluster: String,
    /// The journal's file.
    pub journal: PathBuf,
    /// The file of node-exporter's textfile collector.
    pub textfile: PathBuf,
}

impl Journal {
    /// A drill has ended.
    pub fn drilled(&mut self, drilled: Drilled) {
        self.last_drill = Some(drilled);
        if drilled.passed {
            self.last_restore = Some(drilled.at);
        }
    }
}

impl Logbook {
    /// What is remembered; nothing if there is no journal, or none that can be read.
    pub fn read(&self) -> Journal {
        let json = fs::read(&self.journal).ok();
        json.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Changes what is remembered, and tells it: one at a time, and the metrics even if the disk has no room
    /// for the journal.
    ///
    /// # Errors
    /// If one of the files cannot be written.
    pub fn change(&self, now: u64, change: impl FnOnce(&mut Journal)) -> io::Result<()> {
        let locked = self.lock();
        let mut journal = self.read();
        journal.since.get_or_insert(now);
        change(&mut journal);
        let json = serde_json::to_vec_pretty(&journal)?;
        let kept = replace(&self.journal, &json, 0o600);
        let told = replace(&self.textfile, journal.metrics(&self.cluster).as_bytes(), 0o644);
        locked.map(drop).and(kept).and(told)
    }

    /// Let go when the file is closed.
    fn lock(&self) -> io::Result<File> {
        make_folder(&self.journal)?;
        let path = self.journal.with_extension("lock");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.lock()?;
        Ok(file)
    }
}

/// Makes the folder of a file where there is none, and lets others pass whatever our umask: node-exporter is
/// another user.
fn make_folder(file: &Path) -> io::Result<()> {
    let missing: Vec<_> = file.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o755).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?,
        }
    }
    Ok(())
}

/// Replaces a file as a whole.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    make_folder(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".apiproxy").tempfile_in(folder)?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logbook(folder: &Path) -> Logbook {
        let (journal, textfile) = (folder.join("state/journal.json"), folder.join("a/b/x.prom"));
        Logbook { cluster: "prod".to_owned(), journal, textfile }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_remembered_is_told_to_another_user() {
        let folder = tempfile::tempdir().unwrap();
        let book = logbook(folder.path());
        assert_eq!(book.read(), Journal::default());
        book.change(7, |journal| journal.newest = Some(20)).unwrap();
        book.change(8, |journal| {
            journal.drilled(Drilled { at: 8, passed: true, duration: 1 });
            journal.drilled(Drilled { at: 9, passed: false, duration: 2 });
        })
        .unwrap();
        let journal = book.read();
        assert_eq!((journal.since, journal.newest), (Some(7), Some(20)));
        assert_eq!(journal.last_restore, Some(8), "the one that passed");
        assert!(!journal.last_drill.unwrap().passed);
        assert_eq!((mode(&book.textfile), mode(&book.journal)), (0o644, 0o600));
        assert_eq!(
            (mode(&folder.path().join("a")), mode(&folder.path().join("a/b"))),
            (0o755, 0o755)
        );
        // Nothing but the file is left for the collector to read.
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
        fs::write(&book.journal, "{").unwrap();
        assert_eq!(book.read(), Journal::default(), "a torn one is none");
    }

    #[test]
    fn the_metrics_are_told_where_the_journal_cannot_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = logbook(folder.path());
        book.journal = PathBuf::from("/dev/null/journal.json");
        book.change(7, |journal| journal.last_run = Some(7)).unwrap_err();
        let text = fs::read_to_string(&book.textfile).unwrap();
        assert!(
            text.contains("apiproxy_etcd_backup_last_run_success{cluster=\"prod\"} 0\n"),
            "{text}"
        );
    }
}
