//! `apiproxy bootstrap etcd`: backups of the cluster, from taking them to bringing it back.

mod backup;
mod drill;
mod list;
mod local;
mod note;
mod restore;

use crate::bootstrap::transport::Output;
use crate::cli::CliError;

/// The commands of `bootstrap etcd`.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Args {
    /// Take a backup now, on one member that is fit for it, and copy it to where it should be.
    Backup(backup::Args),
    /// Show every backup, what is in it and where its copies are.
    List(list::Args),
    /// Have every copy read and compared with its checksum. Exit 1 if one is not intact.
    Verify(list::VerifyArgs),
    /// Restore a backup into an etcd of its own, compare what is in it, and leave nothing.
    Drill(drill::Args),
    /// Bring etcd back from a backup, onto the same hosts or onto spares.
    Restore(Box<restore::Args>),
    /// Take a backup that another host sends, as the key of its ssh allows.
    #[command(hide = true)]
    Receive(local::ReceiveArgs),
    /// Make the data of this host's member anew, as standard input says.
    #[command(hide = true)]
    Rebuild(local::RebuildArgs),
    /// Say what lies in a folder of backups, as JSON.
    #[command(hide = true)]
    Inventory(local::InventoryArgs),
    /// Have this host remember what came of a drill, or when the next backup is due, for its metrics.
    #[command(hide = true)]
    Note(note::Args),
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    match args {
        Args::Backup(args) => backup::run(args),
        Args::List(args) => list::run(args),
        Args::Verify(args) => list::verify(args),
        Args::Drill(args) => drill::run(args),
        Args::Restore(args) => restore::run(args),
        Args::Rebuild(args) => local::rebuild(args),
        Args::Receive(args) => local::receive(args),
        Args::Inventory(args) => local::inventory(args),
        Args::Note(args) => note::run(args),
    }
}

/// Why the program of a host failed, as it told itself.
fn told(output: &Output) -> String {
    output.complaint().trim_start_matches("apiproxy: ").to_owned()
}
