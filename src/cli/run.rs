//! `apiproxy run`: the proxy, until it is told to end.

use tokio::time::Instant;
use tracing::{info, warn};

use super::args::ProxyArgs;
use super::{CliError, logging, runtime};
use crate::app::{self, Commands, Given, Source, StandBy, StartError};
use crate::config::Config;
use crate::hardening::{self, Plan};
use crate::signal::{Hangups, Terminations};
use crate::{control, discovery};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
SIGTERM and Ctrl-C stop taking clients and let open connections end for connections.drainTimeout;
a second one ends at once. The configuration file is read again when it changes, and at SIGHUP.

Examples:
  apiproxy run --config /etc/apiproxy/config.yaml
  apiproxy run --backend 10.0.0.11:6443 --backend 10.0.0.12:6443 --ca-file ca.crt")]
pub(super) struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Do not close the process in (`hardening.enabled: false`).
    #[arg(long)]
    no_hardening: bool,
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
    let source = args.proxy.source()?;
    let config = source.load()?;
    // Before the first thread starts: all of them inherit it.
    let (source, report) = close_in(args, &config, source);
    let (_log, set_level) = logging::start(config.log);
    let source = source.with_log(set_level);
    if let Some(report) = report {
        report.log();
    } else {
        warn!("hardening is switched off");
    }
    let runtime = runtime()?;
    let result = runtime.block_on(serve(&config, source, args));
    // A look-up that hangs in the resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

/// Closes the process in for this configuration, unless that is switched off. A later one that needs
/// more is refused.
fn close_in(args: &Args, config: &Config, source: Source) -> (Source, Option<hardening::Report>) {
    if !config.hardening.enabled || args.no_hardening {
        return (source, None);
    }
    let file = source.file().map(ToOwned::to_owned);
    let plan = move |config: &Config| {
        let kubeconfig = config.discovery.kubeconfig.as_deref();
        let named = kubeconfig.map(discovery::files_named_by).unwrap_or_default();
        named.iter().fold(Plan::new(config, file.as_deref()), |plan, file| plan.reading(file))
    };
    let allowed = plan(config);
    if let Some(socket) = &config.admin.control_socket {
        // What is not there now stays out of reach.
        control::make_folder(socket);
    }
    let report = hardening::apply(&allowed);
    // Which socket it is only a restart changes.
    let socket = config.admin.control_socket.clone();
    let lacks = move |later: &Config| {
        let mut later = later.clone();
        later.admin.control_socket.clone_from(&socket);
        allowed.lacks(&plan(&later))
    };
    (source.with_limits(lacks), Some(report))
}

async fn serve(config: &Config, source: Source, args: &Args) -> Result<(), CliError> {
    let failed = |error| CliError::Failed(format!("cannot handle signals: {error}"));
    let mut terminations = Terminations::new().map_err(failed)?;
    let hangups = Hangups::new().map_err(failed)?;
    let given = tokio::select! {
        given = given(config, args) => given?,
        signal = terminations.next() => {
            info!(signal, "told to end");
            return Ok(());
        }
    };
    let mut bound = app::build_on(config, given)?;
    bound.follow(source);
    let drain = bound.drain();
    let drain_timeout = bound.drain_timeout();
    let reloads = reload_at(hangups, bound.commands());
    tokio::pin!(reloads);
    let serve = bound.serve();
    tokio::pin!(serve);
    tokio::select! {
        ended = &mut serve => return Ok(ended?),
        () = &mut reloads => {}
        signal = terminations.next() => {
            info!(signal, "told to end; a second signal ends at once");
            drain.start(Instant::now() + drain_timeout());
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

/// Reloads at every SIGHUP, also when the terminal goes away. The proxy logs what becomes of it.
async fn reload_at(mut hangups: Hangups, commands: Commands) {
    loop {
        hangups.next().await;
        info!("SIGHUP: the configuration is read again");
        let _told = commands.reload().await;
    }
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
    let mut stand_by = StandBy::from_env();
    loop {
        let given = match control::take_over(path, args.generation).await {
            Ok(Some(takeover)) => given.taken_over(takeover),
            Ok(None) => given,
            Err(error) if error.passes() => {
                stand_by.wait(&error).await;
                continue;
            }
            Err(error) => return Err(StartError::from(error).into()),
        };
        return Ok(given.stood_by(stand_by.is_told()));
    }
}
