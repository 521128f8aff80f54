//! Finds out from states and counters what the data threads do in a mass: failovers, drains and
//! rebalances. Pure: the snapshot and the clock come in as arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Cause, Event};
use crate::model::{Backend, CloseReason, Entry, Reason, Snapshot, State};
use crate::rebalance::surplus;

/// How often counters are looked at while something is going on.
const PACE: Duration = Duration::from_millis(250);

/// Resets of silent connections begin 5 s after the others and are spread over 5 s: after a longer
/// lull a failover is over.
const LULL: Duration = Duration::from_secs(11);

/// How connections move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `rebalance.after` and `rebalance.window`; `None`: nothing is rebalanced.
    pub rebalance: Option<(Duration, Duration)>,
    /// `connections.drainTimeout`.
    pub drain_timeout: Duration,
}

/// What is going on.
#[derive(Debug)]
pub struct Episodes {
    rules: Rules,
    tracks: Vec<Track>,
    rebalance: Option<Rebalance>,
    /// The recovery whose rebalance has been told.
    planned_for: Option<Instant>,
}

/// One backend.
#[derive(Debug)]
struct Track {
    backend: Arc<Backend>,
    /// Connections reset so far because it was dead.
    resets: u64,
    failover: Option<Failover>,
    /// While it drains: connections that had left before.
    drained_before: Option<u64>,
}

#[derive(Debug)]
struct Failover {
    connections: u64,
    latest: Instant,
    reason: Reason,
}

#[derive(Debug)]
struct Rebalance {
    onto: Arc<Backend>,
    moved_before: u64,
    until: Instant,
}

impl Episodes {
    /// Nothing is going on yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, tracks: Vec::new(), rebalance: None, planned_for: None }
    }

    /// Goes by these rules from now on.
    pub fn follow(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Looks at the counters; returns what is new.
    pub fn step(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Event> {
        let mut news = Vec::new();
        self.tracks.retain(|track| snapshot.entry(&track.backend).is_some());
        let haven = snapshot.has_haven();
        for entry in &snapshot.entries {
            let known = self.tracks.iter().position(|t| Arc::ptr_eq(&t.backend, &entry.backend));
            let place = known.unwrap_or_else(|| {
                self.tracks.push(Track::new(&entry.backend));
                self.tracks.len() - 1
            });
            let track = &mut self.tracks[place];
            news.extend(track.failover(entry, now));
            news.extend(track.drain(entry, haven, self.rules.drain_timeout));
        }
        self.rebalance(snapshot, now, &mut news);
        news
    }

    /// When to look again; `None`: at the next snapshot.
    pub fn next(&self, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let open = |track: &Track| track.failover.is_some() || track.drained_before.is_some();
        let burdened = |entry: &Entry| !entry.is_ready() && entry.backend.counters.active() > 0;
        let busy = self.tracks.iter().any(open) || snapshot.entries.iter().any(burdened);
        let opens = self.opens(snapshot).map(|(at, _)| at);
        let until = self.rebalance.as_ref().map(|rebalance| rebalance.until);
        busy.then(|| now + PACE).into_iter().chain(opens).chain(until).min()
    }

    /// When the next rebalance begins, and the recovery that it is for.
    fn opens(&self, snapshot: &Snapshot) -> Option<(Instant, Instant)> {
        let (after, _) = self.rules.rebalance?;
        let ready = snapshot.entries.iter().filter(|e| e.is_ready());
        let latest = ready.filter_map(Entry::recovered_at).max()?;
        let is_new = self.planned_for.is_none_or(|planned| planned < latest);
        is_new.then(|| (latest + after, latest))
    }

    fn rebalance(&mut self, snapshot: &Snapshot, now: Instant, news: &mut Vec<Event>) {
        let moved = || {
            let moved = |e: &Entry| e.backend.counters.closes(CloseReason::Rebalanced);
            snapshot.entries.iter().map(moved).sum::<u64>()
        };
        let opening = self.opens(snapshot).filter(|(at, _)| now >= *at);
        let over = |running: &mut Rebalance| opening.is_some() || now >= running.until;
        if let Some(ended) = self.rebalance.take_if(over) {
            news.push(Event::MovesEnded {
                backend: ended.onto.name.clone(),
                cause: Cause::Rebalance,
                moved: moved().saturating_sub(ended.moved_before),
                left: 0,
            });
        }
        let Some((_, latest)) = opening else { return };
        self.planned_for = Some(latest);
        let Some((_, window)) = self.rules.rebalance else { return };
        let recovered = |e: &&Entry| e.recovered_at() == Some(latest);
        let Some(entry) = snapshot.entries.iter().find(recovered) else { return };
        let connections = expected(snapshot);
        if connections > 0 {
            let onto = entry.backend.clone();
            news.push(Event::MovesBegun {
                backend: onto.name.clone(),
                cause: Cause::Rebalance,
                connections,
                within: window,
            });
            self.rebalance = Some(Rebalance { onto, moved_before: moved(), until: now + window });
        }
    }
}

impl Track {
    fn new(backend: &Arc<Backend>) -> Self {
        let resets = backend.counters.closes(CloseReason::BackendDead);
        Self { backend: backend.clone(), resets, failover: None, drained_before: None }
    }

    fn failover(&mut self, entry: &Entry, now: Instant) -> Option<Event> {
        let counters = &self.backend.counters;
        let resets = counters.closes(CloseReason::BackendDead);
        let more = resets.saturating_sub(std::mem::replace(&mut self.resets, resets));
        if more > 0 {
            let reason = entry.condition.reason.clone();
            let failover =
                self.failover.get_or_insert(Failover { connections: 0, latest: now, reason });
            failover.connections += more;
            failover.latest = now;
        }
        let (dead, left) = (entry.condition.state == State::Dead, counters.active());
        let over = |failover: &mut Failover| !dead || left == 0 || now >= failover.latest + LULL;
        let Failover { connections, reason, .. } = self.failover.take_if(over)?;
        Some(Event::Failover { backend: self.backend.name.clone(), connections, left, reason })
    }

    fn drain(&mut self, entry: &Entry, haven: bool, within: Duration) -> Option<Event> {
        let counters = &self.backend.counters;
        let (left, closed) = (counters.active(), counters.closes(CloseReason::Drained));
        let sheds = entry.sheds();
        let (backend, cause) = (self.backend.name.clone(), Cause::Drain);
        match self.drained_before {
            None if sheds && haven && left > 0 => {
                self.drained_before = Some(closed);
                let connections = left as u64;
                Some(Event::MovesBegun { backend, cause, connections, within })
            }
            Some(before) if !sheds || left == 0 => {
                self.drained_before = None;
                let moved = closed.saturating_sub(before);
                Some(Event::MovesEnded { backend, cause, moved, left })
            }
            _ => None,
        }
    }
}

/// How many connections are over their backends' fair shares.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count of connections, which stays far below 2^53"
)]
fn expected(snapshot: &Snapshot) -> u64 {
    let shares = surplus(snapshot);
    let over = snapshot.entries.iter().zip(shares);
    let over = over.map(|(entry, share)| share * entry.backend.counters.active() as f64);
    over.sum::<f64>().round() as u64
}
