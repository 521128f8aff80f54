//! One host while it is looked at or changed.

use std::sync::Arc;

use super::look::Look;
use super::shelf::Shelf;
use crate::bootstrap::engine::Change;
use crate::bootstrap::spec::{Cluster, Host};
use crate::bootstrap::transport::File;

/// A host, what is wished of it, and how it stands.
pub(super) struct Case<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) host: &'a Host,
    pub(super) look: &'a Look,
    pub(super) shelf: &'a Arc<Shelf>,
}

/// What is not as it should be.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) why: Vec<String>,
    pub(super) diffs: Vec<String>,
}

impl Found {
    pub(super) fn because(&mut self, why: impl Into<String>) {
        self.why.push(why.into());
    }

    /// Looks at a file.
    pub(super) fn file(&mut self, case: &Case<'_>, file: &File) {
        if let Some(diff) = case.look.file(file) {
            let there = case.look.files.contains_key(&file.path);
            let how = if there { "is not as it should be" } else { "is not there" };
            self.because(format!("{} {how}", file.path));
            self.diffs.push(diff);
        }
    }

    /// The change, if there is one to be made.
    pub(super) fn change(self) -> Option<Change> {
        let why = self.why.join("; ");
        (!why.is_empty()).then_some(Change { why, diffs: self.diffs })
    }
}
