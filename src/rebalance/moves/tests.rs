//! The moves of connections that are no more than what is known of them.

use std::cell::Cell;
use std::sync::Arc;

use super::*;
use crate::model::{Active, Backend, BackendName, Condition, Policy};

struct Fake {
    place: usize,
    wish: Cell<Option<Move>>,
    last_byte: Instant,
    busy: bool,
    closed: Cell<Option<CloseReason>>,
    _active: Active,
}

impl Movable for Fake {
    fn place(&self, _: &Snapshot) -> Option<usize> {
        Some(self.place)
    }

    fn wish(&self) -> Option<Move> {
        self.wish.get()
    }

    fn set_wish(&self, wish: Option<Move>) {
        self.wish.set(wish);
    }

    fn traffic(&self, _: Instant) -> Traffic {
        let last_byte = self.last_byte;
        Traffic { last_byte, between_records: true, awaits_answer: self.busy }
    }

    fn close(&self, reason: CloseReason) {
        self.closed.set(Some(reason));
    }

    fn reprieve(&self) {
        self.closed.set(None);
    }
}

struct Fakes(Vec<Fake>);

impl Connections for Fakes {
    type Connection = Fake;

    fn each(&self, look: impl FnMut(&Fake)) {
        self.0.iter().filter(|fake| fake.closed.get().is_none()).for_each(look);
    }
}

/// Connections that have carried nothing for an hour, and the moves of them.
struct Bench {
    now: Instant,
    snapshot: Snapshot,
    connections: Fakes,
    moves: Moves,
    rng: fastrand::Rng,
}

const WINDOW: Duration = Duration::from_mins(5);
const DRAIN: Duration = Duration::from_mins(1);

impl Bench {
    /// So many connections on each backend.
    fn new(counts: &[usize]) -> Self {
        let start = Instant::now();
        let now = start + Duration::from_hours(1);
        let entry = |number| {
            let address = format!("10.0.0.{number}:6443").parse().unwrap();
            let backend = Backend::new(BackendName::new(format!("cp{number}")), address, None);
            let condition = Condition { state: State::Ready, ..Condition::unknown(start) };
            Entry::new(Arc::new(backend), [].into(), condition)
        };
        let entries: Vec<_> = (0..counts.len()).map(entry).collect();
        let fake = |place: usize| Fake {
            place,
            wish: Cell::default(),
            last_byte: start,
            busy: false,
            closed: Cell::default(),
            _active: entries[place].backend.occupy(),
        };
        let places = counts.iter().enumerate().flat_map(|(place, count)| vec![place; *count]);
        let connections = Fakes(places.map(fake).collect());
        let policy = Policy::LeastConnections;
        let rules = Rebalance {
            enabled: true,
            after: Duration::from_secs(30),
            window: WINDOW,
            quiet_for: Duration::from_secs(2),
        };
        Self {
            now,
            snapshot: Snapshot { generation: 0, zone: None, policy, entries },
            connections,
            moves: Moves::new(rules, DRAIN),
            rng: fastrand::Rng::with_seed(1),
        }
    }

    fn set(&mut self, backend: usize, state: State) {
        self.snapshot.entries[backend].condition.state = state;
        if state == State::Ready {
            self.snapshot.entries[backend].condition.recovered_at = Some(self.now);
        }
    }

    /// Sweeps for so long, whenever it is to be done.
    fn go(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let rng = &mut self.rng;
            let next = self.moves.sweep(&self.connections, &self.snapshot, self.now, || rng.f64());
            match next {
                Some(next) if next <= end => {
                    assert!(next > self.now, "time does not stand still");
                    self.now = next;
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn closed(&self, reason: CloseReason) -> usize {
        self.connections.0.iter().filter(|fake| fake.closed.get() == Some(reason)).count()
    }
}

#[test]
fn the_surplus_moves_to_a_recovered_backend_spread_over_the_window() {
    let mut bench = Bench::new(&[0, 30, 30]);
    bench.set(0, State::Ready);
    bench.go(Duration::from_secs(30));
    assert_eq!(bench.closed(CloseReason::Rebalanced), 0, "before `after`");
    bench.go(WINDOW / 2);
    let half = bench.closed(CloseReason::Rebalanced);
    assert!((5..16).contains(&half), "{half} of 20 in half of the window");
    bench.go(WINDOW / 2);
    assert!((19..=21).contains(&bench.closed(CloseReason::Rebalanced)));
    bench.go(WINDOW * 10);
    assert!((19..=21).contains(&bench.closed(CloseReason::Rebalanced)), "no more later");
}

#[test]
fn busy_connections_stay_and_rebalance_can_be_off() {
    let mut bench = Bench::new(&[0, 30, 30]);
    bench.connections.0.iter_mut().for_each(|fake| fake.busy = true);
    bench.set(0, State::Ready);
    bench.go(WINDOW * 2);
    assert_eq!(bench.closed(CloseReason::Rebalanced), 0);
    assert!(bench.connections.0.iter().all(|fake| fake.wish().is_none()), "the wish is over");

    let mut bench = Bench::new(&[0, 30, 30]);
    bench.moves.rules.enabled = false;
    bench.set(0, State::Ready);
    bench.go(WINDOW * 2);
    assert_eq!(bench.closed(CloseReason::Rebalanced), 0);
}

#[test]
fn an_unready_backend_is_left_within_its_time_and_by_the_busy_a_little_later() {
    let mut bench = Bench::new(&[10, 10]);
    bench.connections.0[0].busy = true;
    bench.set(0, State::NotReady);
    bench.go(DRAIN / 2);
    let half = bench.closed(CloseReason::Drained);
    assert!((2..8).contains(&half), "{half} of 10 in half of the time");
    bench.go(DRAIN / 2);
    assert_eq!(bench.closed(CloseReason::Drained), 9);
    bench.go(GRACE + PACE);
    assert_eq!(bench.closed(CloseReason::Drained), 10);
    assert!(bench.connections.0[0].wish().unwrap().forced);
}

#[test]
fn nobody_leaves_for_nothing_and_a_backend_that_is_ready_again_is_not_left() {
    let mut bench = Bench::new(&[10, 10]);
    bench.set(0, State::NotReady);
    bench.set(1, State::NotReady);
    bench.go(DRAIN * 2);
    assert_eq!(bench.closed(CloseReason::Drained), 0, "there is nowhere to go");
    bench.snapshot.entries[0].condition.state = State::Ready;
    bench.snapshot.entries[1].condition.state = State::Ready;
    bench.go(DRAIN * 2);
    assert_eq!(bench.closed(CloseReason::Drained), 0);
}

/// Regression: when all backends had said no for longer than `drainTimeout`, the first that was ready
/// again got all connections of the others at once, busy or not.
#[test]
fn after_an_outage_of_all_the_first_that_returns_is_not_run_over() {
    let mut bench = Bench::new(&[0, 40]);
    bench.connections.0.iter_mut().for_each(|fake| fake.busy = true);
    bench.set(0, State::NotReady);
    bench.set(1, State::NotReady);
    bench.go(5 * DRAIN);
    assert_eq!(bench.closed(CloseReason::Drained), 0, "there is nowhere to go");
    bench.set(0, State::Ready);
    bench.go(DRAIN * 59 / 60);
    assert_eq!(bench.closed(CloseReason::Drained), 0, "busy ones have all of the time");
    bench.go(Duration::from_secs(10));
    assert_eq!(bench.closed(CloseReason::Drained), 40, "and not much more");
}

/// Regression: each time that the only ready backend missed a probe, the time of a drain began anew, so
/// that it might never end.
#[test]
fn a_drain_stands_still_while_there_is_nowhere_to_go_and_then_goes_on() {
    let mut bench = Bench::new(&[0, 40]);
    bench.set(1, State::NotReady);
    let (step, gap) = (Duration::from_secs(10), Duration::from_secs(1));
    let mut counts = vec![0];
    for round in 0..6 {
        bench.go(step);
        counts.push(bench.closed(CloseReason::Drained));
        bench.set(0, State::NotReady);
        bench.go(if round == 2 { 10 * DRAIN } else { gap });
        assert_eq!(bench.closed(CloseReason::Drained), *counts.last().unwrap(), "nowhere to go");
        bench.set(0, State::Ready);
    }
    let steps: Vec<_> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(counts.last(), Some(&40), "the time is over after its minute: {steps:?}");
    assert!(steps[..5].iter().all(|count| (1..20).contains(count)), "spread over it: {steps:?}");
}

#[test]
fn those_who_come_while_there_is_nowhere_to_go_have_all_of_the_time_after_it() {
    let mut bench = Bench::new(&[0, 40]);
    bench.set(1, State::NotReady);
    bench.go(Duration::from_millis(1));
    bench.set(0, State::NotReady);
    // Whoever has come since the loss has no wish yet.
    bench.connections.0.iter().for_each(|fake| fake.wish.set(None));
    bench.go(10 * DRAIN);
    bench.set(0, State::Ready);
    bench.go(DRAIN / 3);
    let early = bench.closed(CloseReason::Drained);
    assert!((1..30).contains(&early), "{early} of 40 in a third of the time");
    bench.go(DRAIN);
    assert_eq!(bench.closed(CloseReason::Drained), 40);
}

#[test]
fn patience_falls_in_halving_steps() {
    let bench = Bench::new(&[1]);
    let (at, until) = (bench.now, bench.now + DRAIN);
    let reason = CloseReason::Drained;
    let wish = Move { since: at, at, until, asked: at, forced: false, reason };
    let seen = [0, 29, 30, 45, 53, 60]
        .map(|s| bench.moves.patience(&wish, bench.now + Duration::from_secs(s)).as_millis());
    assert_eq!(seen, [2000, 2000, 1000, 500, 250, 25]);
}
