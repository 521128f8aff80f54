//! `apiproxy run`: the proxy, until it is told to end.

use tokio::time::Instant;
use tracing::{info, warn};

use super::args::ProxyArgs;
use super::{CliError, logging, runtime};
use crate::app;
use crate::config::Config;
use crate::hardening::{self, Plan};
use crate::signal::Terminations;

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM and Ctrl-C stop taking clients and let open connections end for connections.drainTimeout;
a second one ends at once.

Examples:
  apiproxy run --config /etc/apiproxy/config.yaml
  apiproxy run --backend 10.0.0.11:6443 --backend 10.0.0.12:6443 --ca-file ca.crt")]
pub(super) struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Do not close the process in (`hardening.enabled: false`).
    #[arg(long)]
    no_hardening: bool,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let config = args.proxy.load()?;
    // Before the first thread starts: all of them inherit it.
    let hardening = (config.hardening.enabled && !args.no_hardening)
        .then(|| hardening::apply(&Plan::new(&config, args.proxy.file())));
    let _log = logging::start(config.log);
    if let Some(report) = hardening {
        report.log();
    } else {
        warn!("hardening is switched off");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(serve(&config));
    // A look-up that hangs in the resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn serve(config: &Config) -> Result<(), CliError> {
    let mut terminations = Terminations::new()
        .map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))?;
    let bound = app::build(config)?;
    let drain = bound.drain();
    let drain_timeout = config.connections.drain_timeout;
    let serve = bound.serve();
    tokio::pin!(serve);
    tokio::select! {
        ended = &mut serve => return Ok(ended?),
        signal = terminations.next() => {
            info!(signal, "told to end; a second signal ends at once");
            drain.start(Instant::now() + drain_timeout);
        }
    }
    tokio::select! {
        ended = &mut serve => return Ok(ended?),
        signal = terminations.next() => {
            info!(signal, "told to end at once");
            drain.end();
        }
    }
    Ok(serve.await?)
}
