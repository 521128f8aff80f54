//! A bundle taken apart: the snapshot as a file, the cluster's keys in memory; all of it checked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::bundle::{self, BundleError};
use super::contents::{Contents, ContentsError, check_sum};
use super::manifest::{Label, Manifest, SNAPSHOT};
use super::seal::{Identities, SealError};

/// The keys of the cluster in a bundle of an external etcd.
const CLUSTER_FILES: &str = "cluster-files.tar";

/// Where files of a control plane lie; nothing else is ever put back.
const KUBERNETES: &str = "etc/kubernetes/";

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened or is damaged.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The snapshot is no good.
    #[error(transparent)]
    Snapshot(#[from] ContentsError),
    /// It is not what its label says.
    #[error("its {0} is not what its label says")]
    Unlike(&'static str),
    /// The keys of the cluster in it cannot be opened.
    #[error("the cluster's keys in it: {0}")]
    Keys(#[from] SealError),
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A bundle taken apart.
pub struct Opened {
    /// What it says of itself.
    pub manifest: Manifest,
    /// The files of a control plane: where each lies, and its content.
    pub files: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({}, {} files)", self.manifest.name, self.files.len())
    }
}

/// Takes a bundle apart; its snapshot goes to `to`, which must not be there, and is read as a whole.
///
/// # Errors
/// If it cannot be opened, or anything in it is not what its label says.
pub fn open(
    bundle: &Path,
    label: &Label,
    keys: &Identities,
    to: &Path,
) -> Result<Opened, OpenError> {
    let input = io::BufReader::with_capacity(256 << 10, File::open(bundle)?);
    let (mut files, mut archives) = (Vec::new(), Vec::new());
    let manifest = bundle::read(input, label.encrypted, keys, &mut |_, part, content| {
        let mut bytes = Vec::new();
        if part.path == SNAPSHOT {
            io::copy(content, &mut File::create_new(to)?)?;
        } else if let Some(path) = part.path.strip_prefix("files/") {
            content.read_to_end(&mut bytes)?;
            files.push((path.to_owned(), bytes));
        } else if part.path.starts_with(CLUSTER_FILES) {
            content.read_to_end(&mut bytes)?;
            archives.push((part.path != CLUSTER_FILES, bytes));
        }
        Ok(())
    })?;
    if manifest != label.manifest {
        return Err(OpenError::Unlike("manifest"));
    }
    check_sum(&File::open(to)?)?;
    if Contents::of(&File::open(to)?)? != manifest.contents {
        return Err(OpenError::Unlike("content"));
    }
    for (sealed, bytes) in archives {
        let plain: Box<dyn io::Read> =
            if sealed { keys.open(bytes.as_slice())? } else { Box::new(bytes.as_slice()) };
        for entry in tar::Archive::new(plain).entries()? {
            let mut entry = entry?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.push((path, content));
        }
    }
    let ours = |path: &str| path.starts_with(KUBERNETES) && !path.split('/').any(|s| s == "..");
    files.retain(|(path, _)| ours(path.trim_start_matches('/')));
    for (path, _) in &mut files {
        *path = format!("/{}", path.trim_start_matches('/'));
    }
    Ok(Opened { manifest, files })
}
