//! `apiproxy status`: what the running proxy sees, once or again and again.

mod feed;
mod render;
mod source;
mod watch;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::output::{self, Format};
use super::{CliError, runtime};
use source::Source;

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit 0 when a backend is ready, of each cluster if there are several; 1 when none is or the proxy cannot be reached; with --events, 0 when it can. The same in a browser: http://127.0.0.1:10242/"
)]
pub(super) struct Args {
    /// The proxy's admin.listen, which is asked in place of the control socket [default:
    /// 127.0.0.1:10242]. The variable gives way to a flag --control-socket.
    #[arg(long, value_name = "IP:PORT", env = "APIPROXY_ADMIN")]
    admin: Option<SocketAddr>,
    /// The proxy's admin.controlSocket, which is asked unless --admin is given; "" for none [default:
    /// /run/apiproxy/control.sock if it is there and may be asked, else admin.listen].
    #[arg(long, value_name = "PATH", env = "APIPROXY_CONTROL_SOCKET")]
    control_socket: Option<OsString>,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Show what has happened and why: the last 256 events, the oldest first.
    #[arg(long, short)]
    events: bool,
    /// Show it again every second, until Ctrl-C; on a terminal in place. With --events and without a
    /// terminal: each event once, when it happens.
    #[arg(long, short)]
    watch: bool,
}

/// The default of `admin.listen`.
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10242);

impl Args {
    /// What a flag says of whom to ask counts for more than what the environment says.
    pub(super) fn prefer_flags(&mut self, matches: &ArgMatches) {
        let named = self.control_socket.as_ref().is_some_and(|path| !path.is_empty())
            && matches.value_source("control_socket") == Some(ValueSource::CommandLine);
        if named && matches.value_source("admin") == Some(ValueSource::EnvVariable) {
            self.admin = None;
        }
    }
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    runtime()?.block_on(async {
        if args.watch {
            return watch::run(args).await;
        }
        let source = Source::new(args);
        if args.events {
            let history = source.events().await?;
            return match args.output {
                Format::Json => output::emit_json(&history),
                Format::Table => output::emit(&render::events(&history.events)),
            };
        }
        let status = source.status().await?;
        match args.output {
            Format::Json => output::emit_json(&status)?,
            Format::Table => output::emit(&render::status(&status))?,
        }
        let mut clusters = status.clusters.iter().filter(|cluster| !cluster.leaving);
        let well = status.usable && clusters.all(|cluster| cluster.usable);
        if well { Ok(()) } else { Err(CliError::Unwell) }
    })
}
