//! Looks after connections that wait: tells the health component of silence, resets the connections
//! of a dead backend, reaps half-closed ones, and gives keepalive to those that last.

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
use crate::rebalance::Moves;
use sentence::{Sentence, sentence};

pub(super) use sentence::Evidence;

/// How long client bytes may wait for any byte of the backend before that looks suspicious. A
/// second is longer than a healthy apiserver's answer to nearly everything; a slow answer costs
/// one probe.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a half-closed connection may carry nothing, once all it carried has arrived.
const HALF_CLOSED_PATIENCE: Duration = Duration::from_mins(1);

/// How often half-closed connections are looked at, while there are any.
const REAPING_PACE: Duration = Duration::from_secs(5);

/// How long a connection may go without keepalive on its server's leg: one that ends sooner never
/// needs it, and is spared four system calls.
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(1);

/// How often the connections of a dead backend are looked at.
const DEAD_PACE: Duration = Duration::from_millis(100);

/// Sweeps are at least so far apart, so that thousands of connections with a moment each do not
/// wake the thread thousands of times a second.
const GRAIN: Duration = Duration::from_millis(25);

/// Sweeps for as long as the thread lives.
pub(super) async fn run(worker: Rc<Worker>) {
    let mut changed = worker.shared.snapshot.subscribe();
    let settings = worker.shared.live.load();
    let mut moves = Moves::new(settings.rebalance, settings.connections.drain_timeout);
    let (mut next_move, mut next_judgement, mut next_reaping) = (None, None, None);
    let mut next_keepalive = None;
    let mut is_new = true;
    let mut haven_since = None;
    loop {
        let now = now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_new || due(next_judgement) {
            let condemned = sweep_dead(&worker, &mut haven_since, now);
            next_judgement = condemned.then(|| now + DEAD_PACE);
        }
        worker.table.sweep_waiting(now, |record| look_at_waiting(&worker, record, now));
        if due(next_reaping) {
            worker.table.each_half_closed(|record, since| reap_half_closed(record, since, now));
            next_reaping = None;
        }
        if next_reaping.is_none() && worker.table.has_half_closed() {
            next_reaping = Some(now + REAPING_PACE);
        }
        if due(next_keepalive) {
            worker.table.each_new(|record| keep_alive(&worker, record));
            next_keepalive = None;
        }
        if next_keepalive.is_none() && worker.table.has_new() {
            next_keepalive = Some(now + KEEPALIVE_WITHIN);
        }
        if is_new || due(next_move) {
            let settings = worker.shared.live.load();
            moves.follow(settings.rebalance, settings.connections.drain_timeout);
            next_move =
                moves.sweep(&worker.table, &worker.shared.snapshot.load(), now, fastrand::f64);
        }
        let due = worker.table.next_due().map(|at| at.max(now + GRAIN));
        let next = [due, next_judgement, next_move, next_reaping, next_keepalive];
        let next = next.into_iter().flatten().min();
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
    let limit = worker.shared.live.load().connections.user_timeout;
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

/// A leg that is dead already says so at its next read.
fn keep_alive(worker: &Worker, record: &Record) {
    let keepalive = worker.shared.live.load().connections.keepalive;
    let _ = net::tune_connected(&record.server, keepalive);
}

/// A minute without a byte either way, while nothing is on its way to a reader that takes its time.
fn reap_half_closed(record: &Record, silent_since: Instant, now: Instant) {
    if now < silent_since + HALF_CLOSED_PATIENCE {
        return;
    }
    if net::is_delivering(&record.client) || net::is_delivering(&record.server) {
        record.touch_half_closed(now);
    } else {
        record.close(CloseReason::HalfClosed);
    }
}

/// Resets what is to be reset now. Returns whether a dead backend has connections left to judge.
/// `haven_since` is when there last began to be somewhere better to go.
fn sweep_dead(worker: &Worker, haven_since: &mut Option<Instant>, now: Instant) -> bool {
    let snapshot = worker.shared.snapshot.load();
    *haven_since = snapshot.has_haven().then(|| haven_since.unwrap_or(now));
    let burdened = |backend: &Backend| backend.counters.active() > 0;
    let some_dead = snapshot
        .entries
        .iter()
        .any(|entry| entry.condition.state == State::Dead && burdened(&entry.backend));
    // Nothing is reset while there is nowhere better to go.
    let Some(haven_since) = haven_since.filter(|_| some_dead) else { return false };
    let mut waiting = false;
    worker.table.each(|record| waiting |= judge(&snapshot, record, haven_since, now));
    waiting
}

/// Resets the connection if it is time; returns whether it may be later.
fn judge(snapshot: &Snapshot, record: &Record, haven_since: Instant, now: Instant) -> bool {
    let Some(entry) = snapshot.entry(record.active.backend()) else { return false };
    match sentence(&entry.condition, &record.evidence(), haven_since, now) {
        Sentence::Reset => {
            record.close(CloseReason::BackendDead);
            false
        }
        Sentence::Wait => true,
        Sentence::Spare => false,
    }
}
