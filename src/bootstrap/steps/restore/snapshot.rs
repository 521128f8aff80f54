//! The snapshot that all members are restored from, on this machine: what a backup holds, or what one
//! member had.

use std::fs::File;
use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;

use super::scripts::{SIZE, with_data};
use crate::bootstrap::backup::fleet::{FetchError, fetch_file};
use crate::bootstrap::backup::{Contents, ContentsError, check_sum};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::restore::{CURRENT, Restore, Source};
use crate::bootstrap::steps::etcd::paths::DATA;
use crate::bootstrap::transport::Command;

/// What is known of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What is in it.
    pub contents: Contents,
    /// Has it etcd's SHA-256 behind it?
    pub summed: bool,
}

/// A snapshot on this machine.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    facts: OnceCell<Facts>,
}

impl Snapshot {
    /// One that is there, with its checksum.
    pub fn of_backup(path: PathBuf, contents: Contents) -> Self {
        let facts = OnceCell::new_with(Some(Facts { contents, summed: true }));
        Self { path, facts }
    }

    /// One that is fetched from a member when it is needed.
    pub fn of_member(path: PathBuf) -> Self {
        Self { path, facts: OnceCell::new() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes it has, or about so many if it is not here yet.
    pub(super) async fn size(&self, cx: &Context, restore: &Restore) -> Result<u64, StepError> {
        match &restore.source {
            Source::Backup(_) => std::fs::metadata(&self.path)
                .map(|found| found.len())
                .map_err(|error| StepError::Unverified(error.to_string())),
            Source::Member(host) => {
                let (file, folder) = (restore.file("source.db"), restore.folder());
                let words = [&file, DATA, CURRENT, &folder];
                let output = cx.run(host, &Command::script(&with_data(SIZE), words)).await?;
                let size = output.text().trim().parse();
                size.map_err(|_| StepError::Unverified(format!("{host}: its database has no size")))
            }
        }
    }

    /// What is in it; it is fetched first if it is not here.
    pub(super) async fn ready(&self, cx: &Context, restore: &Restore) -> Result<&Facts, StepError> {
        self.facts.get_or_try_init(|| self.fetch(cx, restore)).await
    }

    async fn fetch(&self, cx: &Context, restore: &Restore) -> Result<Facts, StepError> {
        let Source::Member(host) = &restore.source else {
            return Err(StepError::Unverified("the snapshot of the backup is not here".to_owned()));
        };
        let from = restore.file("source.db");
        let size = cx.run(host, &Command::new(["stat", "-c", "%s", &from])).await?.text();
        let size = size.parse().unwrap_or_default();
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StepError::Unverified(error.to_string()));
            }
            _ => {}
        }
        fetch_file(cx, host, &from, size, &self.path).await.map_err(|error| match error {
            FetchError::Host(error) => error,
            other => StepError::Unverified(other.to_string()),
        })?;
        let path = self.path.clone();
        let read = move || {
            let file = File::open(&path)?;
            // One that etcd sent has a checksum; a database that was copied has none.
            let summed = match check_sum(&file) {
                Ok(()) => true,
                Err(ContentsError::Torn(why)) if why.contains("not there") => false,
                Err(error) => return Err(error),
            };
            Ok(Facts { contents: Contents::of(&file)?, summed })
        };
        let facts: Result<_, ContentsError> = tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| StepError::Unverified(error.to_string()))?;
        facts.map_err(|error| StepError::Refused {
            reason: format!("the data of {host} cannot be used: {error}"),
            remedy: "restore a backup: `apiproxy bootstrap etcd restore --anew`".to_owned(),
        })
    }
}
