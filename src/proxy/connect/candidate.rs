//! The next backend to try for a client, and what its thread learns from how that went.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::Connected;
use crate::balance::{self, Backoff, IndexSet};
use crate::model::{Active, Backend, ConnectOutcome, Doubt, Hint, State, Tier};
use crate::net;
use crate::proxy::budget::Budget;
use crate::proxy::worker::Worker;

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// A client has come.
    First,
    /// Another one has failed. That was cheap for everybody, and the client would have to come again
    /// otherwise: this counts against the retry budget, but is not held up by it.
    Retry,
    /// Another one is slow. Only when the retry budget allows it.
    Hedge,
}

/// Why none is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCandidate {
    /// There is no backend that may be tried now.
    Nobody,
    /// The retry budget is spent.
    Withheld,
}

/// What a data thread knows of connects that failed, and what they may cost.
#[derive(Debug)]
pub(in crate::proxy) struct Restraint {
    backoff: Backoff,
    budget: Budget,
}

impl Restraint {
    pub(in crate::proxy) fn new() -> Self {
        let budget = Budget::new(Instant::now().into_std());
        Self { backoff: Backoff::default(), budget }
    }

    fn connected(&mut self, backend: &Arc<Backend>) {
        self.backoff.connected(backend);
        self.budget.deposit(Instant::now().into_std());
    }
}

/// A backend that is being tried.
pub(super) struct Candidate {
    /// In the snapshot that it was chosen from.
    pub(super) index: usize,
    pub(super) tier: Tier,
    /// Counted from the first SYN on, so that clients that come together are spread.
    pub(super) active: Active,
    state: State,
    pub(super) addresses: Arc<[SocketAddr]>,
    pub(super) began: Instant,
}

impl Candidate {
    /// The best backend that has not been tried, if its tier will do and the attempt is affordable.
    pub(super) fn choose(
        worker: &Worker,
        tried: IndexSet,
        attempt: Attempt,
        will_do: impl FnOnce(Tier) -> bool,
    ) -> Result<Self, NoCandidate> {
        let snapshot = worker.shared.snapshot.load();
        let mut restraint = worker.restraint.borrow_mut();
        let mut turn = worker.turn.borrow_mut();
        let began = Instant::now();
        let now = began.into_std();
        let aside = restraint.backoff.aside(&snapshot, now);
        let index = balance::pick(&snapshot, now, tried, aside, &mut turn);
        let index = index.ok_or(NoCandidate::Nobody)?;
        let entry = &snapshot.entries[index];
        let tier = snapshot.tier(entry);
        if !will_do(tier) {
            return Err(NoCandidate::Nobody);
        }
        let affordable = attempt == Attempt::First || restraint.budget.withdraw(now);
        if attempt == Attempt::Hedge && !affordable {
            return Err(NoCandidate::Withheld);
        }
        let hedge_after = worker.shared.live.load().connect.hedge_after;
        restraint.backoff.tried(&entry.backend, hedge_after, now);
        Ok(Self {
            index,
            tier,
            active: entry.backend.occupy(),
            state: entry.condition.state,
            addresses: entry.addresses.clone(),
            began,
        })
    }

    /// Counts how the attempt ended and tells the health component.
    pub(super) fn settle(
        self,
        worker: &Worker,
        started: Instant,
        result: io::Result<TcpStream>,
    ) -> Option<Connected> {
        let Self { active, state, began, .. } = self;
        let backend = active.backend();
        match result {
            Ok(stream) => {
                backend.counters.connect(ConnectOutcome::Connected);
                worker.restraint.borrow_mut().connected(backend);
                worker.connect_times.note(backend.name.own(), started.elapsed());
                if matches!(state, State::Dead | State::NotReady) {
                    worker.shared.hints.give(Hint::Connected { backend: backend.clone() });
                }
                Some(Connected { stream, active })
            }
            Err(error) => {
                let outcome = outcome(&error);
                backend.counters.connect(outcome);
                debug!(backend = %backend.name, %error, "cannot connect");
                if outcome != ConnectOutcome::Local {
                    worker.fails_to_connect(backend.clone(), began);
                }
                None
            }
        }
    }

    /// Its addresses from a random one on: a name may stand for several servers.
    pub(super) fn rotated(&self) -> impl Iterator<Item = SocketAddr> {
        let addresses = &*self.addresses;
        let first = if addresses.len() > 1 { fastrand::usize(..addresses.len()) } else { 0 };
        addresses.iter().copied().cycle().skip(first).take(addresses.len())
    }
}

impl Worker {
    /// An attempt that began then has failed, or has been slow for so long that it is as good as that.
    pub(super) fn fails_to_connect(&self, backend: Arc<Backend>, began: Instant) {
        let since = began.into_std();
        let now = Instant::now().into_std();
        self.restraint.borrow_mut().backoff.failed(&backend, since, now, fastrand::f64());
        self.shared.hints.give(Hint::Doubt { backend, doubt: Doubt::Connect, since });
    }
}

fn outcome(error: &io::Error) -> ConnectOutcome {
    match error.kind() {
        _ if net::is_local(error) => ConnectOutcome::Local,
        io::ErrorKind::NotFound => ConnectOutcome::Unresolved,
        io::ErrorKind::TimedOut => ConnectOutcome::Timeout,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectOutcome::Refused
        }
        _ => ConnectOutcome::Unreachable,
    }
}
