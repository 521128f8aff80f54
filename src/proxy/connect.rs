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

use super::budget::Budget;
use super::worker::Worker;
use crate::balance::{self, Backoff, IndexSet};
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
    let policy = worker.shared.connect;
    let deadline = started + policy.timeout;
    let mut race = Race {
        worker,
        started,
        tried: IndexSet::EMPTY,
        attempts: FuturesUnordered::new(),
        under_way: Vec::new(),
        best: Tier::Dead,
        withheld: false,
    };
    let mut hedge_at = Some(started + policy.hedge_after);
    race.launch(Attempt::First);
    loop {
        if race.attempts.is_empty() && race.launch(Attempt::Retry) != Launch::Done {
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
                race.launch(Attempt::Retry);
                hedge_at = Some(Instant::now() + policy.hedge_after);
            }
            () = sleep_until(hedge_at.unwrap_or(deadline)), if hedge_at.is_some() => {
                let now = Instant::now();
                let again = now + policy.hedge_after.max(LEAST_HEDGE);
                hedge_at = match race.launch(Attempt::Hedge) {
                    Launch::Done => {
                        worker.shared.metrics.hedged.increment(1);
                        Some(again)
                    }
                    Launch::Withheld => Some(again.max(now + ACCRUAL)),
                    // Look again when worse ones may be tried, if not before.
                    Launch::Nobody => Some(started + policy.timeout / 2).filter(|at| now < *at),
                };
            }
        }
    }
}

/// Attempts are at least so far apart, whatever `hedgeAfter` says.
const LEAST_HEDGE: Duration = Duration::from_millis(1);

/// When the retry budget is spent, the next free attempt comes so soon.
const ACCRUAL: Duration = Duration::from_millis(100);

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// A client has come.
    First,
    /// Another one has failed. That was cheap for everybody, and the client would have to come again
    /// otherwise: this counts against the retry budget, but is not held up by it.
    Retry,
    /// Another one is slow. Only when the retry budget allows it.
    Hedge,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Launch {
    Done,
    /// There is no backend that may be tried now.
    Nobody,
    /// The retry budget is spent.
    Withheld,
}

/// What a data thread knows of connects that failed, and what they may cost.
#[derive(Debug)]
pub(super) struct Restraint {
    backoff: Backoff,
    budget: Budget,
}

impl Restraint {
    pub(super) fn new() -> Self {
        let budget = Budget::new(Instant::now().into_std());
        Self { backoff: Backoff::default(), budget }
    }

    fn connected(&mut self, backend: &Arc<Backend>) {
        self.backoff.connected(backend);
        self.budget.deposit(Instant::now().into_std());
    }
}

/// The attempts of one client.
struct Race<'a> {
    worker: &'a Worker,
    started: Instant,
    tried: IndexSet,
    attempts: FuturesUnordered<LocalBoxFuture<'a, Ended>>,
    /// The backends of the attempts that have not ended, and when they began.
    under_way: Vec<(Arc<Backend>, Instant)>,
    /// The best tier of them.
    best: Tier,
    /// Has a hedge been withheld from this client?
    withheld: bool,
}

/// An attempt that has ended.
struct Ended {
    active: Active,
    state: State,
    began: Instant,
    result: io::Result<TcpStream>,
}

impl Drop for Race<'_> {
    /// Attempts that nobody waits for any more: another one was faster. One
    /// that was slow enough to be overtaken is doubtful.
    fn drop(&mut self) {
        let overdue = self.worker.shared.connect.hedge_after;
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Abandoned);
            if began.elapsed() >= overdue {
                self.worker.fails_to_connect(backend, began);
            }
        }
    }
}

impl Race<'_> {
    /// Starts an attempt with the next backend.
    ///
    /// While a good backend is being tried, one that says no or seems dead is not: the kernel of a
    /// hung server takes connections faster than a healthy one across a lossy network. In the second
    /// half of the time it is better than nothing.
    fn launch(&mut self, attempt: Attempt) -> Launch {
        let snapshot = self.worker.shared.snapshot.load();
        let now = Instant::now();
        let mut restraint = self.worker.restraint.borrow_mut();
        let aside = restraint.backoff.aside(&snapshot, now.into_std());
        let mut turn = self.worker.turn.borrow_mut();
        let chosen = balance::pick(&snapshot, now.into_std(), self.tried, aside, &mut turn);
        let Some(index) = chosen else { return Launch::Nobody };
        let tier = snapshot.tier(&snapshot.entries[index]);
        let early = now < self.started + self.worker.shared.connect.timeout / 2;
        if !self.attempts.is_empty() && early && tier > self.best.max(Tier::Suspect) {
            return Launch::Nobody;
        }
        let affordable = attempt == Attempt::First || restraint.budget.withdraw(now.into_std());
        if attempt == Attempt::Hedge && !affordable {
            if !std::mem::replace(&mut self.withheld, true) {
                self.worker.shared.metrics.hedges_withheld.increment(1);
            }
            return Launch::Withheld;
        }
        self.best = if self.attempts.is_empty() { tier } else { self.best.min(tier) };
        self.tried = self.tried.with(index);
        let Entry { backend, addresses, condition, .. } = &snapshot.entries[index];
        restraint.backoff.tried(backend, now.into_std());
        // Counted from the first SYN on, so that clients that come together are spread.
        let active = backend.occupy();
        let (addresses, state) = (addresses.clone(), condition.state);
        let stagger = self.worker.shared.connect.hedge_after;
        self.under_way.push((backend.clone(), now));
        self.attempts.push(Box::pin(async move {
            let result = match *addresses {
                [only] => net::connect(only).await,
                _ => net::connect_any(rotated(&addresses), stagger).await,
            };
            Ended { active, state, began: now, result }
        }));
        Launch::Done
    }

    /// Counts how an attempt ended and tells the health component.
    fn settle(&mut self, ended: Ended) -> Option<Connected> {
        let Ended { active, state, began, result } = ended;
        let backend = active.backend().clone();
        self.under_way.retain(|(other, _)| !Arc::ptr_eq(other, &backend));
        match result {
            Ok(stream) => {
                backend.counters.connect(ConnectOutcome::Connected);
                self.worker.restraint.borrow_mut().connected(&backend);
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
                    self.worker.fails_to_connect(backend, began);
                }
                None
            }
        }
    }

    /// All attempts that are still under way have failed by the clock.
    fn time_out(&mut self) {
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Timeout);
            self.worker.fails_to_connect(backend, began);
        }
    }
}

impl Worker {
    /// An attempt that began then has failed, or has been slow for so long that it is as good as that.
    fn fails_to_connect(&self, backend: Arc<Backend>, began: Instant) {
        let since = began.into_std();
        let now = Instant::now().into_std();
        self.restraint.borrow_mut().backoff.failed(&backend, since, now, fastrand::f64());
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
