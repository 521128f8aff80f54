//! `apiproxy run`: the proxy, until it is told to end.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::args::ProxyArgs;
use super::{CliError, logging, runtime};
use crate::app::{self, Given, StartError};
use crate::config::Config;
use crate::control;
use crate::signal::Terminations;

/// How often a process that stands by asks whether it is needed.
const STAND_BY: Duration = Duration::from_secs(1);

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
    /// Take the listeners over from the process that runs with the same control socket, if one does;
    /// it drains, and no client is refused or reset.
    #[arg(long)]
    take_over: bool,
    /// Which of several processes that take over from each other this is: one does not hand over to
    /// an older one, which stands by until it is gone.
    #[arg(long, value_name = "N", requires = "take_over")]
    generation: Option<u32>,
}

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let config = args.proxy.load()?;
    let _log = logging::start(config.log);
    let runtime = runtime()?;
    let result = runtime.block_on(serve(&config, args));
    // A look-up that hangs in the resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn serve(config: &Config, args: &Args) -> Result<(), CliError> {
    let mut terminations = Terminations::new()
        .map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))?;
    let given = tokio::select! {
        given = given(config, args) => given?,
        signal = terminations.next() => {
            info!(signal, "told to end");
            return Ok(());
        }
    };
    let bound = app::build_on(config, given)?;
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

/// What the process starts with. Waits while a newer generation serves.
async fn given(config: &Config, args: &Args) -> Result<Given, CliError> {
    let given = Given::from_env()?.generation(args.generation);
    if !args.take_over {
        return Ok(given);
    }
    let Some(path) = &config.admin.control_socket else {
        return Err(CliError::Usage(
            "--take-over needs a control socket: admin.controlSocket is empty".to_owned(),
        ));
    };
    let mut told = false;
    loop {
        match control::take_over(path, args.generation).await {
            Ok(Some(takeover)) => return Ok(given.taken_over(takeover)),
            Ok(None) => return Ok(given),
            Err(error) if error.passes() => {
                if !told {
                    info!(reason = %error, "standing by");
                    told = true;
                }
                sleep(STAND_BY).await;
            }
            Err(error) => return Err(StartError::from(error).into()),
        }
    }
}
