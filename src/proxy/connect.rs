//! Reaches a backend for one client: tries them one after another, and a second one in parallel when
//! the first is slow. The client is not told until all have failed.

mod candidate;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::worker::Worker;
use crate::balance::IndexSet;
use crate::config::Connect;
use crate::model::{Active, Backend, ConnectOutcome, Tier};
use crate::net;
use candidate::{Attempt, Candidate, NoCandidate};

pub(super) use candidate::Restraint;

/// Attempts are at least so far apart, whatever `hedgeAfter` says.
const LEAST_HEDGE: Duration = Duration::from_millis(1);

/// When the retry budget is spent, the next free attempt comes so soon.
const ACCRUAL: Duration = Duration::from_millis(100);

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
    let Ok(first) = Candidate::choose(worker, IndexSet::EMPTY, Attempt::First, |_| true) else {
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
    let policy = worker.shared.live.load().connect;
    let deadline = started + policy.timeout;
    let mut race = Race {
        worker,
        policy,
        started,
        tried,
        attempts: FuturesUnordered::new(),
        under_way: Vec::new(),
        best: Tier::Dead,
        withheld: false,
    };
    let hedge_from = if waiting.is_some() { started } else { Instant::now() };
    let mut hedge_at = Some(hedge_from + policy.hedge_after);
    if let Some((candidate, stream)) = waiting {
        race.enter(candidate, stream);
    }
    loop {
        if race.attempts.is_empty() && race.launch(Attempt::Retry).is_err() {
            return Err(ConnectError::AllFailed(race.tried.len()));
        }
        tokio::select! {
            // After a pause of this process all of them may be due: what is there counts.
            biased;
            Some((candidate, result)) = race.attempts.next() => {
                if let Some(connected) = race.settle(candidate, result) {
                    return Ok(connected);
                }
                // Without another one the loop ends above, or the attempts under way go on.
                let _ = race.launch(Attempt::Retry);
                hedge_at = Some(Instant::now() + policy.hedge_after);
            }
            () = sleep_until(deadline) => {
                return race.last_look().await.ok_or_else(|| {
                    race.time_out();
                    ConnectError::Timeout(policy.timeout)
                });
            }
            () = sleep_until(hedge_at.unwrap_or(deadline)), if hedge_at.is_some() => {
                let now = Instant::now();
                let again = now + policy.hedge_after.max(LEAST_HEDGE);
                hedge_at = match race.launch(Attempt::Hedge) {
                    Ok(()) => {
                        worker.shared.metrics.hedged.increment(1);
                        Some(again)
                    }
                    Err(NoCandidate::Withheld) => {
                        race.note_withheld();
                        Some(again.max(now + ACCRUAL))
                    }
                    // Look again when worse ones may be tried, if not before.
                    Err(NoCandidate::Nobody) => {
                        Some(started + policy.timeout / 2).filter(|at| now < *at)
                    }
                };
            }
        }
    }
}

/// The attempts of one client.
struct Race<'a> {
    worker: &'a Worker,
    /// As it was when the client came.
    policy: Connect,
    started: Instant,
    tried: IndexSet,
    attempts: FuturesUnordered<LocalBoxFuture<'a, (Candidate, io::Result<TcpStream>)>>,
    /// The backends of the attempts that have not ended, and when they began.
    under_way: Vec<(Arc<Backend>, Instant)>,
    /// The best tier of them.
    best: Tier,
    /// Has a hedge been withheld from this client?
    withheld: bool,
}

impl Drop for Race<'_> {
    /// Attempts that nobody waits for any more: another one was faster. One
    /// that was slow enough to be overtaken is doubtful.
    fn drop(&mut self) {
        let (overdue, late) = (self.policy.hedge_after, self.is_late());
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Abandoned);
            if began.elapsed() >= overdue && !late {
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
    fn launch(&mut self, attempt: Attempt) -> Result<(), NoCandidate> {
        let early = Instant::now() < self.started + self.policy.timeout / 2;
        let picky = !self.attempts.is_empty() && early;
        let worst = self.best.max(Tier::Suspect);
        let will_do = |tier| !picky || tier <= worst;
        let next = Candidate::choose(self.worker, self.tried, attempt, will_do)?;
        self.enter(next, None);
        Ok(())
    }

    /// Waits for this one too, on its socket if it has one.
    fn enter(&mut self, candidate: Candidate, begun: Option<TcpStream>) {
        let tier = candidate.tier;
        self.best = if self.attempts.is_empty() { tier } else { self.best.min(tier) };
        self.tried = self.tried.with(candidate.index);
        self.under_way.push((candidate.active.backend().clone(), candidate.began));
        let stagger = self.policy.hedge_after;
        self.attempts.push(Box::pin(async move {
            let result = match begun {
                Some(stream) => net::established(&stream).await.map(|()| stream),
                None => net::connect_any(candidate.rotated(), stagger).await,
            };
            (candidate, result)
        }));
    }

    /// Counts the client, once, that got no second attempt.
    fn note_withheld(&mut self) {
        if !std::mem::replace(&mut self.withheld, true) {
            self.worker.shared.metrics.hedges_withheld.increment(1);
        }
    }

    /// An attempt has ended.
    fn settle(&mut self, candidate: Candidate, result: io::Result<TcpStream>) -> Option<Connected> {
        self.under_way.retain(|(other, _)| !Arc::ptr_eq(other, candidate.active.backend()));
        candidate.settle(self.worker, self.started, result)
    }

    /// What has come by the deadline, seen or not: one turn of the loop asks the kernel for all of it.
    async fn last_look(&mut self) -> Option<Connected> {
        yield_now().await;
        while let Some(Some((candidate, result))) = self.attempts.next().now_or_never() {
            if let Some(connected) = self.settle(candidate, result) {
                return Some(connected);
            }
        }
        None
    }

    /// Has this process slept through the deadline (stopped, or its machine paused)? Then time that
    /// has passed says nothing about a backend.
    fn is_late(&self) -> bool {
        self.started.elapsed() >= self.policy.timeout + self.policy.timeout / 2
    }

    /// All attempts that are still under way have failed by the clock.
    fn time_out(&mut self) {
        let late = self.is_late();
        for (backend, began) in self.under_way.drain(..) {
            backend.counters.connect(ConnectOutcome::Timeout);
            if !late {
                self.worker.fails_to_connect(backend, began);
            }
        }
    }
}
