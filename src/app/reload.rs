//! Puts a changed configuration in force while the proxy runs: all of it that can change, or, when
//! anything is wrong with it, nothing.

mod switch;

use std::net::SocketAddr;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::changes::{self, changes, needs_restart};
use super::cluster::{Cluster, Common, close};
use super::given;
use super::source::Source;
use super::tend::Task;
use crate::config::{self, Config};
use crate::discovery;
use crate::events::{Event, Reload};
use crate::watch::{LOOK_EVERY, Watch, has_end};

use switch::{Step, Switched};

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
    /// In the order of the configuration.
    pub(super) clusters: Vec<Cluster>,
    /// Where the control work of new ones goes.
    pub(super) tasks: mpsc::UnboundedSender<Task>,
    /// The listeners are systemd's and stay what they are.
    pub(super) fixed: bool,
    /// The listener of the admin endpoint is systemd's and stays what it is.
    pub(super) fixed_admin: bool,
    pub(super) common: Common,
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
            parts.common.metrics.total("apiproxy_config_reloads_total", &[("result", result)], 0);
        }
        parts.common.metrics.set("apiproxy_config_needs_restart", &[], 0.0);
        Self { started: config.clone(), current: config.clone(), source: None, parts }
    }

    /// Follows a file and flags from now on.
    pub(super) fn follow(&mut self, source: Source) {
        self.parts.common.in_force.send_modify(|in_force| {
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
        let Common { in_force, metrics, events, .. } = &self.parts.common;
        metrics.increment("apiproxy_config_reloads_total", &[("result", word)]);
        if let Ok(Outcome { changes, needs_restart, .. }) = &result {
            in_force.send_modify(|in_force| {
                in_force.refusal.clear();
                in_force.needs_restart.clone_from(needs_restart);
                if !changes.is_empty() {
                    in_force.generation += 1;
                    in_force.loaded_at = SystemTime::now();
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
        let Common { in_force, metrics, events, .. } = &self.parts.common;
        metrics.increment("apiproxy_config_reloads_total", &[("result", "refused")]);
        in_force.send_modify(|in_force| in_force.refusal.clone_from(&refusal.0));
        events.record(Event::Reload(Reload::Refused { faults: refusal.0.join("; ") }));
    }

    async fn attempt(&mut self) -> Result<Outcome, Refusal> {
        let config = self.read()?;
        if config.has_names() != self.current.has_names() {
            let message = "a running process does not go from one cluster to `clusters`, or back: \
                           start another one with --take-over, which does so without a cut";
            return Err(Refusal(vec![message.to_owned()]));
        }
        let outcome = self.outcome(&config);
        if outcome.changes.is_empty() {
            self.current = config;
            return Ok(outcome);
        }
        // What can fail comes first, so that a failure changes nothing.
        let steps = self.steps(&config)?;
        let switched = self.switch(&config, steps).await?;
        self.apply(config, switched);
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
            for (cluster, new) in self.parts.clusters.iter().zip(&config.clusters) {
                outcome.ignored.extend(given::ignored(&new.listen, &cluster.listeners));
            }
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

    /// Where clients are accepted.
    fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.parts.clusters.iter().flat_map(|cluster| &cluster.listeners);
        all.map(|open| open.address).collect()
    }

    /// Nothing here can fail.
    fn apply(&mut self, config: Config, switched: Switched) {
        let Parts { clusters, common, .. } = &mut self.parts;
        let mut old: Vec<_> = std::mem::take(clusters).into_iter().map(Some).collect();
        let Switched { steps, mut started, unwanted } = switched;
        let mut new_tasks = Vec::new();
        for (new, step) in config.clusters.iter().zip(steps) {
            let was = old.iter_mut().find(|was| is_named_as(was.as_ref(), new));
            if let Some(mut cluster) = was.and_then(Option::take) {
                let Step { settings, method, listeners, .. } = step;
                cluster.listeners = listeners;
                if cluster.differs(new, settings) {
                    cluster.apply(new.clone(), settings, method);
                }
                clusters.push(cluster);
            } else if !started.is_empty() {
                let (cluster, task) = started.remove(0);
                cluster.announce(common);
                clusters.push(cluster);
                new_tasks.push(task);
            }
        }
        for (workers, addresses) in unwanted {
            close(&common.sockets, &workers, addresses);
        }
        for gone in old.into_iter().flatten() {
            gone.retire(common);
        }
        let addresses = self.addresses();
        self.parts.common.in_force.send_modify(|in_force| in_force.listen = addresses);
        for task in new_tasks {
            // It looks for servers where this proxy does not listen itself.
            discovery::recall(&task.discovery);
            // Who tends them is there as long as this is.
            let _ = self.parts.tasks.send(task);
        }
        if let Some(source) = &self.source {
            source.set_level(config.log.level);
        }
        self.current = config;
    }
}

/// Is this the cluster of that name?
fn is_named_as(cluster: Option<&Cluster>, config: &config::Cluster) -> bool {
    cluster.is_some_and(|cluster| cluster.current.name == config.name)
}
