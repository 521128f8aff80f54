//! `apiproxy status`: what the running proxy sees.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use crossterm::{cursor, execute, terminal};

use super::output::{self, Format};
use super::{CliError, client, runtime};
use crate::admin::{BackendStatus, Status};

/// How often `--watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit 0 when a backend is ready, 1 when none is or the proxy cannot be reached."
)]
pub(super) struct Args {
    /// The proxy's admin.listen.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:10242", env = "APIPROXY_ADMIN")]
    admin: SocketAddr,
    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Show it again every second, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    runtime()?.block_on(async {
        if !args.watch {
            let status = client::status(args.admin).await?;
            show(&status, args.output)?;
            return if status.usable { Ok(()) } else { Err(CliError::Unwell) };
        }
        loop {
            let status = client::status(args.admin).await;
            if io::stdout().is_terminal() && args.output == Format::Table {
                let top = (terminal::Clear(terminal::ClearType::All), cursor::MoveTo(0, 0));
                // A terminal that cannot be cleared scrolls.
                let _ = execute!(io::stdout(), top.0, top.1);
            }
            match status {
                Ok(status) => show(&status, args.output)?,
                // It may come back: that is what one watches for.
                Err(error) => output::complain(&error),
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    })
}

fn show(status: &Status, format: Format) -> Result<(), CliError> {
    match format {
        Format::Json => output::emit_json(status),
        Format::Table => output::emit(&render(status)),
    }
}

fn render(status: &Status) -> String {
    let listen = status.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let ready = status.backends.iter().filter(|b| b.state == crate::model::State::Ready).count();
    let mut text = format!(
        "apiproxy {} on {listen}, up {}: {ready} of {} backends ready{}\n\n",
        status.version,
        output::age(status.uptime_seconds),
        status.backends.len(),
        if status.draining { ", shutting down" } else { "" },
    );
    text += &backends(&status.backends);
    for backend in &status.backends {
        if let Some(warning) = &backend.warning {
            let _ = writeln!(text, "\nwarning: {}: {}", backend.name, warning.message);
        }
    }
    text
}

fn backends(backends: &[BackendStatus]) -> String {
    let header = [
        "BACKEND", "ADDRESS", "ZONE", "STATE", "FOR", "CONNS", "TOTAL", "FAILED", "UP", "DOWN",
        "REASON",
    ];
    let row = |backend: &BackendStatus| {
        let doubt = if backend.suspect { "?" } else { "" };
        vec![
            backend.name.clone(),
            backend.address.clone(),
            backend.zone.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}{doubt}", backend.state),
            output::age(backend.since_seconds),
            backend.connections.to_string(),
            backend.connections_total.to_string(),
            backend.connect_failures_total.to_string(),
            output::bytes(backend.bytes_up),
            output::bytes(backend.bytes_down),
            backend.reason.message.clone(),
        ]
    };
    output::table(&header, backends.iter().map(row).collect())
}
