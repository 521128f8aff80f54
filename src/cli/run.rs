//! `apiproxy run`: the proxy, until it is told to end.

use tokio::time::Instant;
use tracing::{info, warn};

use super::args::ProxyArgs;
use super::{CliError, logging, runtime};
use crate::app::{self, Bound, Candidate, Commands, Given, Loaded, Source, Turn};
use crate::config::Config;
use crate::control::{self, Incumbent};
use crate::discovery;
use crate::hardening::{self, Plan};
use crate::signal::{Hangups, Terminations};

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
    // It may stand by for days with the key of a client certificate in memory.
    if is_to_be_closed_in(args, &config) {
        hardening::keep_memory_private();
    }
    let early = logging::start_without_thread(config.log);
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let failed = |error| CliError::Failed(format!("cannot handle signals: {error}"));
        let mut terminations = Terminations::new().map_err(failed)?;
        let hangups = Hangups::new().map_err(failed)?;
        tokio::select! {
            turn = turn(config, source, args) => Ok(Some((turn?, terminations, hangups))),
            signal = terminations.next() => {
                info!(signal, "told to end");
                Ok(None)
            }
        }
    });
    let result = result.and_then(|begun| {
        let Some((turn, terminations, hangups)) = begun else { return Ok(()) };
        let Turn { prepared, given, refusal, source } = turn;
        // Before the first thread starts: all of them inherit it.
        let (source, report) = close_in(args, prepared.config(), source);
        let (_log, set_level) = logging::start(prepared.config().log);
        drop(early);
        let source = source.with_log(set_level);
        if let Some(report) = report {
            report.log();
        } else {
            warn!("hardening is switched off");
        }
        runtime.block_on(async {
            let mut bound = app::build_on(prepared, given)?;
            bound.follow(source);
            if let Some(refusal) = refusal {
                bound.refused(&refusal);
            }
            Box::pin(serve(bound, terminations, hangups)).await
        })
    });
    // A look-up that hangs in the resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

fn is_to_be_closed_in(args: &Args, config: &Config) -> bool {
    config.hardening.enabled && !args.no_hardening
}

/// Closes the process in for this configuration, unless that is switched off. A later one that needs
/// more is refused.
fn close_in(args: &Args, config: &Config, source: Source) -> (Source, Option<hardening::Report>) {
    if !is_to_be_closed_in(args, config) {
        return (source, None);
    }
    let file = source.file().map(ToOwned::to_owned);
    let plan = move |config: &Config| {
        let places = config.clusters.iter().map(|cluster| &cluster.discovery);
        let kubeconfigs = places.filter_map(|places| places.kubeconfig.as_deref());
        let named: Vec<_> = kubeconfigs.flat_map(discovery::files_named_by).collect();
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

/// What the process starts with. Waits while a newer generation serves.
async fn turn(config: Config, source: Source, args: &Args) -> Result<Turn, CliError> {
    let socket = config.admin.control_socket.clone();
    let candidate = Candidate::new(source, Loaded::new(config)?);
    let given = Given::from_env()?.generation(args.generation);
    if !args.take_over {
        return Ok(candidate.start(given)?);
    }
    let Some(socket) = socket else {
        return Err(CliError::Usage(
            "--take-over needs a control socket: admin.controlSocket is empty".to_owned(),
        ));
    };
    Ok(candidate.turn(Incumbent::at(&socket, args.generation), given).await?)
}

async fn serve(
    bound: Bound,
    mut terminations: Terminations,
    hangups: Hangups,
) -> Result<(), CliError> {
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
