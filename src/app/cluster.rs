//! A cluster while it is served: what it is made of, what a reload reaches of it, and how it ends.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::error::StartError;
use super::given::Given;
use super::listeners::Open;
use super::tend::Task;
use crate::config::{self, Discovery};
use crate::control::Sockets;
use crate::discovery::{self, Roster};
use crate::drain::Drain;
use crate::events::{self, Events};
use crate::health::{self, Method};
use crate::metrics::Metrics;
use crate::model::{ClusterName, Hints, InForce, Reader, Snapshot, Standing, Writer, store};
use crate::proxy::{self, Live, PipeMemory, Settings, WorkerHandle};
use crate::{admin, control};

/// Connections that are busy at the end of `drainTimeout` get so much longer for a quiet moment, before
/// the threads of a cluster end that is no longer served.
const GRACE: Duration = Duration::from_secs(5);

/// What all clusters of the process share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) metrics: Metrics,
    pub(super) events: Events,
    pub(super) drain: Drain,
    /// Data threads of each cluster.
    pub(super) threads: usize,
    pub(super) pipes: PipeMemory,
    pub(super) in_force: watch::Sender<InForce>,
    pub(super) admin: SocketAddr,
    /// What is passed on in a handover.
    pub(super) sockets: Sockets,
    /// What the admin endpoint shows.
    pub(super) shown: admin::Clusters,
    /// What commands act on.
    pub(super) commanded: control::Clusters,
}

/// What a cluster starts with.
pub(super) struct Plan<'a> {
    pub(super) config: &'a config::Cluster,
    pub(super) method: Method,
    pub(super) settings: Settings,
    pub(super) open: Vec<Open>,
    /// Those of `open`, and what is served beside them for a while.
    pub(super) listeners: Vec<TcpListener>,
    /// What another process has passed on.
    pub(super) given: Option<&'a Given>,
}

/// A cluster that is served.
pub(super) struct Cluster {
    /// Its configuration in force.
    pub(super) current: config::Cluster,
    /// Where its clients are accepted.
    pub(super) listeners: Vec<Open>,
    pub(super) workers: Rc<Vec<WorkerHandle>>,
    listen: Rc<RefCell<Vec<SocketAddr>>>,
    live: Live,
    method: watch::Sender<Method>,
    places: watch::Sender<Discovery>,
    roster: Rc<Roster>,
    /// The rules by which moves are told.
    moves: watch::Sender<events::Rules>,
    writer: Rc<Writer>,
    leaving: Rc<Cell<bool>>,
    retired: watch::Sender<bool>,
}

/// What of the configuration tells when connections move.
fn moves(config: &config::Cluster) -> events::Rules {
    let rebalance = config.rebalance;
    events::Rules {
        rebalance: rebalance.enabled.then_some((rebalance.after, rebalance.window)),
        drain_timeout: config.connections.drain_timeout,
    }
}

fn first_snapshot(config: &config::Cluster, given: Option<&Given>) -> Snapshot {
    let now = Instant::now().into_std();
    let mut entries = discovery::entries(&config.backends, now);
    if let Some(given) = given {
        given.restore(&mut entries, now);
    }
    Snapshot { generation: 0, zone: config.zone.clone(), policy: config.balance, entries }
}

impl Cluster {
    /// Starts its data threads; its control work is the task that is returned.
    pub(super) fn start(plan: Plan<'_>, common: &Common) -> Result<(Self, Task), StartError> {
        let Plan { config, method, settings, open, listeners, given } = plan;
        let (writer, snapshot) = store(first_snapshot(config, given));
        let (hints, hint_receiver) = Hints::channel();
        let live = Live::new(settings);
        let name = config.name.clone();
        let workers = Rc::new(proxy::start(proxy::Parts {
            cluster: name.as_ref().map(ToString::to_string),
            listeners,
            live: live.clone(),
            threads: common.threads,
            pipes: common.pipes.clone(),
            snapshot,
            hints,
            phases: common.drain.phases(),
            metrics: common.metrics.data_path(name.as_ref().map(ClusterName::as_str)),
        })?);
        let writer = Rc::new(writer);
        let events = common.events.clone();
        let roster = Roster::new(name, writer.clone(), &config.backends, events.clone());
        let roster = Rc::new(roster);
        let (method, methods) = watch::channel(method);
        let (places, found_at) = watch::channel(config.discovery.clone());
        let (moves, moves_now) = watch::channel(moves(config));
        let (retired, is_retired) = watch::channel(false);
        let cluster = Self {
            current: config.clone(),
            listen: Rc::new(RefCell::new(open.iter().map(|open| open.address).collect())),
            listeners: open,
            workers: workers.clone(),
            live,
            method,
            places,
            roster: roster.clone(),
            moves,
            writer: writer.clone(),
            leaving: Rc::default(),
            retired,
        };
        let task = Task {
            leaving: cluster.leaving.clone(),
            health: health::Parts {
                method: methods,
                writer: writer.clone(),
                hints: hint_receiver,
                metrics: common.metrics.clone(),
                events: events.clone(),
            },
            discovery: discovery::Parts {
                writer,
                roster,
                places: found_at,
                own: discovery::Own::new(common.in_force.subscribe(), common.admin),
                events: events.clone(),
            },
            reader: cluster.reader(),
            events,
            moves: moves_now,
            workers,
            phases: common.drain.phases(),
            retired: is_retired,
        };
        Ok((cluster, task))
    }

    /// Shows it, and lets commands act on it.
    pub(super) fn announce(&self, common: &Common) {
        common.shown.add(admin::Cluster {
            name: self.current.name.clone(),
            snapshot: self.reader(),
            sources: self.roster.states(),
            listen: self.listen.clone(),
            workers: self.workers.clone(),
            leaving: self.leaving.clone(),
        });
        common.commanded.add(control::Cluster {
            name: self.current.name.clone(),
            writer: self.writer.clone(),
            rules: self.moves.subscribe(),
            leaving: self.leaving.clone(),
        });
    }

    /// What is known of its backends.
    pub(super) fn reader(&self) -> Reader {
        self.writer.reader()
    }

    /// Does it go by anything else than this?
    pub(super) fn differs(&self, config: &config::Cluster, settings: Settings) -> bool {
        self.current != *config || self.live.load() != settings
    }

    /// Puts another configuration in force, for which everything is there. Nothing here can fail.
    pub(super) fn apply(
        &mut self,
        config: config::Cluster,
        settings: Settings,
        method: Option<Method>,
    ) {
        self.live.replace(settings);
        self.moves.send_replace(moves(&config));
        if let Some(method) = method {
            self.method.send_replace(method);
        }
        // Also when the backends are the same: a new snapshot wakes who waits by the old settings.
        self.roster.set_seeds(&config.backends, |snapshot| {
            snapshot.zone.clone_from(&config.zone);
            snapshot.policy = config.balance;
        });
        self.places.send_if_modified(|places| {
            let differs = *places != config.discovery;
            places.clone_from(&config.discovery);
            differs
        });
        *self.listen.borrow_mut() = self.listeners.iter().map(|open| open.address).collect();
        self.current = config;
    }

    /// Closes listeners of its clients; their connections live on.
    pub(super) fn close(&self, sockets: &Sockets, addresses: Vec<SocketAddr>) {
        close(sockets, &self.workers, addresses);
    }

    /// It is no longer wanted: no new clients, its connections leave at quiet moments within
    /// `drainTimeout`, and then its threads end.
    pub(super) fn retire(self, common: &Common) {
        let addresses = self.listeners.iter().map(|open| open.address).collect();
        self.close(&common.sockets, addresses);
        common.shown.leave(&self.leaving);
        self.listen.borrow_mut().clear();
        let now = Instant::now();
        self.writer.update(|snapshot| {
            let entries = snapshot.entries.iter_mut();
            entries.for_each(|entry| entry.stand(Standing::Leaving, now.into_std()));
        });
        self.retired.send_replace(true);
        let until = now + self.current.connections.drain_timeout + GRACE;
        for worker in self.workers.iter() {
            worker.retire(until);
        }
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
