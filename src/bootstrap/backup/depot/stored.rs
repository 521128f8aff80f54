//! What lies in a folder of backups.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bootstrap::backup::bundle::Summed;
use crate::bootstrap::backup::manifest::{Label, bundle_file, label_file};
use crate::bootstrap::backup::name::BackupName;

/// A backup in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stored {
    /// Its name.
    pub name: BackupName,
    /// What its label says, if there is one that can be read.
    pub label: Option<Label>,
    /// The bundle's length in bytes; 0 if it is not there.
    pub size: u64,
    /// When it came into this folder, in seconds since 1970.
    pub since: u64,
    /// Was its bundle read and compared with its checksum?
    pub examined: bool,
    /// What is wrong with it, as far as it was looked at.
    pub fault: Option<String>,
}

impl Stored {
    /// When it came into this folder.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.since)
    }

    /// Was it read, and is nothing wrong with it?
    pub fn is_intact(&self) -> bool {
        self.examined && self.fault.is_none()
    }

    /// Is nothing known against it, and everything in it that should be?
    pub fn is_good(&self) -> bool {
        let whole = self.label.as_ref().is_some_and(|label| label.manifest.is_whole());
        self.fault.is_none() && whole
    }

    /// Does it stand in the place of older ones?
    pub fn stands(&self, now: SystemTime) -> bool {
        self.is_good() && !self.name.is_ahead(now)
    }
}

/// The names in a folder, the newest first.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Stored>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name();
        let Some(file) = file.to_str() else { continue };
        let stem = [".tar.age", ".tar", ".json"].iter().find_map(|end| file.strip_suffix(end));
        names.extend(stem.and_then(|stem| stem.parse::<BackupName>().ok()));
    }
    Ok(names.into_iter().rev().filter_map(|name| look(folder, &name)).collect())
}

/// A backup, as its label tells; none if there is neither a label nor a bundle.
pub(super) fn look(folder: &Path, name: &BackupName) -> Option<Stored> {
    let label = match fs::read(folder.join(label_file(name))) {
        Ok(json) => Label::parse(&json).and_then(|label| {
            if label.manifest.name == *name {
                Ok(label)
            } else {
                Err(format!("it is that of {}", label.manifest.name))
            }
        }),
        Err(error) => Err(error.to_string()),
    };
    let bundle = [true, false].into_iter().find_map(|encrypted| {
        let right = label.as_ref().map_or(true, |label| label.encrypted == encrypted);
        fs::metadata(folder.join(bundle_file(name, encrypted))).ok().filter(|_| right)
    });
    let fault = match (&label, &bundle) {
        (_, None) => Some("its bundle is missing".to_owned()),
        (Err(why), _) => Some(format!("its label cannot be used: {why}")),
        (Ok(label), Some(bundle)) if bundle.len() != label.size => {
            Some(format!("it has {} bytes in place of {}", bundle.len(), label.size))
        }
        _ => None,
    };
    if bundle.is_none() && label.is_err() {
        return None;
    }
    let since = bundle.as_ref().and_then(|bundle| bundle.modified().ok());
    let since = since.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let size = bundle.map_or(0, |bundle| bundle.len());
    let since = since.as_secs();
    Some(Stored { name: name.clone(), label: label.ok(), size, since, examined: false, fault })
}

/// Compares a bundle with its checksum.
pub(super) fn examine(folder: &Path, stored: Stored) -> Stored {
    let Some(label) = stored.label.as_ref().filter(|_| stored.fault.is_none()) else {
        return Stored { examined: true, ..stored };
    };
    let fault = match sum_of(&folder.join(label.file())) {
        Ok((_, sum)) if sum == label.sha256 => None,
        Ok(_) => Some("it is damaged: its checksum does not fit".to_owned()),
        Err(error) => Some(format!("it cannot be read: {error}")),
    };
    Stored { examined: true, fault, ..stored }
}

/// Length and SHA-256 of a file as it is on the disk, as far as the kernel lets us.
pub(super) fn sum_of(path: &Path) -> io::Result<(u64, String)> {
    let file = File::open(path)?;
    // Some file systems have no such thing; then it is what the cache holds.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut summed = Summed::new(file);
    let mut chunk = vec![0; 256 << 10];
    while io::Read::read(&mut summed, &mut chunk)? > 0 {}
    Ok((summed.len(), summed.sum()))
}
