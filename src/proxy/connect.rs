//! Reaches a backend for one client: tries them one after another, and a second one in parallel when
//! the first is slow. The client is not told until all have failed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::worker::Worker;
use crate::balance::{self, IndexSet};
use crate::model::{Active, Backend, ConnectOutcome, Doubt, Hint, State, Tier};
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
    let Some(first) = Candidate::choose(worker, IndexSet::EMPTY, |_| true) else {
        return Err(ConnectError::AllFailed(0));
    };
    let tried = IndexSet::EMPTY.with(first.index);
    let begun = match *first.addresses {
        [only] => Some(net::begin_connect(only)),
        _ => None,
    };
    let waiting = match begun {
        None => Some((first, None)),
        Some(Err(error)) => {
            first.settle(worker, started, Err(error));
            None
        }
        Some(Ok(stream)) => {
            // A backend on this host or close by has answered by the next turn of the loop: then
            // no timer is set and no memory taken.
            yield_now().await;
            match net::established(&stream).now_or_never() {
                None => Some((first, Some(stream))),
                Some(result) => {
                    let result = result.map(|()| stream);
                    if let Some(connected) = first.settle(worker, started, result) {
                        return Ok(connected);
                    }
                    None
                }
            }
        }
    };
    // Boxed, so that an idle connection does not carry the size of the race for life.
    Box::pin(race(worker, started, tried, waiting)).await
}

/// Goes on after the first attempt, which may be under way, perhaps with a socket already.
async fn race(
    worker: &Worker,
    started: Instant,
    tried: IndexSet,
    waiting: Option<(Candidate, Option<TcpStream>)>,
) -> Result<Connected, ConnectError> {
    let policy = worker.shared.connect;
    let deadline = started + policy.timeout;
    let mut race = Race {
        worker,
        started,
        tried,
        attempts: FuturesUnordered::new(),
        under_way: Vec::new(),
        best: Tier::Dead,
    };
    let hedge_from = if waiting.is_some() { started } else { Instant::now() };
    let mut hedge_at = Some(hedge_from + policy.hedge_after);
    if let Some((candidate, stream)) = waiting {
        race.enter(candidate, stream);
    }
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
            Some(Attempt { candidate, result }) = race.attempts.next() => {
                race.under_way.retain(|(other, _)| !Arc::ptr_eq(other, candidate.active.backend()));
                if let Some(connected) = candidate.settle(worker, started, result) {
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

/// A backend that is being tried.
struct Candidate {
    /// In the snapshot that it was chosen from.
    index: usize,
    tier: Tier,
    /// Counted from the first SYN on, so that clients that come together are spread.
    active: Active,
    state: State,
    addresses: Arc<[SocketAddr]>,
    began: Instant,
}

impl Candidate {
    /// The best backend that has not been tried, if its tier will do.
    fn choose(
        worker: &Worker,
        tried: IndexSet,
        will_do: impl FnOnce(Tier) -> bool,
    ) -> Option<Self> {
        let snapshot = worker.shared.snapshot.load();
        let mut turn = worker.turn.borrow_mut();
        let began = Instant::now();
        let index = balance::pick(&snapshot, began.into_std(), tried, &mut turn)?;
        let entry = &snapshot.entries[index];
        let tier = snapshot.tier(entry);
        will_do(tier).then(|| Self {
            index,
            tier,
            active: entry.backend.occupy(),
            state: entry.condition.state,
            addresses: entry.addresses.clone(),
            began,
        })
    }

    /// Counts how the attempt ended and tells the health component.
    fn settle(
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
                worker.connect_times.note(backend.name.as_str(), started.elapsed());
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
                    worker.doubt_connect(backend.clone(), began);
                }
                None
            }
        }
    }
}

/// The attempts of one client.
struct Race<'a> {
    worker: &'a Worker,
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
    candidate: Candidate,
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
        let early = Instant::now() < self.started + self.worker.shared.connect.timeout / 2;
        let picky = !self.attempts.is_empty() && early;
        let worst = self.best.max(Tier::Suspect);
        let will_do = |tier| !picky || tier <= worst;
        let Some(next) = Candidate::choose(self.worker, self.tried, will_do) else { return false };
        self.enter(next, None);
        true
    }

    /// Waits for this one too, on its socket if it has one.
    fn enter(&mut self, candidate: Candidate, begun: Option<TcpStream>) {
        let tier = candidate.tier;
        self.best = if self.attempts.is_empty() { tier } else { self.best.min(tier) };
        self.tried = self.tried.with(candidate.index);
        self.under_way.push((candidate.active.backend().clone(), candidate.began));
        let stagger = self.worker.shared.connect.hedge_after;
        self.attempts.push(Box::pin(async move {
            let result = match (begun, &*candidate.addresses) {
                (Some(stream), _) => net::established(&stream).await.map(|()| stream),
                (None, addresses) => net::connect_any(rotated(addresses), stagger).await,
            };
            Attempt { candidate, result }
        }));
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
