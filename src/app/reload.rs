//! Puts a changed configuration in force while the proxy runs: all of it that can change, or, when
//! anything is wrong with it, nothing.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::changes::{self, changes, needs_restart};
use super::error::{Attempt, StartError};
use super::given;
use super::listeners::{self, Open};
use super::source::Source;
use crate::config::{Config, Discovery, Listen};
use crate::control::Sockets;
use crate::discovery::Roster;
use crate::events::{self, Event, Events, Reload};
use crate::health::Method;
use crate::metrics::Metrics;
use crate::model::InForce;
use crate::net;
use crate::proxy::{Live, Settings, WorkerHandle};
use crate::watch::{LOOK_EVERY, Watch, has_end};

/// What a running proxy is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration again; the answer says what became of it.
    Reload(oneshot::Sender<Result<Outcome, Refusal>>),
}

/// Asks a running proxy.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    pub(super) fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// Has the configuration read again.
    ///
    /// # Errors
    /// It is not put in force; see [`Refusal`].
    pub async fn reload(&self) -> Result<Outcome, Refusal> {
        let (answer, answered) = oneshot::channel();
        let gone = || Refusal(vec!["the proxy is ending".to_owned()]);
        self.0.send(Command::Reload(answer)).await.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// What a reload has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What changed, one line a key; empty when nothing did.
    pub changes: Vec<String>,
    /// What cannot change before a restart.
    pub needs_restart: Vec<String>,
    /// What is said in vain: something else decides.
    pub ignored: Vec<String>,
}

/// Why a configuration is not put in force; one line a fault. The last good one stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Refusal(pub Vec<String>);

/// What is reached by a reload.
pub(super) struct Parts {
    pub(super) listeners: Vec<Open>,
    /// The listeners are systemd's and stay what they are.
    pub(super) fixed: bool,
    /// The listener of the admin endpoint is systemd's and stays what it is.
    pub(super) fixed_admin: bool,
    /// What is passed on in a handover.
    pub(super) sockets: Sockets,
    pub(super) live: Live,
    pub(super) method: watch::Sender<Method>,
    pub(super) places: watch::Sender<Discovery>,
    pub(super) roster: Rc<Roster>,
    pub(super) workers: Rc<Vec<WorkerHandle>>,
    pub(super) in_force: watch::Sender<InForce>,
    pub(super) metrics: Metrics,
    /// The rules by which moves are told.
    pub(super) moves: watch::Sender<events::Rules>,
    pub(super) events: Events,
}

/// What of the configuration tells when connections move.
pub(super) fn moves(config: &Config) -> events::Rules {
    let rebalance = config.rebalance;
    events::Rules {
        rebalance: rebalance.enabled.then_some((rebalance.after, rebalance.window)),
        drain_timeout: config.connections.drain_timeout,
    }
}

/// Closes listeners of clients; their connections live on.
pub(super) fn close(sockets: &Sockets, workers: &[WorkerHandle], addresses: Vec<SocketAddr>) {
    for address in &addresses {
        sockets.remove(*address);
    }
    if let (Some(worker), false) = (workers.first(), addresses.is_empty()) {
        worker.close(addresses);
    }
}

/// Reloads, one at a time.
pub(super) struct Reloader {
    /// What the process was started with, for what only a restart changes.
    started: Config,
    current: Config,
    source: Option<Source>,
    parts: Parts,
}

/// The words of `apiproxy_config_reloads_total{result}`.
const RESULTS: [&str; 3] = ["applied", "unchanged", "refused"];

impl Reloader {
    pub(super) fn new(config: &Config, parts: Parts) -> Self {
        for result in RESULTS {
            parts.metrics.total("apiproxy_config_reloads_total", &[("result", result)], 0);
        }
        parts.metrics.set("apiproxy_config_needs_restart", &[], 0.0);
        Self { started: config.clone(), current: config.clone(), source: None, parts }
    }

    /// What is passed on in a handover.
    pub(super) fn sockets(&self) -> Sockets {
        self.parts.sockets.clone()
    }

    /// Follows a file and flags from now on.
    pub(super) fn follow(&mut self, source: Source) {
        self.parts.in_force.send_modify(|in_force| {
            in_force.file = source.file().map(ToOwned::to_owned);
        });
        self.source = Some(source);
    }

    /// Reloads whenever the file has changed or somebody asks, until the future is dropped.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut watch = self.source.as_ref().map(Source::watch);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(Command::Reload(answer)) = commands.recv() => {
                    if let (Some(watch), Some(source)) = (&mut watch, &self.source) {
                        watch.note(source.stamp());
                    }
                    let result = self.reload().await;
                    // Who asked may have gone.
                    let _ = answer.send(result);
                }
                _ = looks.tick(), if watch.is_some() => {
                    if self.has_changed(watch.as_mut()) {
                        let _told = self.reload().await;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn has_changed(&self, watch: Option<&mut Watch>) -> bool {
        let (Some(source), Some(watch)) = (&self.source, watch) else { return false };
        let Some(file) = source.file() else { return false };
        watch.look(source.stamp(), Instant::now(), || has_end(file))
    }

    /// Reads the configuration again and puts it in force as a whole, or refuses it.
    async fn reload(&mut self) -> Result<Outcome, Refusal> {
        let result = self.attempt().await;
        let word = match &result {
            Ok(outcome) => {
                for change in &outcome.needs_restart {
                    warn!(change, "configuration: this is not in force yet");
                }
                for ignored in &outcome.ignored {
                    warn!("{ignored}");
                }
                if outcome.changes.is_empty() {
                    info!("the configuration was read again and is unchanged");
                    "unchanged"
                } else {
                    "applied"
                }
            }
            Err(refusal) => {
                self.refuse(refusal);
                return result;
            }
        };
        let Parts { in_force, metrics, listeners, events, .. } = &self.parts;
        metrics.increment("apiproxy_config_reloads_total", &[("result", word)]);
        if let Ok(Outcome { changes, needs_restart, .. }) = &result {
            in_force.send_modify(|in_force| {
                in_force.refusal.clear();
                in_force.needs_restart.clone_from(needs_restart);
                if !changes.is_empty() {
                    in_force.generation += 1;
                    in_force.loaded_at = SystemTime::now();
                    in_force.listen = listeners.iter().map(|open| open.address).collect();
                }
            });
            if !changes.is_empty() {
                let (generation, changes) = (in_force.borrow().generation, changes.join("; "));
                events.record(Event::Reload(Reload::Applied { generation, changes }));
            }
            let waiting = if needs_restart.is_empty() { 0.0 } else { 1.0 };
            metrics.set("apiproxy_config_needs_restart", &[], waiting);
        }
        result
    }

    /// A configuration is wrong: the one in force stays.
    pub(super) fn refuse(&self, refusal: &Refusal) {
        let Parts { in_force, metrics, events, .. } = &self.parts;
        metrics.increment("apiproxy_config_reloads_total", &[("result", "refused")]);
        in_force.send_modify(|in_force| in_force.refusal.clone_from(&refusal.0));
        events.record(Event::Reload(Reload::Refused { faults: refusal.0.join("; ") }));
    }

    async fn attempt(&mut self) -> Result<Outcome, Refusal> {
        let config = self.read()?;
        let outcome = self.outcome(&config);
        if outcome.changes.is_empty() {
            self.current = config;
            return Ok(outcome);
        }
        // What can fail comes first, so that a failure changes nothing.
        let method = if config.health_check == self.current.health_check {
            None
        } else {
            let method = Method::new(&config.health_check);
            Some(method.map_err(|error| Refusal(vec![format!("health check: {error}")]))?)
        };
        let is_news = config.connections.max != self.current.connections.max;
        let connections = listeners::within_file_limit(config.connections, is_news)
            .map_err(|error| Refusal(vec![error.to_string()]))?;
        let settings =
            Settings { connect: config.connect, connections, rebalance: config.rebalance };
        let unwanted = self.change_listeners(&config.listen).await?;
        self.apply(config, settings, method, unwanted);
        Ok(outcome)
    }

    /// What it brings about to put this in force.
    fn outcome(&self, config: &Config) -> Outcome {
        let mut outcome = Outcome {
            changes: changes(&self.current, config),
            needs_restart: needs_restart(&self.started, config),
            ignored: Vec::new(),
        };
        if self.parts.fixed {
            outcome.changes.retain(|line| !changes::is_about(line, "listen"));
            outcome.ignored.extend(given::ignored(&config.listen, &self.parts.listeners));
        }
        if self.parts.fixed_admin {
            outcome.needs_restart.retain(|line| !changes::is_about(line, "admin.listen"));
        }
        outcome
    }

    fn read(&self) -> Result<Config, Refusal> {
        match &self.source {
            Some(source) => source.read(),
            None => Err(Refusal(vec!["this proxy has no configuration to read again".to_owned()])),
        }
    }

    /// Opens the listeners that are new, and returns those that are to be closed.
    async fn change_listeners(&mut self, listen: &[Listen]) -> Result<Vec<SocketAddr>, Refusal> {
        if self.parts.fixed {
            return Ok(Vec::new());
        }
        let mut old = self.parts.listeners.clone();
        let mut stay = Vec::new();
        let mut missing = Vec::new();
        for wanted in listen {
            match old.iter().position(|open| open.wanted.address == wanted.address) {
                Some(index) => stay.push(old.remove(index)),
                None => missing.push(*wanted),
            }
        }
        let refuse = |error: String| Refusal(vec![error]);
        let bound = self.bind(&missing, &old).await.map_err(|error| refuse(error.to_string()))?;
        let (new, sockets): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
        let added: Vec<_> = new.iter().map(|open| open.address).collect();
        stay.extend(new);
        if stay.is_empty() {
            return Err(refuse("none of the addresses in `listen` can be had".to_owned()));
        }
        self.parts
            .sockets
            .add_all(&sockets)
            .map_err(|error| refuse(format!("cannot listen: {error}")))?;
        // The first data thread accepts.
        if let (Some(worker), false) = (self.parts.workers.first(), sockets.is_empty())
            && let Err(error) = worker.open(sockets).await
        {
            for address in added {
                self.parts.sockets.remove(address);
            }
            return Err(refuse(format!("cannot listen in a data thread: {error}")));
        }
        self.parts.listeners = stay;
        Ok(old.into_iter().map(|open| open.address).collect())
    }

    /// Binds the listeners that are new. One that overlaps with one of the `old`, which are to be closed,
    /// stands beside it until then, so that nobody is refused in between.
    async fn bind(
        &self,
        missing: &[Listen],
        old: &[Open],
    ) -> Result<Vec<(Open, TcpListener)>, StartError> {
        let meets = |wanted: &Listen| {
            old.iter().any(|open| listeners::overlap(wanted.address, open.address))
        };
        match self.parts.workers.first() {
            Some(worker) if missing.iter().any(meets) => {
                let shared = worker.share_ports(true).await;
                let bound = shared.map_err(StartError::Runtime).and_then(|()| {
                    listeners::bind_by(missing, Attempt::Reload, net::listen_beside)
                });
                // Some of them may be shared, also when not all are.
                worker.share_ports(false).await.map_err(StartError::Runtime)?;
                bound
            }
            _ => listeners::bind_by(missing, Attempt::Reload, net::listen),
        }
    }

    /// Nothing here can fail.
    fn apply(
        &mut self,
        config: Config,
        settings: Settings,
        method: Option<Method>,
        unwanted: Vec<SocketAddr>,
    ) {
        let Parts { live, method: methods, places, roster, workers, .. } = &self.parts;
        live.replace(settings);
        self.parts.moves.send_replace(moves(&config));
        if let Some(method) = method {
            methods.send_replace(method);
        }
        // Also when the backends are the same: a new snapshot wakes who waits by the old settings.
        roster.set_seeds(&config.backends, |snapshot| {
            snapshot.zone.clone_from(&config.zone);
            snapshot.policy = config.balance;
        });
        places.send_if_modified(|places| {
            let differs = *places != config.discovery;
            places.clone_from(&config.discovery);
            differs
        });
        close(&self.parts.sockets, workers, unwanted);
        if let Some(source) = &self.source {
            source.set_level(config.log.level);
        }
        self.current = config;
    }
}
