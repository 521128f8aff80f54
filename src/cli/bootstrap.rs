//! `apiproxy bootstrap`: from bare hosts to a highly available cluster.

mod access;
mod apply;
mod artifacts;
mod check;
mod document;
mod etcd;
mod new;
mod plan;
mod progress;
mod prompt;
mod report;
mod schema;

use super::CliError;

/// The commands of `bootstrap`.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "\
Begin with an example, and put your hosts in:
  apiproxy bootstrap new --name prod --output cluster.yaml
  apiproxy bootstrap schema > cluster.schema.json     # editors complete and check the file with it
Then see whether the hosts are fit and what would be done, and do it:
  apiproxy bootstrap check --file cluster.yaml
  apiproxy bootstrap plan --file cluster.yaml
  apiproxy bootstrap apply --file cluster.yaml")]
pub(super) enum Args {
    /// Print a commented cluster file to begin with.
    New(new::Args),
    /// Look whether the hosts are fit, each finding with its remedy. Changes nothing without --fix.
    Check(check::Args),
    /// What an air-gapped directory of programs and images has to hold.
    #[command(subcommand)]
    Artifacts(artifacts::Args),
    /// Show what `apply` would change on which host, and why. Changes nothing.
    Plan(plan::Args),
    /// Make the hosts what the file says. Can be run again at any time.
    Apply(apply::Args),
    /// Back up the cluster, and prove the backups.
    #[command(subcommand)]
    Etcd(etcd::Args),
    /// Print the JSON Schema of cluster files, for editors.
    Schema,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::New(args) => new::run(args),
        Args::Check(args) => check::run(args),
        Args::Artifacts(args) => artifacts::run(args),
        Args::Plan(args) => plan::run(args),
        Args::Apply(args) => apply::run(args),
        Args::Etcd(args) => etcd::run(args),
        Args::Schema => schema::run(),
    }
}
