//! A bundle: one tar archive of the manifest and of all that a cluster is made of, sealed as a whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use ring::digest::{Context, SHA256};
use tar::{Archive, Builder, EntryType, Header};

use super::manifest::{Manifest, Part};
use super::seal::{Identities, SealError, seal};
use crate::bootstrap::hex::hex;

/// The manifest in the archive: its first file.
const MANIFEST: &str = "manifest.json";

/// No manifest is longer: a thousand prefixes take 100 KiB.
const MANIFEST_LIMIT: u64 = 16 << 20;

/// Why a bundle cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A part of it is not what the manifest says.
    #[error("{path} {what}")]
    Part {
        /// The part.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is no bundle.
    #[error("it is no bundle of a backup: {0}")]
    Foreign(String),
}

/// A file that is put into a bundle.
#[derive(Debug)]
pub(super) struct Ingredient {
    /// Its path in the bundle.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// Where a file of a bundle comes from.
pub(super) enum Content {
    /// A file, which stays the same meanwhile.
    File(PathBuf),
    /// These bytes, which may be secret.
    Bytes(Vec<u8>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
        }
    }
}

impl Ingredient {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.content {
            Content::File(path) => Box::new(File::open(path)?),
            Content::Bytes(bytes) => Box::new(bytes.as_slice()),
        })
    }

    /// Its length and checksum.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn measure(&self) -> io::Result<Part> {
        let mut summed = Summed::new(self.open()?);
        let size = io::copy(&mut summed, &mut io::sink())?;
        Ok(Part { path: self.path.clone(), size, sha256: summed.sum() })
    }
}

/// Reads or writes and sums up what goes through.
pub(super) struct Summed<T> {
    inner: T,
    context: Context,
    len: u64,
}

impl<T> Summed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, context: Context::new(&SHA256), len: 0 }
    }

    /// How many bytes went through.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// SHA-256 of what went through.
    pub(super) fn sum(self) -> String {
        hex(self.context.finish().as_ref())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.len += bytes.len() as u64;
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.add(&buffer[..count]);
        Ok(count)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(0);
    header
}

/// Writes a bundle of these files, whose measures are the manifest's parts in this order.
///
/// # Errors
/// If it cannot be written, or a file is not what was measured.
pub(super) fn write<W: Write>(
    out: W,
    manifest: &Manifest,
    ingredients: &[Ingredient],
    recipients: &[String],
) -> Result<W, BundleError> {
    seal(out, recipients, |out| {
        let mut archive = Builder::new(out);
        let json = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
        archive.append_data(&mut header(json.len() as u64), MANIFEST, json.as_slice())?;
        for (part, ingredient) in manifest.parts.iter().zip(ingredients) {
            // A file that has become shorter must not shift what follows.
            let mut summed = Summed::new(ingredient.open()?.take(part.size));
            archive.append_data(&mut header(part.size), &part.path, &mut summed)?;
            if summed.len() != part.size || summed.sum() != part.sha256 {
                let what = "changed while it was put into the bundle";
                return Err(BundleError::Part { path: part.path.clone(), what });
            }
        }
        archive.into_inner()?.flush()?;
        Ok(())
    })
}

/// Reads a bundle to its end and checks every part; each is handed out while it is read.
///
/// # Errors
/// If it cannot be opened or read, or is not what its manifest says.
pub(super) fn read(
    input: impl Read,
    encrypted: bool,
    keys: &Identities,
    part: &mut dyn FnMut(&Manifest, &Part, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, BundleError> {
    let mut plain: Box<dyn Read + '_> = if encrypted { keys.open(input)? } else { Box::new(input) };
    let manifest = {
        let mut archive = Archive::new(&mut plain);
        let mut entries = archive.entries()?;
        let mut first =
            entries.next().ok_or_else(|| BundleError::Foreign("it is empty".to_owned()))??;
        if first.path_bytes().as_ref() != MANIFEST.as_bytes() || first.size() > MANIFEST_LIMIT {
            return Err(BundleError::Foreign("it does not begin with a manifest".to_owned()));
        }
        let mut json = Vec::new();
        first.read_to_end(&mut json)?;
        let manifest: Manifest = serde_json::from_slice(&json)
            .map_err(|error| BundleError::Foreign(format!("its manifest is none: {error}")))?;
        for expected in &manifest.parts {
            let wrong = |what| BundleError::Part { path: expected.path.clone(), what };
            let mut entry = entries.next().ok_or_else(|| wrong("is missing"))??;
            if entry.path_bytes().as_ref() != expected.path.as_bytes() {
                return Err(wrong("is missing"));
            }
            let mut summed = Summed::new(&mut entry);
            part(&manifest, expected, &mut summed)?;
            // What nobody wanted counts too.
            io::copy(&mut summed, &mut io::sink())?;
            if summed.len() != expected.size {
                return Err(wrong("is cut"));
            }
            if summed.sum() != expected.sha256 {
                return Err(wrong("is damaged: its checksum does not fit"));
            }
        }
        if entries.next().is_some() {
            return Err(BundleError::Foreign("it holds more than its manifest says".to_owned()));
        }
        manifest
    };
    // The last piece of what is encrypted proves that nothing was cut off.
    io::copy(&mut plain, &mut io::sink())?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::super::manifest::made::label;
    use super::super::seal::made::pair;
    use super::*;

    fn ingredients() -> Vec<Ingredient> {
        let file = |path: &str, bytes: &[u8]| Ingredient {
            path: path.to_owned(),
            content: Content::Bytes(bytes.to_vec()),
        };
        vec![file("etcd/snapshot.db", &[7; 100_000]), file("pki/sa.key", b"secret")]
    }

    fn manifest(ingredients: &[Ingredient]) -> Manifest {
        let mut manifest = label(1_796_104_859, 0, "").manifest;
        manifest.parts = ingredients.iter().map(|one| one.measure().unwrap()).collect();
        manifest
    }

    fn bundle(recipients: &[String]) -> (Manifest, Vec<u8>) {
        let all = ingredients();
        let manifest = manifest(&all);
        let bytes = write(Vec::new(), &manifest, &all, recipients).unwrap();
        (manifest, bytes)
    }

    fn read_all(
        bytes: &[u8],
        encrypted: bool,
        keys: &Identities,
    ) -> Result<(Manifest, Vec<(String, usize)>), BundleError> {
        let mut seen = Vec::new();
        let manifest = read(bytes, encrypted, keys, &mut |_, part, input| {
            let mut content = Vec::new();
            input.read_to_end(&mut content)?;
            seen.push((part.path.clone(), content.len()));
            Ok(())
        })?;
        Ok((manifest, seen))
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let (public, private) = pair();
        let keys = Identities::parse(&private).unwrap();
        for recipients in [vec![], vec![public]] {
            let (manifest, bytes) = bundle(&recipients);
            let (read, seen) = read_all(&bytes, !recipients.is_empty(), &keys).unwrap();
            assert_eq!(read, manifest);
            let names = [("etcd/snapshot.db".to_owned(), 100_000), ("pki/sa.key".to_owned(), 6)];
            assert_eq!(seen, names);
        }
        assert_eq!(bundle(&[]).1, bundle(&[]).1, "the same files make the same bytes");
    }

    #[test]
    fn each_damage_is_named() {
        let none = Identities::default();
        let (_, bytes) = bundle(&[]);
        let fault = |bytes: &[u8]| read_all(bytes, false, &none).unwrap_err().to_string();
        let mut flipped = bytes.clone();
        let at = bytes.windows(6).position(|window| window == b"secret").unwrap();
        flipped[at] ^= 1;
        assert_eq!(fault(&flipped), "pki/sa.key is damaged: its checksum does not fit");
        assert_eq!(fault(&bytes[..at - 512]), "pki/sa.key is missing");
        assert_eq!(fault(b""), "it is no bundle of a backup: it is empty");
        let manifest = manifest(&ingredients());
        let other = write(Vec::new(), &Manifest { parts: vec![], ..manifest }, &[], &[]).unwrap();
        let more = [&other[..other.len() - 1024], &bytes].concat();
        assert!(fault(&more).contains("more than its manifest says"));
        assert!(!fault(&bytes[..3000]).is_empty());
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_told() {
        let all = ingredients();
        let mut manifest = manifest(&all);
        manifest.parts[1].sha256 = "0".repeat(64);
        let error = write(Vec::new(), &manifest, &all, &[]).unwrap_err().to_string();
        assert_eq!(error, "pki/sa.key changed while it was put into the bundle");
    }
}
