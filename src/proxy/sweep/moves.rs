//! Moves connections at quiet moments: away from backends that say no, and to one that is ready
//! again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Rebalance;
use crate::model::{CloseReason, Entry, Snapshot, State};
use crate::proxy::table::{Move, Record, Table};
use crate::rebalance::{Lottery, is_quiet, look_again, surplus};

/// How often a connection that is to move and cannot is looked at.
const PACE: Duration = Duration::from_millis(100);

/// Wishes begin within this part of their time, so that the rest is left for a quiet moment.
const BEGIN_WITHIN: f64 = 0.9;

/// A drained connection that awaits an answer at the end of its time is given so much longer. Then
/// it is closed all the same: its server is about to do so itself.
const GRACE: Duration = Duration::from_secs(5);

/// How soon a connection that came to an unready backend, for want of a better one, is noticed.
const NEWCOMERS: Duration = Duration::from_secs(1);

/// The parts of one answer come closer together than this.
const SHORTEST_QUIET: Duration = Duration::from_millis(25);

/// What is to move on this data thread.
#[derive(Debug)]
pub(super) struct Moves {
    rules: Rebalance,
    drain_timeout: Duration,
    /// The recovery that connections have been chosen for.
    planned_for: Option<Instant>,
    /// Is there a connection that is to move?
    pending: bool,
}

impl Moves {
    pub(super) fn new(rules: Rebalance, drain_timeout: Duration) -> Self {
        Self { rules, drain_timeout, planned_for: None, pending: false }
    }

    /// Chooses, and closes those whose moment has come. Returns when to look again.
    pub(super) fn sweep(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<Instant> {
        let plan_at = self.plan(table, snapshot, now);
        let unready = snapshot
            .entries
            .iter()
            .any(|entry| entry.sheds() && entry.backend.counters.active() > 0);
        if !unready && !self.pending {
            return plan_at;
        }
        let haven = snapshot.has_haven();
        let excess = surplus(snapshot);
        let mut next = plan_at.into_iter().chain(unready.then(|| now + NEWCOMERS)).min();
        self.pending = false;
        table.each(|record| {
            let backend = record.active.backend();
            let mut entries = snapshot.entries.iter().zip(&excess);
            let known = entries.find(|(entry, _)| Arc::ptr_eq(&entry.backend, backend));
            let Some((entry, excess)) = known else { return };
            self.drain(record, entry, now);
            let look_again = self.look(record, entry, haven, *excess > 0.0, now);
            next = next.into_iter().chain(look_again).min();
            self.pending |= record.moving.get().is_some();
        });
        next
    }

    /// Some time after a backend became ready again, gives connections of overloaded backends a
    /// moment to move at. Returns when that will be, if it is to come.
    fn plan(&mut self, table: &Table, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let ready = snapshot.entries.iter().filter(|e| e.is_ready());
        let latest = ready.filter_map(Entry::recovered_at).max()?;
        if !self.rules.enabled || self.planned_for.is_some_and(|planned| planned >= latest) {
            return None;
        }
        let opens = latest + self.rules.after;
        if now < opens {
            return Some(opens);
        }
        self.planned_for = Some(latest);
        let until = opens + self.rules.window;
        let mut lottery = Lottery::new(surplus(snapshot), fastrand::f64);
        table.each(|record| {
            let wish = record.moving.get();
            if wish.is_some_and(|wish| wish.reason == CloseReason::Drained) {
                return;
            }
            // A lot that was drawn for an earlier recovery is void: this surplus counts it too.
            record.moving.set(None);
            record.reprieve();
            let backend = record.active.backend();
            let mut entries = snapshot.entries.iter();
            let index = entries.position(|entry| Arc::ptr_eq(&entry.backend, backend));
            if index.is_some_and(|index| lottery.draw(index)) {
                let at = now + self.rules.window.mul_f64(BEGIN_WITHIN * fastrand::f64());
                let reason = CloseReason::Rebalanced;
                record.moving.set(Some(Move { at, until, asked: at, forced: false, reason }));
                self.pending = true;
            }
        });
        None
    }

    /// Connections of a backend that says no are to leave within `drainTimeout`, spread over it.
    fn drain(&self, record: &Record, entry: &Entry, now: Instant) {
        let wish = record.moving.get();
        let drained = wish.is_some_and(|wish| wish.reason == CloseReason::Drained);
        match entry.state() {
            State::NotReady | State::Drained if !drained => {
                let at = now + self.drain_timeout.mul_f64(BEGIN_WITHIN * fastrand::f64());
                let (until, reason) = (now + self.drain_timeout, CloseReason::Drained);
                record.moving.set(Some(Move { at, until, asked: at, forced: false, reason }));
            }
            State::Ready if drained => record.moving.set(None),
            _ => {}
        }
    }

    /// Closes a connection that is to move, if this is the moment. Returns when to look again.
    fn look(
        &self,
        record: &Record,
        entry: &Entry,
        haven: bool,
        excess: bool,
        now: Instant,
    ) -> Option<Instant> {
        let wish = record.moving.get()?;
        if now < wish.at {
            return Some(wish.at);
        }
        let over = now >= wish.until;
        let draining = wish.reason == CloseReason::Drained;
        if !draining && (over || !excess) {
            record.moving.set(None);
            return None;
        }
        // Where to? And what is dead is not moved, but judged.
        if !haven || entry.condition.state == State::Dead {
            return Some(now + PACE);
        }
        let quiet_for = if draining { self.patience(&wish, now) } else { self.rules.quiet_for };
        let traffic = record.traffic(now);
        let forced = draining && now >= wish.until + GRACE;
        if forced || is_quiet(&traffic, quiet_for, now) {
            record.moving.set(Some(Move { asked: now, forced, ..wish }));
            record.close(wish.reason);
            return Some(now + PACE);
        }
        Some(look_again(&traffic, quiet_for, now))
    }

    /// The nearer the end of a drain, the shorter a silence will do: a busy client has pauses of
    /// some milliseconds only, but its requests are answered in them.
    fn patience(&self, wish: &Move, now: Instant) -> Duration {
        let left = wish.until.saturating_duration_since(now).as_secs_f64();
        let all = wish.until.saturating_duration_since(wish.at).as_secs_f64().max(0.001);
        self.rules.quiet_for.mul_f64((left / all).clamp(0.0, 1.0)).max(SHORTEST_QUIET)
    }
}
