//! `apiproxy man`: the manual pages, for packages.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, CliError, output};

/// Flags of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write a page for each command into this folder, instead of printing the first.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let failed = |error| CliError::Failed(format!("cannot write the manual pages: {error}"));
    let command = Cli::command();
    if let Some(folder) = &args.folder {
        return clap_mangen::generate_to(command, folder).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
    output::emit_bytes(&page)
}
