//! `apiproxy demo`: three throw-away apiservers, the proxy before them, a load, and one fault after
//! another.

mod board;
mod script;

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::board::Board;
use self::script::{Fault, Script};
use super::{CliError, output, runtime};
use crate::app::{self, Running};
use crate::config::{self, Overrides, Rebalance};
use crate::demo::{ApiServer, Authority, Dialer, Load, LoadOptions, LoadStats};
use crate::model::BackendName;
use crate::signal::Terminations;

/// The names of the servers.
const SERVERS: [&str; 3] = ["alpha", "bravo", "charlie"];

/// Clients that list, each on a connection of its own and with two watches besides.
const CLIENTS: usize = 3;

/// A fault lasts seconds here, not minutes: `interval`, by which a server is found out that nobody
/// asks anything, and `rebalance`'s `after`, `window` and `quietFor` are shorter than the defaults.
const FASTER: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_millis(50),
];

/// How often the board is drawn on a terminal.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// How often results are printed without a terminal.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One server after another hangs (as after SIGSTOP), crashes, and says that it is not ready, and comes
back. Meanwhile three clients list namespaces ten times a second, and six watches stay open. At the end
it prints how long a client ever waited. Exit 1 if a client was ever in the dark for over 5 s.

The proxy has its default settings but for these, so that there is more to see in a minute:
healthCheck.interval 1s, rebalance.after 1s, rebalance.window 2s, rebalance.quietFor 50ms.")]
pub(super) struct Args {
    /// End after this time, such as 30s or 2m [default: at Ctrl-C].
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Where clients connect [default: 127.0.0.1:16443, or any free port].
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Let the servers be: no faults.
    #[arg(long)]
    calm: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = super::args::duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    range.contains(&duration).then_some(duration).ok_or("it is 1s to 24h".to_owned())
}

/// A client without an answer for longer than this makes the demo a failure.
const MOST_OUTAGE: Duration = Duration::from_secs(5);

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        CliError::Failed(format!("the demo cannot {what}: {error}"))
    };
    let authority = Authority::new("apiproxy demo CA").map_err(|e| failed("make a CA", &e))?;
    let folder = tempfile::Builder::new()
        .prefix("apiproxy-demo-")
        .tempdir()
        .map_err(|e| failed("make a temporary folder", &e))?;
    let ca_file = folder.path().join("ca.crt");
    std::fs::write(&ca_file, authority.pem()).map_err(|e| failed("write its CA", &e))?;
    let certificate = authority.server().map_err(|e| failed("make a certificate", &e))?;
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let servers = SERVERS
        .iter()
        .map(|name| ApiServer::start(name, &certificate, any_port))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed("start its servers", &e))?;
    let proxy = start_proxy(args, &servers, &ca_file)?;
    let dialer = Dialer::new(proxy.addresses[0], &authority, None)
        .map_err(|e| failed("set up its client", &e))?;
    let options = LoadOptions { watches: 2, ..LoadOptions::default() };
    let loads = (0..CLIENTS)
        .map(|_| Load::start(dialer.clone(), options))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| failed("start its clients", &e))?;
    let board = Board::new(&proxy, &ca_file, io::stdout().is_terminal());
    let stage = Stage { servers, proxy, loads, board };
    runtime()?.block_on(stage.play(args))
}

/// The proxy with its defaults but for [`FASTER`], on a free port if the usual one is taken.
fn start_proxy(
    args: &Args,
    servers: &[ApiServer],
    ca_file: &std::path::Path,
) -> Result<Running, CliError> {
    let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 16443);
    let overrides = Overrides {
        backends: servers.iter().map(|server| server.address().to_string()).collect(),
        ca_file: Some(ca_file.to_owned()),
        listen: vec![args.listen.unwrap_or(usual).to_string()],
        admin_listen: Some("127.0.0.1:0".to_owned()),
        control_socket: Some(String::new()),
        ..Overrides::default()
    };
    let mut config = config::load(None, &overrides)?;
    for (backend, name) in config.clusters[0].backends.iter_mut().zip(SERVERS) {
        backend.name = BackendName::new(name);
    }
    let [interval, after, window, quiet_for] = FASTER;
    config.clusters[0].health_check.interval = interval;
    config.clusters[0].rebalance = Rebalance { enabled: true, after, window, quiet_for };
    match app::spawn(config.clone()) {
        Err(app::StartError::Listen { .. }) if args.listen.is_none() => {
            config.clusters[0].listen[0].address.set_port(0);
            Ok(app::spawn(config)?)
        }
        result => Ok(result?),
    }
}

/// Everything that plays.
struct Stage {
    servers: Vec<ApiServer>,
    proxy: Running,
    loads: Vec<Load>,
    board: Board,
}

impl Stage {
    async fn play(mut self, args: &Args) -> Result<(), CliError> {
        let mut terminations = Terminations::new()
            .map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))?;
        let started = Instant::now();
        let end = args.duration.map(|duration| started + duration);
        let mut script = Script::new(SERVERS.len());
        let pace = if self.board.live() { DRAW_EVERY } else { REPORT_EVERY };
        let mut ticks = interval(pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = self.proxy.reader.subscribe();
        output::emit(&self.board.opening())?;
        loop {
            let next_act = (!args.calm).then(|| started + script.next_at());
            tokio::select! {
                _ = terminations.next() => break,
                () = sleep_until(end.unwrap_or(started)), if end.is_some() => break,
                () = sleep_until(next_act.unwrap_or(started)), if next_act.is_some() => {
                    let act = script.next();
                    self.perform(act.server, act.fault)?;
                }
                _ = changed.changed() => {
                    let lines = self.board.notice(&self.proxy.reader.load());
                    output::emit(&lines)?;
                }
                _ = ticks.tick() => {
                    let text = self.board.draw(&self.proxy.reader.load(), &self.results());
                    output::emit(&text)?;
                }
            }
        }
        let stats = self.results();
        output::emit(&self.board.closing(&stats))?;
        if stats.longest_outage > MOST_OUTAGE || stats.ok == 0 {
            return Err(CliError::Unwell);
        }
        Ok(())
    }

    /// The results of all clients together.
    fn results(&self) -> LoadStats {
        self.loads.iter().map(Load::stats).fold(LoadStats::none(), LoadStats::merge)
    }

    /// Does to a server what the script says; `None` makes it well again.
    fn perform(&mut self, number: usize, fault: Option<Fault>) -> Result<(), CliError> {
        let previous = self.board.fault(number);
        let server = &self.servers[number];
        match (fault, previous) {
            (Some(Fault::Hang), _) => server.hang(),
            (Some(Fault::Crash), _) => server.crash(),
            (Some(Fault::NotReady), _) => server.ready(false),
            (None, Some(Fault::Hang)) => server.resume(),
            (None, Some(Fault::NotReady)) => server.ready(true),
            (None, Some(Fault::Crash)) => server.restart().map_err(|error| {
                CliError::Failed(format!("the demo cannot restart a server: {error}"))
            })?,
            (None, None) => {}
        }
        output::emit(&self.board.act(number, fault))
    }
}
