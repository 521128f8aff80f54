//! Why there is no cluster.

use std::fmt;

use crate::config::{ConfigError, Faults};

/// Why a cluster file was refused. The text tells the user what to do next.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read, or is no YAML of the right kind.
    #[error("{0}")]
    File(#[from] ConfigError),
    /// Its values do not do, or those of the table of hosts that it names.
    #[error("{0}")]
    Faults(FileFaults),
}

impl SpecError {
    /// The same in one line a fault, for logs.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::File(error) => error.lines(),
            Self::Faults(faults) => faults.0.iter().flat_map(Faults::lines).collect(),
        }
    }
}

/// What is wrong with the cluster file, and with the table that it names; files without a fault are
/// left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFaults(pub Vec<Faults>);

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}
