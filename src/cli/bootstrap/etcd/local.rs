//! What hosts are asked by each other and by the operator's machine: to take a copy, to say what they have.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::bootstrap::backup::{self, Depot, Permit, Reply, Rules};
use crate::bootstrap::restore;
use crate::cli::{CliError, output};

/// Flags of `etcd receive`: what the key of the other host allows, fixed in `authorized_keys`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ReceiveArgs {
    /// The folder of copies.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// The only cluster whose backups are taken.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// How many backups are kept.
    #[arg(long, value_name = "N")]
    keep: usize,
    /// For how many seconds each is kept, whatever comes after it.
    #[arg(long, value_name = "SECONDS")]
    at_least: u64,
}

/// Flags of `etcd inventory`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct InventoryArgs {
    /// The folder of backups.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Read each bundle and compare it with its checksum.
    #[arg(long)]
    examine: bool,
}

pub(super) fn receive(args: &ReceiveArgs) -> Result<(), CliError> {
    let rules = Rules { keep: args.keep, at_least: args.at_least };
    let permit = Permit { cluster: &args.cluster, folder: &args.directory, rules };
    let command = std::env::var("SSH_ORIGINAL_COMMAND").ok();
    let mut input = std::io::stdin().lock();
    let reply = backup::receive(&permit, command.as_deref(), &mut input, SystemTime::now());
    output::emit(&output::json_line(&reply)?)?;
    if let Reply::Refused(_) = reply { Err(CliError::Unwell) } else { Ok(()) }
}

pub(super) fn inventory(args: &InventoryArgs) -> Result<(), CliError> {
    let failed = |error: backup::DepotError| CliError::Failed(error.to_string());
    let all = match Depot::existing(&args.directory) {
        None => Vec::new(),
        Some(depot) => {
            let all = depot.list().map_err(failed)?.into_iter();
            all.map(|one| if args.examine { depot.examine(one) } else { one }).collect()
        }
    };
    output::emit(&output::json_line(&all)?)
}

/// Flags of `etcd rebuild`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RebuildArgs {
    /// Only tell whether it could be done.
    #[arg(long)]
    rehearse: bool,
}

pub(super) fn rebuild(args: &RebuildArgs) -> Result<(), CliError> {
    if args.rehearse {
        let trial: restore::Trial = serde_json::from_reader(std::io::stdin().lock())
            .map_err(|error| CliError::Usage(format!("standard input is no trial: {error}")))?;
        return restore::rehearse(&trial).map_err(|error| CliError::Failed(error.to_string()));
    }
    let order: restore::Order = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| CliError::Usage(format!("standard input is no order: {error}")))?;
    let rebuilt = restore::rebuild(&order).map_err(|error| CliError::Failed(error.to_string()))?;
    output::emit(&output::json_line(&rebuilt)?)
}
