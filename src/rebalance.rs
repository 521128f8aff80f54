//! Which connections move when a backend is ready again, and when a quiet moment is one. Pure: counts,
//! the clock and randomness come in as arguments.

mod moves;

use std::time::{Duration, Instant};

use crate::model::{Snapshot, State, Tier};

pub use moves::{Connections, Movable, Move, Moves};

/// The probability with which each connection of a backend is to move, by the index of its entry.
///
/// Every node decides for itself, with few connections: two connections over three backends cannot
/// be even. So the surplus over the exact share, a fraction, is moved on average: then the fleet is
/// even although no node is. Connections of a worse tier (another zone, while the own zone has a
/// backend ready) all move.
pub fn surplus(snapshot: &Snapshot) -> Vec<f64> {
    let ready = |entry: &&crate::model::Entry| entry.is_ready();
    // Doubt passes: it says nothing about where connections belong.
    let tier = |entry: &crate::model::Entry| match snapshot.tier(entry) {
        Tier::Suspect => Tier::Remote,
        tier => tier,
    };
    let active = |entry: &crate::model::Entry| count(entry.backend.counters.active());
    let Some(best) = snapshot.entries.iter().filter(ready).map(tier).min() else {
        return vec![0.0; snapshot.entries.len()];
    };
    let all: f64 = snapshot.entries.iter().filter(ready).map(active).sum();
    let takers = snapshot.entries.iter().filter(ready).filter(|entry| tier(entry) == best).count();
    let share = all / count(takers);
    let surplus = |entry: &crate::model::Entry| match entry.state() {
        State::Ready if tier(entry) > best => 1.0,
        State::Ready if active(entry) > share => 1.0 - share / active(entry),
        _ => 0.0,
    };
    snapshot.entries.iter().map(surplus).collect()
}

/// Draws the connections that are to move, each with the probability of its backend.
///
/// Not by a throw for each: of fifteen connections, a third of which is to move, that would now and
/// then be seven, the last two of which find that nothing is left to move, and now and then three,
/// which nobody makes up for; the fleet would stay uneven. So as many as the probabilities add up to
/// are drawn, rounded up or down at random so that the mean is exact.
#[derive(Debug)]
pub struct Lottery {
    shares: Vec<f64>,
    /// The fraction of a connection that each backend owes.
    owed: Vec<f64>,
}

impl Lottery {
    /// A lottery with these probabilities (see [`surplus`]); `random` gives numbers from 0 to 1.
    pub fn new(shares: Vec<f64>, mut random: impl FnMut() -> f64) -> Self {
        let owed = shares.iter().map(|_| random()).collect();
        Self { shares, owed }
    }

    /// Is this connection of the backend with this index to move?
    pub fn draw(&mut self, backend: usize) -> bool {
        self.owed[backend] += self.shares[backend];
        let drawn = self.owed[backend] >= 1.0;
        if drawn {
            self.owed[backend] -= 1.0;
        }
        drawn
    }
}

/// What is known of a connection when it is to move.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// The last byte either way.
    pub last_byte: Instant,
    /// Both directions are between two TLS records, or not TLS.
    pub between_records: bool,
    /// A request has no answer yet, as far as record sizes tell.
    pub awaits_answer: bool,
}

/// Can the connection be closed now without cutting anything?
///
/// A request that is on its way when the client is told cannot be saved. A client that asks at a
/// steady pace asks next when its pace says so: the safest moment is just after a silence of
/// `quiet_for`, within a quarter of it, and any later one is a gamble; unless the silence is as long
/// as `seldom`, so that it seldom asks at all.
pub fn is_quiet(traffic: &Traffic, quiet_for: Duration, seldom: Duration, now: Instant) -> bool {
    let silence = now.saturating_duration_since(traffic.last_byte);
    let just_quiet = silence >= quiet_for && silence <= quiet_for + quiet_for / 4;
    traffic.between_records && !traffic.awaits_answer && (just_quiet || silence >= seldom)
}

/// When to look again at a connection that is not quiet yet.
pub fn look_again(traffic: &Traffic, quiet_for: Duration, now: Instant) -> Instant {
    let soon = now + (quiet_for / 8).clamp(Duration::from_millis(2), Duration::from_millis(100));
    let quiet_at = traffic.last_byte + quiet_for;
    if traffic.awaits_answer || !traffic.between_records || quiet_at <= now {
        soon
    } else {
        quiet_at
    }
}

/// Exact up to 2^53, which no count of connections reaches.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Active, Backend, BackendName, Condition, Entry, Policy};

    fn snapshot(backends: &[(State, usize, Option<&str>)]) -> (Snapshot, Vec<Active>) {
        let now = Instant::now();
        let mut held = Vec::new();
        let entries = backends.iter().enumerate().map(|(number, (state, active, zone))| {
            let address = format!("10.0.0.{number}:6443").parse().unwrap();
            let name = BackendName::new(format!("cp{number}"));
            let backend = Arc::new(Backend::new(name, address, zone.map(Into::into)));
            held.extend((0..*active).map(|_| backend.occupy()));
            let condition = Condition { state: *state, ..Condition::unknown(now) };
            Entry::new(backend, [].into(), condition)
        });
        let entries = entries.collect();
        (Snapshot { generation: 0, zone: None, policy: Policy::default(), entries }, held)
    }

    fn percent(snapshot: &Snapshot) -> Vec<i64> {
        #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
        surplus(snapshot).iter().map(|share| (share * 100.0).round() as i64).collect()
    }

    #[test]
    fn the_surplus_over_the_exact_share_moves() {
        use State::{Dead, NotReady, Ready};
        let of = |backends: &[(State, usize, Option<&str>)]| percent(&snapshot(backends).0);
        assert_eq!(of(&[(Ready, 0, None), (Ready, 15, None), (Ready, 15, None)]), [0, 33, 33]);
        assert_eq!(of(&[(Ready, 0, None), (Ready, 1, None), (Ready, 1, None)]), [0, 33, 33]);
        assert_eq!(of(&[(Ready, 5, None), (Ready, 5, None)]), [0, 0]);
        assert_eq!(of(&[(Dead, 9, None), (NotReady, 9, None), (Ready, 1, None)]), [0, 0, 0]);
        assert_eq!(of(&[(Dead, 9, None)]), [0]);
        assert_eq!(of(&[(Ready, 0, None)]), [0]);
    }

    #[test]
    fn as_many_are_drawn_as_the_shares_add_up_to() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut fives = 0;
        for _ in 0..1000 {
            let mut lottery = Lottery::new(vec![0.0, 0.3, 1.0], || rng.f64());
            let mut drawn = |backend| (0..15).filter(|_| lottery.draw(backend)).count();
            let some = drawn(1);
            assert!((4..=5).contains(&some), "{some} of 15 for 4.5");
            fives += usize::from(some == 5);
            assert_eq!([drawn(0), drawn(2)], [0, 15]);
        }
        assert!((450..550).contains(&fives), "{fives} of 1000 rounded up");
    }

    #[test]
    fn connections_come_home_to_their_zone() {
        let a = (State::Ready, 0, Some("a"));
        let b = (State::Ready, 6, Some("b"));
        let (mut snapshot, _held) = snapshot(&[a, b]);
        snapshot.zone = Some("a".into());
        assert_eq!(percent(&snapshot), [0, 100]);
    }

    #[test]
    fn quiet_is_silent_whole_and_answered() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let quiet = Traffic { last_byte: now, between_records: true, awaits_answer: false };
        let (two, eight) = (Duration::from_secs(2), Duration::from_secs(8));
        let is = |traffic: &Traffic, now| is_quiet(traffic, two, eight, now);
        assert!(is(&quiet, later));
        assert!(is(&quiet, later + Duration::from_millis(500)));
        assert!(!is(&quiet, later + Duration::from_secs(1)), "it may be about to ask");
        assert!(is(&quiet, later + Duration::from_secs(6)), "it seldom asks");
        assert!(!is(&quiet, now + Duration::from_millis(1999)));
        assert!(!is(&Traffic { between_records: false, ..quiet }, later));
        assert!(!is(&Traffic { awaits_answer: true, ..quiet }, later));
    }
}
