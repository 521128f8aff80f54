//! A folder of backups on this host: bundles come as a whole or not at all, are told by their labels,
//! checked by their checksums, and go only when there are enough good ones.

mod place;
mod stored;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::manifest::{Label, bundle_file, label_file, sum_file};
use super::name::BackupName;
use super::prune::{Kept, Rules, superfluous};

pub use stored::Stored;

/// What stays free on the file system after a backup: others live on it too.
pub(super) const RESERVE: u64 = 16 << 20;

/// The folder for what is not whole yet, and the file that is locked by who writes.
const WORK: &str = ".work";
const LOCK: &str = ".lock";

/// Why a folder does not take or give a backup.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// There is not enough room.
    #[error(
        "{folder} has {free} MiB free and {needed} MiB are needed; make room there, no backup was \
         removed"
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// Mebibytes that are free.
        free: u64,
        /// Mebibytes that are needed.
        needed: u64,
    },
    /// Another one writes in it.
    #[error("another backup is under way in {0}; wait for its end")]
    Busy(PathBuf),
    /// What arrived is not what was announced.
    #[error("{name} did not arrive as it was sent: {what}; it was not kept")]
    Torn {
        /// The backup.
        name: BackupName,
        /// What is wrong.
        what: String,
    },
    /// There is another one of this name, and it is intact.
    #[error("there is another {0} already, and it is intact: it is not replaced")]
    Other(BackupName),
    /// A label cannot be written.
    #[error("a label cannot be written: {0}")]
    Label(String),
}

/// A folder of backups.
#[derive(Debug)]
pub struct Depot {
    folder: PathBuf,
}

/// Nobody else writes in the folder as long as it is there.
#[derive(Debug)]
pub struct Locked(#[expect(dead_code, reason = "it is held, not used")] File);

/// What became of a backup that was put into a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is there now.
    New,
    /// It was there already.
    Known,
    /// One of its name was there and was damaged: it was replaced.
    Healed,
}

impl Depot {
    /// The folder, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, DepotError> {
        let depot = Self { folder: folder.to_owned() };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| depot.fault("", error))?;
        Ok(depot)
    }

    /// The folder, if it is there.
    pub fn existing(folder: &Path) -> Option<Self> {
        folder.is_dir().then(|| Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of this name in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn fault(&self, file: &str, source: io::Error) -> DepotError {
        let path = if file.is_empty() { self.folder.clone() } else { self.path(file) };
        DepotError::Io { path, source }
    }

    /// Keeps others from writing in it.
    ///
    /// # Errors
    /// If another one writes, or the lock cannot be made.
    pub fn lock(&self) -> Result<Locked, DepotError> {
        let file = File::create(self.path(LOCK)).map_err(|error| self.fault(LOCK, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Locked(file)),
            Err(TryLockError::WouldBlock) => Err(DepotError::Busy(self.folder.clone())),
            Err(TryLockError::Error(error)) => Err(self.fault(LOCK, error)),
        }
    }

    /// An empty folder for what is not whole yet, on the same file system. What a killed run has left in
    /// it is gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn work(&self, _locked: &Locked) -> Result<PathBuf, DepotError> {
        let work = self.path(WORK);
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.fault(WORK, error));
            }
            _ => {}
        }
        let made = DirBuilder::new().mode(0o700).create(&work);
        made.map_err(|error| self.fault(WORK, error))?;
        Ok(work)
    }

    /// Is there room for so many bytes, and some more?
    ///
    /// # Errors
    /// If there is not, or it cannot be told.
    pub fn require(&self, bytes: u64) -> Result<(), DepotError> {
        let stat = rustix::fs::statvfs(&self.folder);
        let stat = stat.map_err(|error| self.fault("", error.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed = bytes.saturating_add(RESERVE);
        if free >= needed {
            return Ok(());
        }
        let (free, needed) = (free >> 20, needed.div_ceil(1 << 20));
        Err(DepotError::Full { folder: self.folder.clone(), free, needed })
    }

    /// Puts a backup into the folder: `input` gives the bundle. It is there as a whole or not at all.
    ///
    /// # Errors
    /// If it is not what its label says, there is another of its name, or it cannot be written.
    pub fn put(&self, label: &Label, input: &mut dyn Read) -> Result<Arrival, DepotError> {
        let before = self.find(&label.manifest.name);
        let arrival = match before.map(|stored| self.examine(stored)) {
            Some(there) if there.is_intact() => {
                let same = there.label.as_ref().is_some_and(|known| known.sha256 == label.sha256);
                let name = label.manifest.name.clone();
                return if same { Ok(Arrival::Known) } else { Err(DepotError::Other(name)) };
            }
            Some(_) => Arrival::Healed,
            None => Arrival::New,
        };
        self.require(label.size)?;
        place::place(self, label, input)?;
        Ok(arrival)
    }

    /// Puts a bundle into the folder that was written into [`Depot::work`].
    ///
    /// # Errors
    /// As [`Depot::put`].
    pub fn adopt(&self, label: &Label, bundle: &Path) -> Result<(), DepotError> {
        place::adopt(self, label, bundle)
    }

    /// All backups in it, the newest first, as their labels tell. Nothing is read but the labels.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Stored>, DepotError> {
        stored::list(&self.folder).map_err(|error| self.fault("", error))
    }

    /// The backup of this name.
    pub fn find(&self, name: &BackupName) -> Option<Stored> {
        stored::look(&self.folder, name)
    }

    /// The same after its bundle was read and compared with its checksum.
    pub fn examine(&self, stored: Stored) -> Stored {
        stored::examine(&self.folder, stored)
    }

    /// Removes what is superfluous. The newest good one is read first: one that cannot be proven stands in
    /// nobody's place. The names of those removed.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn prune(
        &self,
        cluster: &str,
        rules: Rules,
        now: SystemTime,
    ) -> Result<Vec<BackupName>, DepotError> {
        let mut proven = false;
        let mut all = Vec::new();
        for stored in self.list()?.into_iter().filter(|one| one.name.cluster == cluster) {
            let here = now.duration_since(stored.since()).unwrap_or_default().as_secs();
            let examine = !proven && stored.is_good();
            let stored = if examine { self.examine(stored) } else { stored };
            let good = stored.is_good();
            proven |= good;
            all.push(Kept { good: good && !stored.name.is_ahead(now), name: stored.name, here });
        }
        let gone = superfluous(cluster, &all, rules);
        for name in &gone {
            self.remove(name)?;
        }
        Ok(gone)
    }

    /// The bundle goes first: a label without it is not taken for a backup.
    fn remove(&self, name: &BackupName) -> Result<(), DepotError> {
        let bundles = [true, false].map(|encrypted| bundle_file(name, encrypted));
        let sums = bundles.each_ref().map(|bundle| sum_file(bundle));
        for file in bundles.into_iter().chain(sums).chain([label_file(name)]) {
            match fs::remove_file(self.path(&file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.fault(&file, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
