//! Certificates and keys from files, and whether the files have changed since.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Where trust and identity are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// PEM bundle of CAs; `None` accepts any certificate.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why files are no good as trust or identity.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds nothing of the kind that is wanted.
    #[error("{path} holds no {wanted} in PEM form")]
    Empty {
        /// Which file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// The file holds broken PEM or a certificate that cannot be used.
    #[error("{path} is not usable: {detail}")]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// The client certificate and the key cannot be used together.
    #[error("{key} is no key for the certificate in {chain}: {source}")]
    Unmatched {
        /// The file of the certificate.
        chain: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Trust and identity, as read.
#[derive(Debug)]
pub struct Material {
    /// The CAs; `None` accepts any certificate.
    pub roots: Option<Arc<RootCertStore>>,
    /// Client certificate chain and key.
    pub identity: Option<Identity>,
}

/// A client certificate chain and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// What changes when one of the files is rewritten, replaced, removed or made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamps(Vec<Stamp>);

/// Device, inode, size and time of change of a file; `None` while there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// A file is missing, unreadable, or holds no usable PEM; certificate and key are no pair, as for
    /// a moment while both are replaced.
    pub fn read(paths: &Paths) -> Result<Self, MaterialError> {
        let roots = paths.ca.as_deref().map(read_roots).transpose()?;
        let identity = match &paths.identity {
            Some((chain, key)) => Some(read_identity(chain, key)?),
            None => None,
        };
        Ok(Self { roots: roots.map(Arc::new), identity })
    }
}

impl Stamps {
    /// The stamps of the files as they are now. Take them before reading: a change while reading
    /// is then seen as a change afterwards.
    pub fn of(paths: &Paths) -> Self {
        let identity = paths.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let stamp =
            |meta: Metadata| (meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
        let files = paths.ca.iter().chain(identity);
        Self(files.map(|path| std::fs::metadata(path).ok().map(stamp)).collect())
    }
}

fn pem_error(path: &Path, wanted: &'static str, error: PemError) -> MaterialError {
    let path = path.to_owned();
    match error {
        PemError::Io(source) => MaterialError::Read { path, source },
        PemError::NoItemsFound => MaterialError::Empty { path, wanted },
        other => MaterialError::Broken { path, detail: other.to_string() },
    }
}

/// Refuses what would make a read wait or never end, such as a named pipe.
fn regular(path: &Path) -> Result<(), MaterialError> {
    let path = path.to_owned();
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(MaterialError::Broken { path, detail: "it is not a regular file".to_owned() }),
        Err(source) => Err(MaterialError::Read { path, source }),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let wanted = "certificate";
    regular(path)?;
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|error| pem_error(path, wanted, error))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(path, wanted, error))?;
    if found.is_empty() {
        return Err(MaterialError::Empty { path: path.to_owned(), wanted });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, MaterialError> {
    regular(path)?;
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(path, "private key", error))
}

fn read_identity(chain_path: &Path, key_path: &Path) -> Result<Identity, MaterialError> {
    let identity = (certificates(chain_path)?, private_key(key_path)?);
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(identity.0.clone(), identity.1.clone_key(), &provider).map_err(
        |source| MaterialError::Unmatched {
            chain: chain_path.to_owned(),
            key: key_path.to_owned(),
            source,
        },
    )?;
    Ok(identity)
}

/// Takes every CA of a bundle that can be used; one strange certificate must not disable the others.
fn read_roots(path: &Path) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    let (usable, _strange) = roots.add_parsable_certificates(certificates(path)?);
    if usable == 0 {
        let (path, detail) = (path.to_owned(), "none of its certificates can be used".to_owned());
        return Err(MaterialError::Broken { path, detail });
    }
    Ok(roots)
}
