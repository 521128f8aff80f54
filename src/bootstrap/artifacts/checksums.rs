//! `SHA256SUMS`, as sha256sum(1) writes it, and the checksums of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ring::digest::{Context, SHA256};

use super::ArtifactError;
use crate::bootstrap::hex::hex;

/// The name of the list.
pub(super) const NAME: &str = "SHA256SUMS";

/// Checksums by file, relative to the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums(BTreeMap<String, String>);

impl Checksums {
    /// Reads a list: a checksum, a blank, a blank or `*`, and a name on each line.
    ///
    /// # Errors
    /// If a line is something else.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ArtifactError> {
        let mut sums = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let (sum, name) = entry(line).ok_or_else(|| ArtifactError::Checksums {
                path: path.to_owned(),
                line: index + 1,
            })?;
            sums.insert(name, sum);
        }
        Ok(Self(sums))
    }

    /// The checksum of a file, in lower case.
    pub fn of(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn entry(line: &str) -> Option<(String, String)> {
    let (sum, name) = line.split_once(' ')?;
    let hexadecimal = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.strip_prefix([' ', '*']).unwrap_or(name).trim_end();
    let name = name.strip_prefix("./").unwrap_or(name);
    (hexadecimal && !name.is_empty()).then(|| (sum.to_ascii_lowercase(), name.to_owned()))
}

/// The SHA-256 of a file, as hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(context.finish().as_ref())),
            count => context.update(&buffer[..count]),
        }
    }
}

/// The SHA-256 of bytes, as hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_sha256sum_are_read() {
        let sum = "AB".repeat(32);
        let text = format!("{sum}  a/b.tar\n\n{sum} *./c d\n{sum}  e\r\n");
        let sums = Checksums::parse(&text, Path::new(NAME)).expect("it is a list");
        for name in ["a/b.tar", "c d", "e"] {
            assert_eq!(sums.of(name), Some("ab".repeat(32).as_str()), "{name}");
        }
        assert_eq!(sums.of("b.tar"), None);
        let wrong = format!("{sum}  a\nshort  b\n");
        let error = Checksums::parse(&wrong, Path::new(NAME)).expect_err("line 2 is none");
        assert_eq!(
            error.to_string(),
            "SHA256SUMS, line 2: no SHA-256 and file name; make it with `sha256sum`"
        );
    }
}
