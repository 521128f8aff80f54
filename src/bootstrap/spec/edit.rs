//! Changes of a cluster file as text: what is not changed keeps its comments and its layout.

mod hosts;
mod layout;
mod scan;
mod table;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::PathBuf;

use super::{Host, Version, shape};
use crate::config::Document;
use layout::Layout;
use table::Table;

/// Why a text cannot be changed by us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct EditError {
    /// Why.
    pub reason: String,
    /// What the user can do.
    pub remedy: String,
}

impl EditError {
    fn by_hand(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// The text with another version of Kubernetes.
///
/// # Errors
/// The text is no cluster file, or has the version where it cannot be changed.
pub(super) fn with_version(text: &str, version: Version) -> Result<String, EditError> {
    edited(text, |layout, edits| {
        let place = layout.scalar("spec.kubernetesVersion").ok_or_else(|| {
            let remedy = format!("write `kubernetesVersion: {version}` into it");
            EditError::by_hand("the file says its version in a way that is not understood", remedy)
        })?;
        edits.replace(place.clone(), layout.like(&place, &version.to_string()));
        Ok(())
    })
}

/// The text, and that of the table of hosts that it may name, in which `new` has taken the place of
/// `old`: that one is not named any more, and `new` has the roles, labels and taints that it comes with
/// here.
///
/// # Errors
/// The text is no cluster file, or names one of them in a way that is not understood.
pub(super) fn with_replacement(
    text: &str,
    table: Option<&str>,
    old: &str,
    new: &Host,
) -> Result<(String, Option<String>), EditError> {
    let mut rows = Edits::default();
    let parsed = table.map(Table::new);
    let text = edited(text, |layout, edits| {
        hosts::replace(layout, parsed.as_ref(), (edits, &mut rows), old, new)
    })?;
    Ok((text, table.map(|table| rows.of(table, 0..table.len()))))
}

/// The table of hosts that a text names.
pub(super) fn table_of(text: &str) -> Option<PathBuf> {
    let (document, mut faults) = Document::parse("", text).ok()?;
    document.read::<shape::File>(&mut faults)?.spec?.hosts_from
}

/// Parses, changes, and puts a byte order mark back.
fn edited(
    text: &str,
    change: impl FnOnce(&Layout<'_>, &mut Edits) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, _) = Document::parse("", bare)
        .map_err(|error| EditError::by_hand(error.to_string(), "mend the file first"))?;
    let layout = Layout::new(bare, &document);
    let mut edits = Edits::default();
    change(&layout, &mut edits)?;
    let mark = &text[..text.len() - bare.len()];
    Ok(format!("{mark}{}", edits.of(bare, 0..bare.len())))
}

/// What is to be put in the place of what; nothing overlaps.
#[derive(Debug, Default)]
struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    fn replace(&mut self, range: Range<usize>, text: impl Into<String>) {
        self.0.push((range, text.into()));
    }

    fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    /// This part of the text with all that was changed in it.
    fn of(&self, text: &str, part: Range<usize>) -> String {
        let mut edits: Vec<_> = self.0.iter().collect();
        edits.sort_by_key(|(range, _)| (range.start, range.end));
        let mut changed = String::new();
        let mut at = part.start;
        for (range, new) in edits {
            // What was removed as a whole needs no change inside.
            if range.start < at || range.end > part.end {
                continue;
            }
            changed.push_str(&text[at..range.start]);
            changed.push_str(new);
            at = range.end;
        }
        changed + &text[at..part.end]
    }
}
