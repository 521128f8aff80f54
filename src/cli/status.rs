//! `apiproxy status`: what the running proxy sees, once or again and again.

mod render;
mod watch;

use std::net::SocketAddr;

use super::output::{self, Format};
use super::{CliError, client, runtime};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit 0 when a backend is ready, 1 when none is or the proxy cannot be reached; with --events, 0 when it can. The same in a browser: http://127.0.0.1:10242/"
)]
pub(super) struct Args {
    /// The proxy's admin.listen.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10242", env = "APIPROXY_ADMIN")]
    admin: SocketAddr,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Show what has happened and why: the last 256 events, the oldest first.
    #[arg(long, short)]
    events: bool,
    /// Show it again every second, until Ctrl-C; on a terminal in place.
    #[arg(long, short)]
    watch: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    runtime()?.block_on(async {
        if args.watch {
            return watch::run(args).await;
        }
        if args.events {
            let history = client::events(args.admin).await?;
            return match args.output {
                Format::Json => output::emit_json(&history),
                Format::Table => output::emit(&render::events(&history.events)),
            };
        }
        let status = client::status(args.admin).await?;
        match args.output {
            Format::Json => output::emit_json(&status)?,
            Format::Table => output::emit(&render::status(&status))?,
        }
        if status.usable { Ok(()) } else { Err(CliError::Unwell) }
    })
}
