//! Reads small text files, and refuses what cannot be one before it costs memory.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::ConfigError;

/// The largest configuration, certificate or key file that is read: 1 MiB.
pub(super) const LARGEST: u64 = 1024 * 1024;

/// Reads a configuration file.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let too_large = || ConfigError::TooLarge { path: path.to_owned(), limit: LARGEST };
    let bytes = match read_bytes(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(too_large()),
        Err(source) => {
            let hint = advice(&source);
            return Err(ConfigError::Unreadable { path: path.to_owned(), source, hint });
        }
    };
    let encoding = foreign_encoding(&bytes);
    let text = String::from_utf8(bytes);
    match (encoding, text) {
        (None, Ok(text)) => Ok(text),
        (Some(encoding), _) => Err(ConfigError::NotUtf8 {
            path: path.to_owned(),
            found: format!("it looks like {encoding}"),
            hint: format!(
                "convert it: iconv -f {encoding} -t UTF-8 {} > utf8.yaml",
                path.display()
            ),
        }),
        (None, Err(error)) => {
            let valid = error.utf8_error().valid_up_to();
            let lines = error.as_bytes()[..valid].split(|byte| *byte == b'\n');
            let line = lines.count();
            Err(ConfigError::NotUtf8 {
                path: path.to_owned(),
                found: format!("byte {valid}, in line {line}, is no part of a character"),
                hint: "save it as UTF-8; from Latin-1: iconv -f ISO-8859-1 -t UTF-8".to_owned(),
            })
        }
    }
}

/// The bytes of a file, or `None` when it is larger than [`LARGEST`].
pub(super) fn read_bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    if is_named_pipe(path) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is a named pipe"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() && metadata.len() > LARGEST {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= LARGEST);
    Ok(fits.then_some(bytes))
}

/// Is this a pipe in the file system? Opening it would wait for a writer, for ever if none comes.
/// Pipes without a name, `/dev/stdin` and the shell's `<(..)`, have a writer, or end at once; their
/// links lead to no path.
fn is_named_pipe(path: &Path) -> bool {
    let is_pipe = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    is_pipe && path.canonicalize().is_ok()
}

/// What to do about a file that cannot be read.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "make it readable for the user that runs apiproxy",
        ErrorKind::IsADirectory => "name the file in it",
        ErrorKind::InvalidInput => "use a regular file, or /dev/stdin",
        _ => "check the file and its file system",
    }
}

/// The name of the encoding that a byte order mark or a pattern of NULs shows, if not UTF-8.
fn foreign_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [1..=0x7f, 0, 0, 0, ..] => Some("UTF-32LE"),
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, 1..=0x7f, ..] => Some("UTF-32BE"),
        [0xff, 0xfe, ..] | [1..=0x7f, 0, ..] => Some("UTF-16LE"),
        [0xfe, 0xff, ..] | [0, 1..=0x7f, ..] => Some("UTF-16BE"),
        _ => None,
    }
}
