//! The directory of artifacts: what is in it, and whether it is what its projects published.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{fs, io};

use super::checksums::{self, Checksums, sha256_of};
use super::manifest::Item;
use super::{ArtifactError, archive};

/// A directory of artifacts.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    sums: Checksums,
    /// Every file below the root, with its size.
    files: BTreeMap<String, u64>,
    /// Files whose content was found to be what the list says, in this run.
    verified: Mutex<BTreeSet<String>>,
    /// The names in the archives of images, read once.
    images: OnceLock<Result<Images, ArtifactError>>,
}

/// The names of the images in each archive.
type Images = BTreeMap<String, BTreeSet<String>>;

/// A file of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Below the root.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256 by the list, which [`Directory::verify`] holds it against.
    pub sha256: String,
}

impl Directory {
    /// Reads what is there: names, sizes and the list of checksums, but no file itself.
    ///
    /// # Errors
    /// If the directory cannot be read, or a list that is there.
    pub fn open(root: &Path) -> Result<Self, ArtifactError> {
        let mut files = BTreeMap::new();
        walk(root, root, &mut files)?;
        let path = root.join(checksums::NAME);
        // Without a list no file is one of it, which is told of each.
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| unreadable(&path, &error))?,
        };
        let sums = Checksums::parse(&text, &path)?;
        let (verified, images) = (Mutex::default(), OnceLock::new());
        Ok(Self { root: root.to_owned(), sums, files, verified, images })
    }

    /// The files that an item may mean, by name and size.
    pub fn candidates(&self, item: &Item) -> Vec<(&str, u64)> {
        let all = self.files.iter().map(|(name, size)| (name.as_str(), *size));
        all.filter(|(name, _)| item.matches(name)).collect()
    }

    /// The file of an item, if it is there.
    ///
    /// # Errors
    /// If there are two, or the list does not name it.
    pub fn find(&self, item: &Item) -> Result<Option<Stored>, ArtifactError> {
        match self.candidates(item).as_slice() {
            [] => Ok(None),
            [(name, _)] => self.stored(name).map(Some),
            [(first, _), (second, _), ..] => {
                Err(ArtifactError::Ambiguous { first: (*first).into(), second: (*second).into() })
            }
        }
    }

    /// The file of an item.
    ///
    /// # Errors
    /// If it is not there, if there are two, or if the list does not name it.
    pub fn require(&self, item: &Item) -> Result<Stored, ArtifactError> {
        self.find(item)?.ok_or_else(|| ArtifactError::Missing {
            path: item.path.clone(),
            url: item.url.clone(),
        })
    }

    /// Archives of images, by name.
    ///
    /// # Errors
    /// If the list does not name one.
    pub fn image_archives(&self) -> Result<Vec<Stored>, ArtifactError> {
        self.below("images/", ".tar")
    }

    /// Debian packages for one machine type (`all` counts for each), by name.
    ///
    /// # Errors
    /// If the list does not name one.
    pub fn packages(&self, arch: &str) -> Result<Vec<Stored>, ArtifactError> {
        let mut all = self.below("debs/", ".deb")?;
        let of = |ending: &str, name: &str| name.ends_with(&format!("_{ending}.deb"));
        all.retain(|stored| of(arch, &stored.name) || of("all", &stored.name));
        Ok(all)
    }

    fn below(&self, folder: &str, ending: &str) -> Result<Vec<Stored>, ArtifactError> {
        let names =
            self.files.keys().filter(|name| name.starts_with(folder) && name.ends_with(ending));
        names.map(|name| self.stored(name)).collect()
    }

    /// The names of the images in each archive.
    ///
    /// # Errors
    /// If one is no archive of images.
    pub fn images(&self) -> Result<&Images, ArtifactError> {
        let read = || {
            let archives = self.image_archives()?.into_iter();
            archives.map(|stored| Ok((stored.name, archive::names(&stored.path)?))).collect()
        };
        self.images.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    fn stored(&self, name: &str) -> Result<Stored, ArtifactError> {
        let sum = self.sums.of(name).ok_or_else(|| ArtifactError::Unlisted(name.to_owned()))?;
        let (name, path) = (name.to_owned(), self.root.join(name));
        Ok(Stored { name, path, sha256: sum.to_owned() })
    }

    /// Makes sure that a file is what the list says; reads it once in a run.
    ///
    /// # Errors
    /// If it is something else, or cannot be read.
    pub fn verify(&self, stored: &Stored) -> Result<(), ArtifactError> {
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified().contains(&stored.name) {
            return Ok(());
        }
        let found = sha256_of(&stored.path).map_err(|error| unreadable(&stored.path, &error))?;
        if found != stored.sha256 {
            let (path, wanted) = (stored.name.clone(), stored.sha256.clone());
            return Err(ArtifactError::Mismatch { path, found, wanted });
        }
        verified().insert(stored.name.clone());
        Ok(())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> ArtifactError {
    ArtifactError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}

fn walk(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, u64>,
) -> Result<(), ArtifactError> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        // Through links: directories are often put together of them.
        let data = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        if data.is_dir() {
            walk(root, &path, files)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.insert(name.to_owned(), data.len());
        }
    }
    Ok(())
}
