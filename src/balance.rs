//! Chooses the backend for a new connection. Pure: the snapshot, the clock and the randomness come
//! in as arguments.

mod backoff;
mod least_connections;
mod power_of_two;
mod random;
mod round_robin;
mod set;

use std::time::{Duration, Instant};

use crate::model::{MAX_BACKENDS, Policy, Snapshot, Tier};

pub use backoff::Backoff;
pub use set::IndexSet;

/// How long a recovered backend takes to get its full share of new connections. Every node sees it
/// as its least loaded backend at the same moment; a ramp keeps them from falling on it at once.
pub const SLOW_START: Duration = Duration::from_secs(30);

/// The least share of a recovering backend, so that the first seconds are not a dead time.
const SLOW_START_FLOOR: f64 = 0.02;

/// What a chooser remembers between picks: its random numbers and the round-robin position. One per
/// data thread, so that picks share nothing.
#[derive(Debug)]
pub struct Turn {
    rng: fastrand::Rng,
    last: Option<usize>,
}

impl Turn {
    /// Starts from a seed. Nodes must not share seeds: a fleet that reboots together would
    /// otherwise make the same choices.
    pub fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), last: None }
    }
}

/// Picks the backend to try next, as an index into `snapshot.entries`, leaving out those in
/// `tried`. `None` when all have been tried.
///
/// The best tier with an untried backend wins (see [`crate::model::Tier`]); among its backends,
/// recovering ones take part with a probability that grows over [`SLOW_START`], and the policy of
/// the snapshot decides. Those in `aside` (see [`Backoff`]) come after the others of their tier, and
/// after all that are ready.
pub fn pick(
    snapshot: &Snapshot,
    now: Instant,
    tried: IndexSet,
    aside: IndexSet,
    turn: &mut Turn,
) -> Option<usize> {
    let best = untried_best(snapshot, tried, aside)?;
    let settled = best.retain(|index| takes_part(snapshot, index, now, &mut turn.rng));
    let candidates = if settled.is_empty() { best } else { settled };
    let load = |index: usize| snapshot.entries[index].backend.counters.active();
    let chosen = match snapshot.policy {
        Policy::LeastConnections => least_connections::choose(candidates, load, &mut turn.rng),
        Policy::RoundRobin => round_robin::choose(candidates, turn),
        Policy::Random => random::choose(candidates, &mut turn.rng),
        Policy::PowerOfTwo => power_of_two::choose(candidates, load, &mut turn.rng),
    };
    turn.last = chosen.or(turn.last);
    chosen
}

/// The untried backends of the best tier that has any.
fn untried_best(snapshot: &Snapshot, tried: IndexSet, aside: IndexSet) -> Option<IndexSet> {
    let mut best: Option<((Tier, bool), IndexSet)> = None;
    for (index, entry) in snapshot.entries.iter().enumerate().take(MAX_BACKENDS) {
        if tried.contains(index) {
            continue;
        }
        let rank = match (snapshot.tier(entry), aside.contains(index)) {
            (tier, false) => (tier, false),
            (tier, true) => (tier.max(Tier::Suspect), true),
        };
        match &mut best {
            Some((current, set)) if *current == rank => *set = set.with(index),
            Some((current, _)) if *current < rank => {}
            _ => best = Some((rank, IndexSet::EMPTY.with(index))),
        }
    }
    best.map(|(_, set)| set)
}

/// The share of new connections a backend is given, from a floor above 0 to 1.
pub fn slow_start_share(recovered_at: Option<Instant>, now: Instant) -> f64 {
    recovered_at.map_or(1.0, |since| {
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        (elapsed / SLOW_START.as_secs_f64()).clamp(SLOW_START_FLOOR, 1.0)
    })
}

fn takes_part(snapshot: &Snapshot, index: usize, now: Instant, rng: &mut fastrand::Rng) -> bool {
    let share = slow_start_share(snapshot.entries[index].recovered_at(), now);
    share >= 1.0 || rng.f64() < share
}

#[cfg(test)]
mod tests;
