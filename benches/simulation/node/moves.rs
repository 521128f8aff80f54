//! When a node moves connections: what `proxy/sweep/moves.rs` does with sockets, on a virtual clock.

use std::time::{Duration, Instant};

use apiproxy::config::Rebalance;
use apiproxy::model::{Snapshot, State};
use apiproxy::rebalance::{Lottery, is_quiet, look_again, surplus};

use super::connection::Connection;
use crate::fleet::Settings;

// As in `proxy/sweep/moves.rs`; `tests/simulation.rs` compares them.
const PACE: Duration = Duration::from_millis(100);
const BEGIN_WITHIN: f64 = 0.9;
const GRACE: Duration = Duration::from_secs(5);
const SHORTEST_QUIET: Duration = Duration::from_millis(25);

/// A wish that a connection goes elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    at: Instant,
    until: Instant,
    drained: bool,
}

pub(super) struct Moves {
    rules: Rebalance,
    drain_timeout: Duration,
    planned_for: Option<Instant>,
    rng: fastrand::Rng,
}

impl Moves {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        let (rules, drain_timeout) = (settings.rebalance, settings.connections.drain_timeout);
        Self { rules, drain_timeout, planned_for: None, rng: fastrand::Rng::with_seed(seed) }
    }

    /// Returns when to look again, and whose connections are closed now.
    pub(super) fn sweep(
        &mut self,
        connections: &mut [Connection],
        snapshot: &Snapshot,
        now: Instant,
    ) -> (Option<Instant>, Vec<usize>) {
        let mut next = self.plan(connections, snapshot, now);
        let excess = surplus(snapshot);
        let mut closed = Vec::new();
        for (client, connection) in connections.iter_mut().enumerate() {
            let Some(server) = connection.server() else { continue };
            let state = snapshot.entries[server].condition.state;
            self.drain(connection, state, now);
            let Some(wish) = connection.wish else { continue };
            if now < wish.at {
                next = next.into_iter().chain([wish.at]).min();
                continue;
            }
            if !wish.drained && (now >= wish.until || excess[server] <= 0.0) {
                connection.wish = None;
                continue;
            }
            let again = if !snapshot.has_haven() || state == State::Dead {
                now + PACE
            } else {
                let quiet_for =
                    if wish.drained { self.patience(&wish, now) } else { self.rules.quiet_for };
                let traffic = connection.traffic(now);
                let forced = wish.drained && now >= wish.until + GRACE;
                if forced || is_quiet(&traffic, quiet_for, now) {
                    closed.push(client);
                    continue;
                }
                look_again(&traffic, quiet_for, now)
            };
            next = next.into_iter().chain([again]).min();
        }
        (next, closed)
    }

    fn plan(
        &mut self,
        connections: &mut [Connection],
        snapshot: &Snapshot,
        now: Instant,
    ) -> Option<Instant> {
        let ready = snapshot.entries.iter().filter(|e| e.condition.state == State::Ready);
        let latest = ready.filter_map(|entry| entry.condition.recovered_at).max()?;
        if !self.rules.enabled || self.planned_for.is_some_and(|planned| planned >= latest) {
            return None;
        }
        let opens = latest + self.rules.after;
        if now < opens {
            return Some(opens);
        }
        self.planned_for = Some(latest);
        let until = opens + self.rules.window;
        let mut lottery = Lottery::new(surplus(snapshot), || self.rng.f64());
        for connection in connections {
            if connection.wish.is_some_and(|wish| wish.drained) {
                continue;
            }
            connection.wish = None;
            if connection.server().is_some_and(|server| lottery.draw(server)) {
                let at = now + self.rules.window.mul_f64(BEGIN_WITHIN * self.rng.f64());
                connection.wish = Some(Wish { at, until, drained: false });
            }
        }
        None
    }

    fn drain(&mut self, connection: &mut Connection, state: State, now: Instant) {
        let drained = connection.wish.is_some_and(|wish| wish.drained);
        match state {
            State::NotReady if !drained => {
                let at = now + self.drain_timeout.mul_f64(BEGIN_WITHIN * self.rng.f64());
                let until = now + self.drain_timeout;
                connection.wish = Some(Wish { at, until, drained: true });
            }
            State::Ready if drained => connection.wish = None,
            _ => {}
        }
    }

    fn patience(&self, wish: &Wish, now: Instant) -> Duration {
        let left = wish.until.saturating_duration_since(now).as_secs_f64();
        let all = wish.until.saturating_duration_since(wish.at).as_secs_f64().max(0.001);
        self.rules.quiet_for.mul_f64((left / all).clamp(0.0, 1.0)).max(SHORTEST_QUIET)
    }
}
