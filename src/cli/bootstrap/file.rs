//! The cluster file as a command changes it: shown first, written when the user wishes it.

use serde_json::json;

use super::access::Form;
use crate::bootstrap::spec::Draft;
use crate::cli::{CliError, output};

/// Flags of commands that mean another cluster file.
#[derive(Debug, clap::Args)]
pub(super) struct Writing {
    /// Write the change into the cluster file too, once it is agreed to. Comments and layout stay.
    #[arg(long)]
    pub(super) write: bool,
    /// Show the change of the file, or write it with --write, and reach no host.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) file_only: bool,
}

impl Writing {
    /// Shows what changes in the file. Is that all there is to do?
    pub(super) fn show(&self, form: Form, draft: &Draft) -> Result<bool, CliError> {
        let (path, diff) = (draft.path().display(), draft.diff());
        match form {
            Form::Json => {
                let event = json!({ "event": "file", "path": path.to_string(), "diff": diff });
                output::emit(&output::json_line(&event)?)?;
            }
            Form::Text => match &diff {
                Some(diff) => output::emit(diff)?,
                None => output::emit(&format!("{path} says so already.\n"))?,
            },
        }
        if self.file_only && self.write && diff.is_some() {
            write(draft)?;
        }
        Ok(self.file_only)
    }

    /// The draft that is to be written when the user has agreed.
    pub(super) fn wanted(&self, draft: &Draft) -> Option<Draft> {
        (self.write && draft.diff().is_some()).then(|| draft.clone())
    }

    /// What the user has to know when the file stays as it is.
    pub(super) fn note(&self, draft: &Draft, otherwise: &str) -> Option<String> {
        let stays = !self.write && draft.diff().is_some();
        let path = draft.path().display();
        stays.then(|| {
            format!(
                "{path} is not changed: change it as shown above, or run this with --write; {otherwise}."
            )
        })
    }
}

/// Writes the file.
pub(super) fn write(draft: &Draft) -> Result<(), CliError> {
    let path = draft.path().display();
    draft.write().map_err(|error| {
        CliError::Failed(format!("cannot write {path}: {error}; no host was changed"))
    })
}
