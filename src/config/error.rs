//! Why there is no configuration.

use std::io;
use std::path::PathBuf;

use super::faults::Faults;

/// Why a configuration was refused. The text tells the user what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}\n  hint: {hint}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// The file is no configuration: it is far too large. It was not read.
    #[error("{} is larger than {limit} bytes; this is no configuration file", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The largest size that is read.
        limit: u64,
    },
    /// The file is not text in UTF-8.
    #[error("{} is not UTF-8 text: {found}\n  hint: {hint}", path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// What it seems to be.
        found: String,
        /// How to convert it.
        hint: String,
    },
    /// Nothing but blanks and comments.
    #[error("{name} is empty\n  hint: it needs at least `apiVersion`, `kind` and what it is about")]
    Empty {
        /// The name of the file.
        name: String,
    },
    /// Not YAML, or more than one document.
    #[error("{0}")]
    Syntax(Faults),
    /// YAML of another `apiVersion` or `kind`.
    #[error("{0}")]
    WrongKind(Faults),
    /// The values of the file or of the flags do not do.
    #[error("{0}")]
    Faults(Faults),
}

impl ConfigError {
    /// The same in one line a fault, for logs.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Syntax(faults) | Self::WrongKind(faults) | Self::Faults(faults) => faults.lines(),
            other => vec![other.to_string().replace("\n  hint: ", "; ")],
        }
    }

    /// The faults with a place, when that is what is wrong.
    pub fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Syntax(faults) | Self::WrongKind(faults) | Self::Faults(faults) => Some(faults),
            _ => None,
        }
    }
}
