//! `apiproxy reload`: has the running proxy read its configuration again.

use super::drain::Socket;
use super::{CliError, output, runtime};
use crate::control::{Answer, Request};

/// Flags of `reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit 0 when the new configuration is in force, 1 when the last good one stays.")]
pub(super) struct Args {
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    runtime()?.block_on(async {
        match args.socket.ask(&Request::Reload {}).await? {
            Answer::Reloaded { outcome } => output::emit(&format!("{outcome}\n")),
            answer => Err(CliError::odd_answer(&answer)),
        }
    })
}
