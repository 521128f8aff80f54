//! A folder of the operator for an authority: its key never leaves it and is never overwritten.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Authority, Certificate, PkiError};

/// The folder of one cluster's authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The store of a cluster under `XDG_STATE_HOME`, or under `~/.local/state` if that is not set or
    /// not absolute (XDG Base Directory Specification 0.8); the variables come in as arguments.
    ///
    /// # Errors
    /// If neither names a folder.
    pub fn of_cluster(
        cluster: &str,
        state_home: Option<&OsStr>,
        home: Option<&OsStr>,
    ) -> Result<Self, PkiError> {
        let absolute = |text: &OsStr| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let state = state_home.and_then(absolute);
        let state = state.or_else(|| Some(home.and_then(absolute)?.join(".local/state")));
        let state = state.ok_or_else(|| PkiError::File {
            path: "$XDG_STATE_HOME".to_owned(),
            reason: "neither it nor HOME is set".to_owned(),
            remedy: "set one of them: the key of etcd's authority is kept there".to_owned(),
        })?;
        Ok(Self::new(state.join("apiproxy").join(cluster).join("pki")))
    }

    /// Where the certificate of an authority is.
    pub fn certificate_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// Where its key is.
    pub fn key_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The certificate of an authority, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn certificate(&self, name: &str) -> Result<Option<Certificate>, PkiError> {
        let text = read(&self.certificate_path(name))?;
        text.map(|text| Certificate::from_pem(&text)).transpose()
    }

    /// The authority, if its key is there.
    ///
    /// # Errors
    /// If a file cannot be read, the two do not belong together, or the key alone is gone.
    pub fn load(&self, name: &str, now: SystemTime) -> Result<Option<Authority>, PkiError> {
        let (certificate, key) = (self.certificate_path(name), self.key_path(name));
        match (read(&certificate)?, read(&key)?) {
            (Some(pem), Some(key_pem)) => Authority::from_pem(&pem, &key_pem).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) => Err(PkiError::File {
                path: key.display().to_string(),
                reason: format!("it is gone, while {} is there", certificate.display()),
                remedy: "put it back from a backup: nothing can be issued without it".to_owned(),
            }),
            // Its making was cut short: nobody has seen a certificate of this key.
            (None, Some(key_pem)) => {
                let made = Authority::of_key(name, &key_pem, now)?;
                put(&certificate, made.pem(), 0o644)?;
                self.load(name, now)
            }
        }
    }

    /// The authority; a new one if there is none. Of two that do this at once, both get the same.
    ///
    /// # Errors
    /// As [`Store::load`], or if a file cannot be written.
    pub fn load_or_create(&self, name: &str, now: SystemTime) -> Result<Authority, PkiError> {
        if let Some(found) = self.load(name, now)? {
            return Ok(found);
        }
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        folder.map_err(|error| fault(&self.folder, &error))?;
        let only_ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&self.folder, only_ours).map_err(|e| fault(&self.folder, &e))?;
        let made = Authority::create(name, now)?;
        put(&self.key_path(name), made.key_pem(), 0o600)?;
        // Whoever was first: its key is the one that is there now.
        let found = self.load(name, now)?;
        found.ok_or_else(|| fault(&self.key_path(name), &io::ErrorKind::NotFound.into()))
    }
}

fn fault(path: &Path, error: &io::Error) -> PkiError {
    PkiError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
        remedy: "see to it that you can read and write there".to_owned(),
    }
}

fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(path, &error)),
    }
}

/// Writes a file as a whole, durably, unless there is one.
fn put(path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder)?;
        file.write_all(content.as_bytes())?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
            Ok(_) => fs::File::open(folder)?.sync_all(),
        }
    };
    write().map_err(|error| fault(path, &error))
}
