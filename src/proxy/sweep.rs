//! Looks after connections that wait: tells the health component of silence, resets the connections
//! of a dead backend, and reaps half-closed ones.

mod moves;
mod sentence;

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;
use tracing::debug;

use super::table::{Record, now};
use super::worker::Worker;
use crate::model::{Backend, CloseReason, Doubt, Hint, Snapshot, State};
use crate::net;
use moves::Moves;
use sentence::{Sentence, sentence};

pub(super) use sentence::Evidence;

/// How long client bytes may wait for any byte of the backend before that looks suspicious. A
/// second is longer than a healthy apiserver's answer to nearly everything; a slow answer costs
/// one probe.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a half-closed connection may carry nothing.
pub(super) const HALF_CLOSED_PATIENCE: Duration = Duration::from_mins(1);

/// How often the connections of a dead backend are looked at.
const DEAD_PACE: Duration = Duration::from_millis(100);

/// Sweeps are at least so far apart, so that thousands of connections with a moment each do not
/// wake the thread thousands of times a second.
const GRAIN: Duration = Duration::from_millis(25);

/// Sweeps for as long as the thread lives.
pub(super) async fn run(worker: Rc<Worker>) {
    let mut changed = worker.shared.snapshot.subscribe();
    let mut moves = Moves::new(worker.shared.rebalance, worker.shared.connections.drain_timeout);
    let (mut next_move, mut is_new) = (None, true);
    loop {
        let now = now();
        let condemned = sweep_dead(&worker, now);
        worker.table.sweep_waiting(now, |record| look_at_waiting(&worker, record, now));
        worker.table.sweep_half_closed(now, |record| look_at_half_closed(record, now));
        if is_new || next_move.is_some_and(|at| at <= now) {
            next_move = moves.sweep(&worker.table, &worker.shared.snapshot.load(), now);
        }
        let pace = condemned.then(|| now + DEAD_PACE);
        let due = worker.table.next_due().map(|at| at.max(now + GRAIN));
        let next = due.into_iter().chain(pace).chain(next_move).min();
        is_new = tokio::select! {
            () = worker.table.news.notified() => false,
            result = changed.changed() => match result {
                Ok(()) => true,
                Err(_) => return,
            },
            () = sleep(next), if next.is_some() => false,
        };
    }
}

async fn sleep(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until.into()).await;
    }
}

/// Client bytes have waited for `PATIENCE` or longer, or had when the connection was queued.
fn look_at_waiting(worker: &Worker, record: &Record, now: Instant) -> Option<Instant> {
    let since = record.unanswered.get()?;
    if now < since + PATIENCE {
        return Some(since + PATIENCE);
    }
    let backend = record.active.backend();
    let unacknowledged = net::unacknowledged(&record.server).filter(|info| info.segments > 0);
    let limit = worker.shared.connections.user_timeout;
    if unacknowledged.is_some_and(|info| info.last_ack >= limit && now >= since + limit) {
        debug!(backend = %backend.name, "sent bytes stay unacknowledged; the connection is reset");
        record.close(CloseReason::BackendTimeout);
        return None;
    }
    let doubt = match unacknowledged {
        Some(info) if info.retransmits > 0 => Doubt::Unacknowledged,
        _ => Doubt::Silence,
    };
    worker.shared.hints.give(Hint::Doubt { backend: backend.clone(), doubt, since });
    // Until it is answered: unacknowledged bytes are given up after `userTimeout`.
    Some(now + PATIENCE)
}

fn look_at_half_closed(record: &Record, now: Instant) -> Option<Instant> {
    let until = record.half_closed.get()? + HALF_CLOSED_PATIENCE;
    if now < until {
        return Some(until);
    }
    record.close(CloseReason::HalfClosed);
    None
}

/// Resets what is to be reset now. Returns whether a dead backend has connections left to judge.
fn sweep_dead(worker: &Worker, now: Instant) -> bool {
    let snapshot = worker.shared.snapshot.load();
    let burdened = |backend: &Backend| backend.counters.active() > 0;
    let some_dead = snapshot
        .entries
        .iter()
        .any(|entry| entry.condition.state == State::Dead && burdened(&entry.backend));
    // Nothing is reset while there is nowhere better to go.
    if !some_dead || !snapshot.has_haven() {
        return some_dead && snapshot.usable();
    }
    let mut waiting = false;
    worker.table.each(|record| waiting |= judge(&snapshot, record, now));
    waiting
}

/// Resets the connection if it is time; returns whether it may be later.
fn judge(snapshot: &Snapshot, record: &Record, now: Instant) -> bool {
    let Some(entry) = snapshot.entry(record.active.backend()) else { return false };
    match sentence(&entry.condition, &record.evidence(), now) {
        Sentence::Reset => {
            record.close(CloseReason::BackendDead);
            false
        }
        Sentence::Wait => true,
        Sentence::Spare => false,
    }
}
