//! The artifacts of this machine, opened once for all hosts, and the way from there to a host.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::look::MARKS;
use crate::bootstrap::artifacts::{ArtifactError, Directory, Stored, sha256_of};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::spec::{Artifacts, Cluster};

/// Where artifacts come from in this run.
#[derive(Debug)]
pub struct Shelf {
    root: Option<PathBuf>,
    directory: OnceLock<Result<Directory, ArtifactError>>,
    /// The program that runs here.
    program: PathBuf,
    /// Its SHA-256, read once.
    sum: OnceLock<Result<String, String>>,
}

impl Shelf {
    /// The shelf of a cluster; `program` is this very program.
    pub fn new(cluster: &Cluster, program: &Path) -> Self {
        let root = match &cluster.artifacts {
            Artifacts::Directory(root) => Some(root.clone()),
            Artifacts::Packages { .. } => None,
        };
        let (directory, sum) = (OnceLock::new(), OnceLock::new());
        Self { root, directory, program: program.to_owned(), sum }
    }

    /// The directory; none where programs come from packages.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn directory(&self) -> Result<Option<&Directory>, StepError> {
        let Some(root) = &self.root else { return Ok(None) };
        let opened = self.directory.get_or_init(|| Directory::open(root));
        opened.as_ref().map(Some).map_err(refused)
    }

    /// This very program, and its checksum.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn program(&self) -> Result<(&Path, &str), StepError> {
        let read = || sha256_of(&self.program).map_err(|error| error.to_string());
        match self.sum.get_or_init(read) {
            Ok(sum) => Ok((&self.program, sum)),
            Err(error) => Err(StepError::Refused {
                reason: format!("{}: {error}", self.program.display()),
                remedy: "start apiproxy from a file that can be read".to_owned(),
            }),
        }
    }

    /// Makes sure, away from the other tasks, that a file is what its checksum says.
    ///
    /// # Errors
    /// If it is not.
    pub async fn verify(self: &Arc<Self>, stored: &Stored) -> Result<(), StepError> {
        let (this, stored) = (Arc::clone(self), stored.clone());
        let verified = tokio::task::spawn_blocking(move || match this.directory()? {
            Some(directory) => directory.verify(&stored).map_err(|error| refused(&error)),
            None => Ok(()),
        });
        verified.await.unwrap_or_else(|error| Err(StepError::Unverified(error.to_string())))
    }

    /// Brings a verified file to a host.
    ///
    /// # Errors
    /// If it is not what its checksum says, or cannot be written there.
    pub async fn bring(
        self: &Arc<Self>,
        cx: &Context,
        host: &str,
        stored: &Stored,
        path: &str,
        mode: u32,
    ) -> Result<(), StepError> {
        self.verify(stored).await?;
        Ok(cx.host(host)?.upload(&stored.path, path, mode).await?)
    }
}

/// Where a file waits on a host until it is unpacked or imported.
pub(super) fn waiting(stored: &Stored) -> String {
    let name = stored.name.rsplit('/').next().unwrap_or(&stored.name);
    format!("{MARKS}/incoming/{name}")
}

/// An artifact that cannot be used stops the step.
pub(super) fn refused(error: &ArtifactError) -> StepError {
    let text = error.to_string();
    let (reason, remedy) =
        text.rsplit_once("; ").unwrap_or((&text, "see `apiproxy bootstrap artifacts list`"));
    StepError::Refused { reason: reason.to_owned(), remedy: remedy.to_owned() }
}
