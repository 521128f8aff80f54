//! One node: its proxy (probes, snapshot, connections) and its clients.

mod connection;
mod moves;
mod watch;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiproxy::balance::{Backoff, IndexSet, Turn, pick};
use apiproxy::health::{Machine, Observation};
use apiproxy::model::{Backend, BackendName, Condition, Entry, Policy, Snapshot, State};
use apiproxy::rebalance::Moves;

use super::World;
use super::tally::Tally;
use connection::Connection;
use moves::{Client, Clients};
use watch::{HURRY, Watch};

/// Long-lived connections of a node: kubelet, kube-proxy, network, log and metrics agents.
const CONNECTIONS: std::ops::RangeInclusive<usize> = 1..=30;

/// Nodes start within this time.
const STARTS: f64 = 10.0;

/// How long a client waits before it dials again, in seconds: client-go begins with less than one.
const BACK_OFF: std::ops::Range<f64> = 0.1..1.0;

/// What happens next to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A server's process ends, and with it its connections.
    Death(usize),
    /// A probe has its answer.
    Answer(usize),
    /// A probe is due.
    Probe(usize),
    /// A client dials.
    Dial(usize),
    /// The sweeper looks at the connections.
    Sweep,
}

pub(super) struct Node<'a> {
    world: &'a World,
    tally: &'a mut Tally,
    rng: fastrand::Rng,
    turn: Turn,
    backoff: Backoff,
    snapshot: Snapshot,
    watches: Vec<Watch>,
    connections: Clients,
    moves: Moves,
    next_sweep: Option<Instant>,
    /// Deaths and dials.
    agenda: BinaryHeap<Reverse<(Instant, Event)>>,
}

impl<'a> Node<'a> {
    pub(super) fn new(world: &'a World, seed: u64, tally: &'a mut Tally) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let start = world.base + Duration::from_secs_f64(rng.f64() * STARTS);
        let entries: Vec<_> = (0..world.scenario.lives.len()).map(|n| entry(n, start)).collect();
        let watch =
            |_: &Entry| Watch::new(Machine::new(world.settings.rules, start), start, rng.u64(..));
        let watches = entries.iter().map(watch).collect();
        let mut agenda = BinaryHeap::new();
        for (server, life) in world.scenario.lives.iter().enumerate() {
            let deaths = life.deaths().map(|at| world.base + at).filter(|at| *at > start);
            agenda.extend(deaths.map(|at| Reverse((at, Event::Death(server)))));
        }
        let connections: Vec<_> =
            (0..rng.usize(CONNECTIONS)).map(|_| Client::new(Connection::new(&mut rng))).collect();
        let settings = &world.settings;
        for client in 0..connections.len() {
            let at = start + Duration::from_secs_f64(1.0 + rng.f64() * STARTS);
            agenda.push(Reverse((at, Event::Dial(client))));
        }
        Self {
            world,
            tally,
            turn: Turn::new(rng.u64(..)),
            backoff: Backoff::default(),
            snapshot: Snapshot { generation: 0, zone: None, policy: Policy::default(), entries },
            watches,
            connections: Clients::new(connections),
            moves: Moves::new(settings.rebalance, settings.connections.drain_timeout),
            next_sweep: None,
            agenda,
            rng,
        }
    }

    pub(super) fn live(mut self) {
        let end = self.world.base + self.world.ends;
        while let Some((now, event)) = self.next()
            && now < end
        {
            match event {
                Event::Death(server) => self.cut(server, now),
                Event::Answer(server) => self.answer(server, now),
                Event::Probe(server) => self.turn(server, now),
                Event::Dial(client) => {
                    self.agenda.pop();
                    self.dial(client, now);
                }
                Event::Sweep => self.sweep(now),
            }
        }
    }

    fn next(&self) -> Option<(Instant, Event)> {
        let planned = self.agenda.peek().map(|Reverse(next)| *next);
        let watches = self.watches.iter().enumerate();
        let probes = watches.map(|(server, watch)| match watch.next_answer() {
            Some(at) if at <= watch.due => (at, Event::Answer(server)),
            _ => (watch.due, Event::Probe(server)),
        });
        let sweep = self.next_sweep.map(|at| (at, Event::Sweep));
        probes.chain(planned).chain(sweep).min()
    }

    /// The time since the beginning.
    fn elapsed(&self, now: Instant) -> Duration {
        now - self.world.base
    }

    fn accepts(&self, server: usize, now: Instant) -> bool {
        self.world.scenario.lives[server].at(self.elapsed(now)).accepts()
    }

    /// Probes, or lets this turn go by.
    fn turn(&mut self, server: usize, now: Instant) {
        let idle = self.snapshot.entries[server].backend.counters.active() == 0;
        if self.watches[server].skip(now, idle) {
            self.reckon(server, now);
        } else {
            self.probe(server, now);
        }
    }

    fn probe(&mut self, server: usize, now: Instant) {
        let elapsed = self.elapsed(now);
        self.tally.probe(server, elapsed);
        self.watches[server].launch(now, self.world.scenario.lives[server].at(elapsed));
        self.reckon(server, now);
    }

    fn answer(&mut self, server: usize, now: Instant) {
        let watch = &mut self.watches[server];
        let (started, truth) = watch.take_answer();
        let verdict = truth.verdict();
        watch.machine.observe(&Observation { started, ended: now, verdict });
        self.reckon(server, now);
        self.publish(server, now);
    }

    /// The data path doubts a server.
    fn doubt(&mut self, server: usize, now: Instant) {
        let news = self.watches[server].machine.doubt(now);
        self.publish(server, now);
        self.hurry(server, news, now);
    }

    fn hurry(&mut self, server: usize, news: bool, now: Instant) {
        if news && now >= self.watches[server].last_start + HURRY {
            self.probe(server, now);
        } else {
            self.reckon(server, now);
        }
    }

    /// When the next probe of a server is due, as its supervisor works it out when it wakes.
    fn reckon(&mut self, server: usize, now: Instant) {
        let none_ready = !self.snapshot.usable();
        self.watches[server].reckon(now, none_ready);
    }

    fn publish(&mut self, server: usize, now: Instant) {
        let condition = self.watches[server].machine.condition();
        if *condition == self.snapshot.entries[server].condition {
            return;
        }
        self.snapshot.entries[server].condition = condition.clone();
        self.snapshot.generation += 1;
        // A new snapshot wakes everybody.
        for other in 0..self.watches.len() {
            self.reckon(other, now);
        }
        self.sweep(now);
    }

    fn sweep(&mut self, now: Instant) {
        let random = || self.rng.f64();
        self.next_sweep = self.moves.sweep(&self.connections, &self.snapshot, now, random);
        for client in 0..self.connections.len() {
            if self.connections.of(client).closing {
                self.close(client, now);
            }
        }
    }

    fn cut(&mut self, server: usize, now: Instant) {
        self.agenda.pop();
        for client in 0..self.connections.len() {
            if self.connections.of(client).server() == Some(server) {
                self.close(client, now);
            }
        }
    }

    /// A connection ends, and its client will dial again.
    fn close(&mut self, client: usize, now: Instant) {
        if let Some(server) = self.connections.of(client).close() {
            self.tally.closed(server, self.elapsed(now));
        }
        self.dial_later(client, now);
    }

    fn dial_later(&mut self, client: usize, now: Instant) {
        let wait = BACK_OFF.start + (BACK_OFF.end - BACK_OFF.start) * self.rng.f64();
        self.agenda.push(Reverse((now + Duration::from_secs_f64(wait), Event::Dial(client))));
    }

    /// Tries the servers one after another, as the proxy does for a client.
    fn dial(&mut self, client: usize, now: Instant) {
        let mut tried = IndexSet::EMPTY;
        let aside = self.backoff.aside(&self.snapshot, now);
        while let Some(server) = pick(&self.snapshot, now, tried, aside, &mut self.turn) {
            tried = tried.with(server);
            let Entry { backend, condition, .. } = &self.snapshot.entries[server];
            // How it ends is known at once here.
            self.backoff.tried(backend, Duration::ZERO, now);
            if self.accepts(server, now) {
                self.backoff.connected(backend);
                let state = condition.state;
                self.connections.of(client).open(server, backend.occupy(), now);
                self.tally.dialed(server, self.elapsed(now));
                if matches!(state, State::Dead | State::NotReady) {
                    self.hurry(server, true, now);
                }
                return;
            }
            self.backoff.failed(backend, now, now, self.rng.f64());
            self.tally.refused(server, self.elapsed(now));
            self.doubt(server, now);
        }
        self.dial_later(client, now);
    }
}

fn entry(number: usize, start: Instant) -> Entry {
    let address = std::net::SocketAddr::from(([10, 0, 0, 1], 6443));
    let name = BackendName::new(format!("cp{}", number + 1));
    let backend = Arc::new(Backend::new(name, address.into(), None));
    Entry::new(backend, [address].into(), Condition::unknown(start))
}
