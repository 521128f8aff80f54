//! Which hosts of the cluster are meant: `--host 'w[1-20]' --host cp1`.

use super::range::{Pattern, RangeError};
use super::{Cluster, Host};
use crate::config::nearest;

/// Most unknown names that are told.
const SHOWN: usize = 3;

/// Names and ranges of names; none at all means every host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection(Vec<Pattern>);

/// Why hosts cannot be selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// A text is neither a name nor a range of names.
    #[error("--host {text}: {error}")]
    Range {
        /// The text.
        text: String,
        /// What is wrong with it.
        error: RangeError,
    },
    /// Names that no host has.
    #[error("--host {pattern}: {problem}")]
    Unknown {
        /// The name or range.
        pattern: String,
        /// Which names, and which were most likely meant.
        problem: String,
    },
}

impl Selection {
    /// Reads names and ranges.
    ///
    /// # Errors
    /// If one of them is neither.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, SelectionError> {
        let pattern = |text: &T| {
            let text = text.as_ref();
            let wrong = |error| SelectionError::Range { text: text.to_owned(), error };
            text.parse().map_err(wrong)
        };
        texts.iter().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// Is every host meant?
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The selected hosts, each once, in the order of the file.
    ///
    /// # Errors
    /// If a name is not that of a host.
    pub fn of<'a>(&self, cluster: &'a Cluster) -> Result<Vec<&'a Host>, SelectionError> {
        if self.is_everything() {
            return Ok(cluster.hosts.iter().collect());
        }
        let known: std::collections::HashSet<_> =
            cluster.hosts.iter().map(|host| host.name.as_str()).collect();
        let mut wanted = std::collections::HashSet::new();
        for pattern in &self.0 {
            let names = pattern.expand();
            let unknown: Vec<_> =
                names.iter().filter(|name| !known.contains(name.as_str())).collect();
            if let Some(first) = unknown.first() {
                let problem = problem(first, &unknown, cluster);
                return Err(SelectionError::Unknown { pattern: pattern.to_string(), problem });
            }
            wanted.extend(names);
        }
        Ok(cluster.hosts.iter().filter(|host| wanted.contains(&host.name)).collect())
    }
}

fn problem(first: &str, unknown: &[&String], cluster: &Cluster) -> String {
    let names: Vec<_> = cluster.hosts.iter().map(|host| host.name.as_str()).collect();
    if unknown.len() == 1 {
        return match nearest(first, &names) {
            Some(name) => format!("no host is called `{first}`; did you mean `{name}`?"),
            None => format!("no host is called `{first}`; see `hosts` of the cluster file"),
        };
    }
    let shown: Vec<_> = unknown.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = match unknown.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("no hosts are called {}{more}; see `hosts` of the cluster file", shown.join(", "))
}
