//! Sets a backend aside for a moment when a connection to it could not be made, so that not every
//! client has to find that out anew. Pure: the clock and the randomness come in as arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::IndexSet;
use crate::model::{Backend, Snapshot, State};

/// How long a backend is set aside after a first failure: about as long as the health component
/// takes to hear of it and to probe.
const FIRST: Duration = Duration::from_millis(50);

/// The longest time: a backend is declared dead within 2 s, and one that is back is not missed for
/// longer even when nothing else tells.
const LONGEST: Duration = Duration::from_secs(2);

/// By which part a time is lengthened or shortened at random, as gRPC's connection back-off does, so
/// that nodes which failed together do not come back together.
const JITTER: f64 = 0.2;

/// The backends that a data thread has set aside. While there is another one that is ready, they are
/// not tried first; nobody is turned away because of it.
///
/// When the time of one is over, one client tries it, and the others go on as before until that
/// attempt has ended, or for as long as silence takes to be noticed. A good probe does not end the time: probes may get through where clients do
/// not.
#[derive(Debug, Default)]
pub struct Backoff {
    aside: Vec<Aside>,
}

#[derive(Debug)]
struct Aside {
    backend: Arc<Backend>,
    /// Failures in a row; those of attempts that were under way together count as one.
    failures: u32,
    /// When the last of them was noticed.
    failed_at: Instant,
    /// The time that it is set aside for.
    time: Duration,
    until: Instant,
}

impl Backoff {
    /// The backends that are not to be tried first, by the index of their entries. One that has
    /// become ready since it failed is forgiven, and one that is in no snapshot any more forgotten.
    pub fn aside(&mut self, snapshot: &Snapshot, now: Instant) -> IndexSet {
        self.aside.retain(|aside| {
            let entry = snapshot.entry(&aside.backend);
            entry.is_some_and(|entry| {
                let condition = &entry.condition;
                condition.state != State::Ready || condition.since <= aside.failed_at
            })
        });
        let entries = snapshot.entries.iter().enumerate();
        let held = entries.filter(|(_, entry)| {
            let mut aside = self.aside.iter();
            aside.any(|aside| Arc::ptr_eq(&aside.backend, &entry.backend) && now < aside.until)
        });
        held.fold(IndexSet::EMPTY, |set, (index, _)| set.with(index))
    }

    /// A client tries this backend. If its time is over, others wait for what comes of it. Silence is
    /// noticed after `hedge_after`, when another backend has answered besides: that takes no longer
    /// than the first time.
    pub fn tried(&mut self, backend: &Arc<Backend>, hedge_after: Duration, now: Instant) {
        if let Some(aside) = self.find(backend)
            && aside.until <= now
        {
            aside.until = now + aside.time.max(hedge_after + FIRST);
        }
    }

    /// An attempt that began then has failed. `random` is a number from 0 to 1.
    pub fn failed(&mut self, backend: &Arc<Backend>, began: Instant, now: Instant, random: f64) {
        let failures = match self.find(backend) {
            Some(aside) if began <= aside.failed_at => return,
            Some(aside) => aside.failures + 1,
            None => 1,
        };
        let time = time(failures, random);
        self.connected(backend);
        let (backend, until) = (backend.clone(), now + time);
        self.aside.push(Aside { backend, failures, failed_at: now, time, until });
    }

    /// It has taken a connection: all is forgiven.
    pub fn connected(&mut self, backend: &Arc<Backend>) {
        self.aside.retain(|aside| !Arc::ptr_eq(&aside.backend, backend));
    }

    fn find(&mut self, backend: &Arc<Backend>) -> Option<&mut Aside> {
        self.aside.iter_mut().find(|aside| Arc::ptr_eq(&aside.backend, backend))
    }
}

/// The time after so many failures in a row, from 1.
fn time(failures: u32, random: f64) -> Duration {
    // 2^6 times the first is over the longest.
    let doubled = FIRST * 2_u32.pow(failures.saturating_sub(1).min(6));
    doubled.min(LONGEST).mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::snapshot;
    use crate::balance::{Turn, pick};
    use crate::model::Policy;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn indices(set: IndexSet) -> Vec<usize> {
        set.iter().collect()
    }

    #[test]
    fn the_time_doubles_up_to_two_seconds_with_jitter() {
        let times = |random| (1..=40).map(|failures| time(failures, random)).collect::<Vec<_>>();
        assert_eq!(times(0.5)[..7], [50, 100, 200, 400, 800, 1600, 2000].map(ms));
        assert_eq!(times(0.5)[39], ms(2000));
        assert_eq!([times(0.0)[0], times(1.0)[0]], [ms(40), ms(60)]);
    }

    #[test]
    fn a_failed_backend_is_aside_until_its_time_is_over_and_one_client_tries_it_then() {
        let start = Instant::now();
        let snapshot = snapshot(Policy::LeastConnections, &[State::Ready; 3], start);
        let backend = &snapshot.entries[1].backend;
        let mut backoff = Backoff::default();
        backoff.failed(backend, start, start + ms(1), 0.5);
        // Others that were under way tell nothing new.
        backoff.failed(backend, start, start + ms(2), 0.5);
        assert_eq!(indices(backoff.aside(&snapshot, start + ms(50))), [1]);
        let again = start + ms(51);
        assert!(backoff.aside(&snapshot, again).is_empty());
        backoff.tried(backend, ms(200), again);
        assert_eq!(indices(backoff.aside(&snapshot, again)), [1], "somebody is trying it");
        backoff.failed(backend, again, again, 0.5);
        assert_eq!(indices(backoff.aside(&snapshot, again + ms(99))), [1]);
        assert!(backoff.aside(&snapshot, again + ms(100)).is_empty());
        backoff.connected(backend);
        backoff.failed(backend, again + ms(1), again + ms(1), 0.5);
        assert!(backoff.aside(&snapshot, again + ms(51)).is_empty(), "from the beginning");
    }

    #[test]
    fn one_client_at_a_time_tries_a_silent_backend() {
        let start = Instant::now();
        let snapshot = snapshot(Policy::LeastConnections, &[State::Ready; 2], start);
        let backend = &snapshot.entries[0].backend;
        let mut backoff = Backoff::default();
        backoff.failed(backend, start, start, 0.5);
        let again = start + ms(50);
        backoff.tried(backend, ms(200), again);
        let noticed = again + ms(210);
        assert_eq!(indices(backoff.aside(&snapshot, noticed)), [0]);
        backoff.failed(backend, again, noticed, 0.5);
        assert_eq!(indices(backoff.aside(&snapshot, noticed + ms(99))), [0]);
        assert!(backoff.aside(&snapshot, noticed + ms(100)).is_empty());
        // Nobody heard how this attempt ended: its client left.
        backoff.tried(backend, ms(200), noticed + ms(100));
        assert!(backoff.aside(&snapshot, noticed + ms(350)).is_empty());
    }

    #[test]
    fn becoming_ready_forgives_and_another_snapshot_forgets() {
        let start = Instant::now();
        let mut snapshot = snapshot(Policy::LeastConnections, &[State::Ready; 2], start);
        let backend = snapshot.entries[0].backend.clone();
        let mut backoff = Backoff::default();
        backoff.failed(&backend, start, start + ms(1), 0.5);
        snapshot.entries[0].condition.state = State::Dead;
        snapshot.entries[0].condition.since = start + ms(2);
        assert_eq!(indices(backoff.aside(&snapshot, start + ms(3))), [0]);
        snapshot.entries[0].condition.state = State::Ready;
        assert!(backoff.aside(&snapshot, start + ms(3)).is_empty());

        backoff.failed(&backend, start + ms(4), start + ms(4), 0.5);
        snapshot.entries.remove(0);
        assert!(backoff.aside(&snapshot, start + ms(5)).is_empty());
        assert!(backoff.aside.is_empty());
    }

    #[test]
    fn what_is_aside_comes_after_what_is_ready_and_before_what_is_not() {
        let now = Instant::now();
        let states = [State::Ready, State::Ready, State::NotReady, State::Dead, State::Dead];
        let mut snapshot = snapshot(Policy::LeastConnections, &states, now);
        snapshot.entries[1].condition.suspect = true;
        let aside = IndexSet::EMPTY.with(0).with(3);
        let (mut tried, mut order) = (IndexSet::EMPTY, Vec::new());
        let mut turn = Turn::new(1);
        while let Some(index) = pick(&snapshot, now, tried, aside, &mut turn) {
            tried = tried.with(index);
            order.push(index);
        }
        assert_eq!(order, [1, 0, 2, 4, 3]);
    }
}
