//! Reaches a backend for one client: tries them one after another, and a second one in parallel when
//! the first is slow. The client is not told until all have failed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::worker::Worker;
use crate::balance::{self, IndexSet};
use crate::config::Connect;
use crate::model::{Active, Backend, ConnectOutcome, Doubt, Entry, Hint, State, Tier};
use crate::net;

/// A backend that carries the client from now on.
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    pub(super) active: Active,
}

/// Nobody took the client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Every backend has been tried.
    #[error("all {0} backends failed")]
    AllFailed(usize),
    /// `connect.timeout` is over.
    #[error("no backend answered within {0:?}")]
    Timeout(Duration),
}

/// Connects to the best backend that answers, within `connect.timeout` for all attempts together.
pub(super) async fn connect(worker: &Worker) -> Result<Connected, ConnectError> {
    let started = Instant::now();
    let policy = worker.shared.live.load().connect;
    let deadline = started + policy.timeout;
    let mut race = Race {
        worker,
        policy,
        started,
        tried: IndexSet::EMPTY,
        attempts: FuturesUnordered::new(),
        under_way: Vec::new(),
        best: Tier::Dead,
    };
    let mut hedge_at = Some(started + policy.hedge_after);
    race.launch();
    loop {
        if race.attempts.is_empty() && !race.launch() {
            return Err(ConnectError::AllFailed(race.tried.len()));
        }
        tokio::select! {
            biased;
            () = sleep_until(deadline) => {
                race.time_out();
                return Err(ConnectError::Timeout(policy.timeout));
            }
            Some(result) = race.attempts.next() => {
                if let Some(connected) = race.settle(result) {
                    return Ok(connected);
                }
                race.launch();
                hedge_at = Some(Instant::now() + policy.hedge_after);
            }
            () = sleep_until(hedge_at.unwrap_or(deadline)), if hedge_at.is_some() => {
                // Nobody left that may be tried: look again when worse ones may be, if not before.
                let second_half = started + policy.timeout / 2;
                hedge_at = if race.launch() {
                    worker.shared.metrics.hedged.increment(1);
                    Some(Instant::now() + policy.hedge_after.max(LEAST_HEDGE))
                } else {
                    Some(second_half).filter(|at| Instant::now() < *at)
                };
            }
        }
    }
}

/// Attempts are at least so far apart, whatever `hedgeAfter` says.
const LEAST_HEDGE: Duration = Duration::from_millis(1);

/// The attempts of one client.
struct Race<'a> {
    worker: &'a Worker,
    /// As it was when the client came.
    policy: Connect,
    started: Instant,
    tried: IndexSet,
    attempts: FuturesUnordered<LocalBoxFuture<'a, Attempt>>,
    /// The backends of the attempts that have not ended, and when they began.
    under_way: Vec<(Arc<Backend>, Instant)>,
    /// The best tier of them.
    best: Tier,
}

/// An attempt that has ended.
struct Attempt {
    active: Active,
    state: State,
    began: Instant,
    result: io::Result<TcpStream>,
}

impl Drop for Race<'_> {
    /// Attempts that nobody waits for any more: another one was faster. One
    /// that was slow enough to be overtaken is doubtful.
    fn drop(&mut self) {
        let overdue = self.policy.hedge_after;
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Abandoned);
            if began.elapsed() >= overdue {
                self.worker.doubt_connect(backend, began);
            }
        }
    }
}

impl Race<'_> {
    /// Starts an attempt with the next backend; false when there is none that may be tried now.
    ///
    /// While a good backend is being tried, one that says no or seems dead is not: the kernel of a
    /// hung server takes connections faster than a healthy one across a lossy network. In the second
    /// half of the time it is better than nothing.
    fn launch(&mut self) -> bool {
        let snapshot = self.worker.shared.snapshot.load();
        let mut turn = self.worker.turn.borrow_mut();
        let now = Instant::now();
        let Some(index) = balance::pick(&snapshot, now.into_std(), self.tried, &mut turn) else {
            return false;
        };
        let tier = snapshot.tier(&snapshot.entries[index]);
        let early = now < self.started + self.policy.timeout / 2;
        if !self.attempts.is_empty() && early && tier > self.best.max(Tier::Suspect) {
            return false;
        }
        self.best = if self.attempts.is_empty() { tier } else { self.best.min(tier) };
        self.tried = self.tried.with(index);
        let Entry { backend, addresses, condition, .. } = &snapshot.entries[index];
        // Counted from the first SYN on, so that clients that come together are spread.
        let active = backend.occupy();
        let (addresses, state) = (addresses.clone(), condition.state);
        let stagger = self.policy.hedge_after;
        self.under_way.push((backend.clone(), now));
        self.attempts.push(Box::pin(async move {
            let result = match *addresses {
                [only] => net::connect(only).await,
                _ => net::connect_any(rotated(&addresses), stagger).await,
            };
            Attempt { active, state, began: now, result }
        }));
        true
    }

    /// Counts how an attempt ended and tells the health component.
    fn settle(&mut self, attempt: Attempt) -> Option<Connected> {
        let Attempt { active, state, began, result } = attempt;
        let backend = active.backend().clone();
        self.under_way.retain(|(other, _)| !Arc::ptr_eq(other, &backend));
        match result {
            Ok(stream) => {
                backend.counters.connect(ConnectOutcome::Connected);
                self.worker.shared.metrics.connected(backend.name.as_str(), self.started.elapsed());
                if matches!(state, State::Dead | State::NotReady) {
                    self.worker.shared.hints.give(Hint::Connected { backend });
                }
                Some(Connected { stream, active })
            }
            Err(error) => {
                let outcome = outcome(&error);
                backend.counters.connect(outcome);
                debug!(backend = %backend.name, %error, "cannot connect");
                if outcome != ConnectOutcome::Local {
                    self.worker.doubt_connect(backend, began);
                }
                None
            }
        }
    }

    /// All attempts that are still under way have failed by the clock.
    fn time_out(&mut self) {
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Timeout);
            self.worker.doubt_connect(backend, began);
        }
    }
}

impl Worker {
    fn doubt_connect(&self, backend: Arc<Backend>, began: Instant) {
        let since = began.into_std();
        self.shared.hints.give(Hint::Doubt { backend, doubt: Doubt::Connect, since });
    }
}

/// The addresses of one backend from a random one on: a name may stand for several servers.
fn rotated(addresses: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let first = if addresses.len() > 1 { fastrand::usize(..addresses.len()) } else { 0 };
    addresses.iter().copied().cycle().skip(first).take(addresses.len())
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
