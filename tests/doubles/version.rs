//! The version that a double claims: what is written behind the end of its file, after [`MARK`].

use std::cmp::Ordering;
use std::fmt;
use std::fs;

/// Comes before the version at the end of the file. Put together at run time, so that the program itself
/// does not hold it.
fn mark() -> String {
    ["\n", "double", "-of-version "].concat()
}

/// The version of a double that nothing was written behind.
const DEFAULT: Version = Version { minor: 34, patch: 2 };

/// 1.MINOR.PATCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Version {
    /// Of the running program.
    pub(crate) fn own() -> Self {
        let read = || {
            let program = fs::read(std::env::current_exe().ok()?).ok()?;
            let tail =
                String::from_utf8_lossy(&program[program.len().saturating_sub(64)..]).into_owned();
            Self::parse(tail.rsplit_once(&mark())?.1.trim())
        };
        read().unwrap_or(DEFAULT)
    }

    /// Reads `v1.34.2`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.strip_prefix("v1.")?.split('.').map(str::parse);
        let version = Self { minor: numbers.next()?.ok()?, patch: numbers.next()?.ok()? };
        numbers.next().is_none().then_some(version)
    }

    /// How its minor version stands to another's.
    pub(crate) fn compare_minor(self, other: Self) -> Ordering {
        self.minor.cmp(&other.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1.{}.{}", self.minor, self.patch)
    }
}
