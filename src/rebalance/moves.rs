//! Moves connections at quiet moments: away from backends that say no, and to one that is ready
//! again.

use std::time::{Duration, Instant};

use super::{Lottery, Traffic, is_quiet, look_again, surplus};
use crate::config::Rebalance;
use crate::model::{CloseReason, Entry, Snapshot, State};

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

/// A client that has been silent for so many times `quietFor` seldom asks at all.
const SELDOM: u32 = 4;

/// A wish that a connection goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// When it was drawn.
    pub since: Instant,
    /// From when on it may be closed at a quiet moment.
    pub at: Instant,
    /// When the wish is over; a drained connection is closed then.
    pub until: Instant,
    /// When its end was last asked for, if it was quiet then.
    pub asked: Instant,
    /// Its time is over: it is closed also when it is busy.
    pub forced: bool,
    /// `Rebalanced` or `Drained`.
    pub reason: CloseReason,
}

/// A connection that can be moved.
pub trait Movable {
    /// The index of the entry of the backend that carries it.
    fn place(&self, snapshot: &Snapshot) -> Option<usize>;

    /// The wish that it moves, as [`Movable::set_wish`] left it. A new connection has none.
    fn wish(&self) -> Option<Move>;

    /// Keeps a wish, or forgets it.
    fn set_wish(&self, wish: Option<Move>);

    /// What it has carried.
    fn traffic(&self, now: Instant) -> Traffic;

    /// Ends it for this reason, unless it turns out to be busy after all.
    fn close(&self, reason: CloseReason);

    /// Withdraws [`Movable::close`], if it has not come to it yet.
    fn reprieve(&self);
}

/// All connections that are chosen from.
pub trait Connections {
    /// One of them.
    type Connection: Movable;

    /// Looks at each.
    fn each(&self, look: impl FnMut(&Self::Connection));
}

/// What is to move of some connections.
#[derive(Debug)]
pub struct Moves {
    rules: Rebalance,
    drain_timeout: Duration,
    /// The recovery that connections have been chosen for.
    planned_for: Option<Instant>,
    /// Is there a connection that is to move?
    pending: bool,
    haven: Haven,
}

/// Is there somewhere to go?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haven {
    /// There has never been since moves are looked at.
    Never,
    There,
    /// Not since then.
    LostAt(Instant),
}

impl Moves {
    /// Nothing is to move yet. Connections of a backend that says no leave within `drain_timeout`.
    pub fn new(rules: Rebalance, drain_timeout: Duration) -> Self {
        Self { rules, drain_timeout, planned_for: None, pending: false, haven: Haven::Never }
    }

    /// Goes by these rules from now on. Moves that have been drawn keep their time.
    pub fn follow(&mut self, rules: Rebalance, drain_timeout: Duration) {
        (self.rules, self.drain_timeout) = (rules, drain_timeout);
    }

    /// Chooses, and closes those whose moment has come. Returns when to look again, unless the
    /// snapshot changes before. `random` gives numbers from 0 to 1.
    pub fn sweep(
        &mut self,
        connections: &impl Connections,
        snapshot: &Snapshot,
        now: Instant,
        mut random: impl FnMut() -> f64,
    ) -> Option<Instant> {
        let plan_at = self.plan(connections, snapshot, now, &mut random);
        let unready = snapshot
            .entries
            .iter()
            .any(|entry| entry.sheds() && entry.backend.counters.active() > 0);
        if !unready && !self.pending {
            return plan_at;
        }
        let haven = snapshot.has_haven();
        let before = self.haven;
        let regained = (haven && before != Haven::There).then_some(before);
        self.haven = match before {
            _ if haven => Haven::There,
            Haven::There => Haven::LostAt(now),
            before => before,
        };
        let excess = surplus(snapshot);
        let mut next = plan_at.into_iter().chain(unready.then(|| now + NEWCOMERS)).min();
        self.pending = false;
        connections.each(|connection| {
            let Some(index) = connection.place(snapshot) else { return };
            let entry = &snapshot.entries[index];
            self.drain(connection, entry, regained, now, &mut random);
            let look_again = self.look(connection, entry, haven, excess[index] > 0.0, now);
            next = next.into_iter().chain(look_again).min();
            self.pending |= connection.wish().is_some();
        });
        next
    }

    /// Some time after a backend became ready again, gives connections of overloaded backends a
    /// moment to move at. Returns when that will be, if it is to come.
    fn plan(
        &mut self,
        connections: &impl Connections,
        snapshot: &Snapshot,
        now: Instant,
        mut random: impl FnMut() -> f64,
    ) -> Option<Instant> {
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
        let mut lottery = Lottery::new(surplus(snapshot), &mut random);
        connections.each(|connection| {
            let wish = connection.wish();
            if wish.is_some_and(|wish| wish.reason == CloseReason::Drained) {
                return;
            }
            // A lot that was drawn for an earlier recovery is void: this surplus counts it too.
            connection.set_wish(None);
            connection.reprieve();
            if connection.place(snapshot).is_some_and(|index| lottery.draw(index)) {
                let at = now + self.rules.window.mul_f64(BEGIN_WITHIN * random());
                let reason = CloseReason::Rebalanced;
                let (since, forced) = (now, false);
                connection.set_wish(Some(Move { since, at, until, asked: at, forced, reason }));
                self.pending = true;
            }
        });
        None
    }

    /// Connections of a backend that says no are to leave within `drainTimeout`, spread over it. The
    /// time begins when there is somewhere to go, and stands still while there is not. Otherwise all of
    /// them, and those of all nodes, would fall on the first backend that recovers from an outage of all.
    fn drain(
        &self,
        connection: &impl Movable,
        entry: &Entry,
        regained: Option<Haven>,
        now: Instant,
        mut random: impl FnMut() -> f64,
    ) {
        let wish = connection.wish();
        let drained = wish.is_some_and(|wish| wish.reason == CloseReason::Drained);
        match entry.state() {
            State::NotReady | State::Drained if drained && regained.is_none() => {}
            State::NotReady | State::Drained => {
                if let (Some(wish), Some(Haven::LostAt(lost))) = (wish, regained)
                    && drained
                    && wish.since < lost
                {
                    let pause = now.saturating_duration_since(lost);
                    // Who was due before is due still.
                    let at = if wish.at > lost { wish.at + pause } else { wish.at };
                    connection.set_wish(Some(Move { at, until: wish.until + pause, ..wish }));
                    return;
                }
                connection.reprieve();
                let at = now + self.drain_timeout.mul_f64(BEGIN_WITHIN * random());
                let (until, reason) = (now + self.drain_timeout, CloseReason::Drained);
                let (since, forced) = (now, false);
                connection.set_wish(Some(Move { since, at, until, asked: at, forced, reason }));
            }
            State::Ready if drained => {
                connection.set_wish(None);
                connection.reprieve();
            }
            _ => {}
        }
    }

    /// Closes a connection that is to move, if this is the moment. Returns when to look again.
    fn look(
        &self,
        connection: &impl Movable,
        entry: &Entry,
        haven: bool,
        excess: bool,
        now: Instant,
    ) -> Option<Instant> {
        let wish = connection.wish()?;
        if now < wish.at {
            return Some(wish.at);
        }
        let over = now >= wish.until;
        let draining = wish.reason == CloseReason::Drained;
        if !draining && (over || !excess) {
            connection.set_wish(None);
            return None;
        }
        // Where to? And what is dead is not moved, but judged.
        if !haven || entry.condition.state == State::Dead {
            return Some(now + PACE);
        }
        let quiet_for = if draining { self.patience(&wish, now) } else { self.rules.quiet_for };
        let traffic = connection.traffic(now);
        let forced = draining && now >= wish.until + GRACE;
        if forced || is_quiet(&traffic, quiet_for, quiet_for * SELDOM, now) {
            connection.set_wish(Some(Move { asked: now, forced, ..wish }));
            connection.close(wish.reason);
            return Some(now + PACE);
        }
        Some(look_again(&traffic, quiet_for, now))
    }

    /// The nearer the end of a drain, the shorter a silence will do: a busy client has pauses of
    /// some milliseconds only, but its requests are answered in them. It is halved step by step: a
    /// time that shrank all along would pass through the client's own period, and close the
    /// connection just when the next request is due; the steps jump over it, but for a period that
    /// is hardly longer than one of them.
    fn patience(&self, wish: &Move, now: Instant) -> Duration {
        let left = wish.until.saturating_duration_since(now).as_secs_f64();
        let all = wish.until.saturating_duration_since(wish.at).as_secs_f64().max(0.001);
        let mut patience = self.rules.quiet_for;
        let mut part = left / all;
        while part <= 0.5 && patience > SHORTEST_QUIET {
            patience /= 2;
            part *= 2.0;
        }
        patience.max(SHORTEST_QUIET)
    }
}

#[cfg(test)]
mod tests;
