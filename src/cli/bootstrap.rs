//! `apiproxy bootstrap`: from bare hosts to a highly available cluster.

mod artifacts;
mod new;
mod schema;

use super::CliError;

/// The commands of `bootstrap`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Begin with an example, and put your hosts in:
  apiproxy bootstrap new --name prod --output cluster.yaml
  apiproxy bootstrap schema > cluster.schema.json     # editors complete and check the file with it")]
pub(super) enum Args {
    /// Print a commented cluster file to begin with.
    New(new::Args),
    /// What an air-gapped directory of programs and images has to hold.
    #[command(subcommand)]
    Artifacts(artifacts::Args),
    /// Print the JSON Schema of cluster files, for editors.
    Schema,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::New(args) => new::run(args),
        Args::Artifacts(args) => artifacts::run(args),
        Args::Schema => schema::run(),
    }
}
