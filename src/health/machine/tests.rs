//! The machine against the words of the design, by example and by the thousand.

use super::*;

fn rules() -> Rules {
    Rules {
        rise: NonZeroU32::new(2).unwrap(),
        fall: NonZeroU32::new(2).unwrap(),
        interval: Duration::from_secs(10),
        fast_interval: Duration::from_millis(500),
    }
}

fn ready() -> Verdict {
    Verdict::Ready { warning: None }
}

fn not_ready() -> Verdict {
    Verdict::NotReady(Reason::new("status500", "500"))
}

fn dead() -> Verdict {
    Verdict::Dead(Failure::Timeout, Reason::new("timeout", "no answer"))
}

/// A machine with a clock that steps.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self { machine: Machine::new(rules(), start), now: start }
    }

    /// Observes a probe that began half a second after the last one and took 100 ms.
    fn see(&mut self, verdict: Verdict) -> State {
        self.now += Duration::from_millis(500);
        let ended = self.now + Duration::from_millis(100);
        self.machine.observe(&Observation { started: self.now, ended, verdict });
        self.state()
    }

    fn state(&self) -> State {
        self.machine.condition().state
    }

    fn pace(&self) -> Duration {
        self.machine.pace(self.now, false)
    }
}

#[test]
fn the_first_good_answer_makes_it_ready_without_slow_start() {
    let mut bench = Bench::new();
    assert_eq!(bench.see(ready()), State::Ready);
    assert_eq!(bench.machine.condition().recovered_at, None);
    assert_eq!(bench.pace(), rules().interval);
}

#[test]
fn one_bad_answer_is_doubt_two_are_a_verdict() {
    let mut bench = Bench::new();
    bench.see(ready());
    let first_failed = bench.now + Duration::from_millis(500);
    assert_eq!(bench.see(dead()), State::Ready);
    assert!(bench.machine.condition().suspect);
    assert_eq!(bench.pace(), rules().fast_interval);
    assert_eq!(bench.see(dead()), State::Dead);
    let condition = bench.machine.condition();
    assert_eq!(condition.failing_since, Some(first_failed));
    assert_eq!(condition.reset_from, Some(condition.since));
}

#[test]
fn an_explicit_no_is_not_ready_and_never_dead() {
    let mut bench = Bench::new();
    bench.see(ready());
    assert_eq!(bench.see(not_ready()), State::Ready);
    for _ in 0..100 {
        assert_eq!(bench.see(not_ready()), State::NotReady);
    }
    assert_eq!(bench.machine.condition().failing_since, None);
    assert_eq!(bench.see(dead()), State::NotReady);
    assert_eq!(bench.see(dead()), State::Dead);
}

#[test]
fn it_recovers_after_rise_and_remembers_when() {
    let mut bench = Bench::new();
    for verdict in [ready(), dead(), dead(), ready()] {
        bench.see(verdict);
    }
    assert_eq!(bench.state(), State::Dead);
    assert_eq!(bench.see(ready()), State::Ready);
    let recovered_at = bench.machine.condition().recovered_at;
    assert_eq!(recovered_at, Some(bench.now + Duration::from_millis(100)));
}

#[test]
fn a_dead_one_that_says_no_is_alive_again() {
    let mut bench = Bench::new();
    for verdict in [dead(), dead(), not_ready()] {
        bench.see(verdict);
    }
    assert_eq!(bench.state(), State::Dead);
    assert_eq!(bench.see(not_ready()), State::NotReady);
}

#[test]
fn stale_answers_of_overlapping_probes_change_nothing() {
    let mut bench = Bench::new();
    bench.see(ready());
    let early = bench.now + Duration::from_millis(100);
    bench.see(ready());
    for _ in 0..5 {
        let ended = early + Duration::from_secs(1);
        bench.machine.observe(&Observation { started: early, ended, verdict: dead() });
    }
    assert_eq!(bench.state(), State::Ready);
    assert!(!bench.machine.condition().suspect);
}

#[test]
fn doubt_hurries_probes_and_never_condemns() {
    let mut bench = Bench::new();
    bench.see(ready());
    let since = bench.now + Duration::from_millis(50);
    assert!(bench.machine.doubt(since));
    assert!(!bench.machine.doubt(since), "known already");
    assert_eq!(bench.pace(), rules().fast_interval);
    for _ in 0..1000 {
        bench.machine.doubt(since);
    }
    assert_eq!(bench.state(), State::Ready);
    bench.see(ready());
    assert!(!bench.machine.condition().suspect, "settled by a probe that began later");
    assert!(!bench.machine.doubt(since), "older than a good probe");
}

#[test]
fn a_second_reset_within_minutes_needs_twice_the_evidence() {
    let mut bench = Bench::new();
    for verdict in [ready(), dead(), dead(), ready(), ready(), dead(), dead()] {
        bench.see(verdict);
    }
    let condition = bench.machine.condition();
    assert_eq!(condition.reset_from, Some(condition.since), "the first time, nothing was reset");
    bench.machine.note_resets(bench.now);
    for verdict in [ready(), ready(), dead(), dead()] {
        bench.see(verdict);
    }
    let condition = bench.machine.condition().clone();
    let evidence = condition.since - condition.failing_since.unwrap();
    assert_eq!(condition.reset_from, Some(condition.since + evidence));
    bench.see(ready());
    bench.see(ready());
    bench.now += RESET_MEMORY;
    bench.see(dead());
    bench.see(dead());
    let condition = bench.machine.condition();
    assert_eq!(condition.reset_from, Some(condition.since), "long ago");
}

#[test]
fn a_wrong_certificate_is_dead_and_resets_nothing() {
    let mut bench = Bench::new();
    bench.see(ready());
    for failure in [Failure::Expired, Failure::Expired] {
        bench.see(Verdict::Dead(failure, Reason::new("expired", "expired")));
    }
    let condition = bench.machine.condition();
    assert_eq!((condition.state, condition.reset_from), (State::Dead, None));
}

#[test]
fn paces_follow_the_need() {
    let mut bench = Bench::new();
    bench.see(ready());
    assert_eq!(bench.pace(), rules().interval);
    bench.see(dead());
    bench.see(dead());
    let at = |seconds, none_ready| {
        let now = bench.now + Duration::from_secs(seconds);
        bench.machine.pace(now, none_ready).as_millis()
    };
    assert_eq!(at(0, false), 500);
    assert!((3900..4100).contains(&at(32, false)));
    assert_eq!(at(3600, false), 10_000);
    assert_eq!(at(3600, true), 1000);
}

#[test]
fn an_idle_backend_is_probed_at_one_turn_of_three_and_a_used_one_at_each() {
    let mut bench = Bench::new();
    assert!(!bench.machine.may_skip(true, 0), "nothing is known of it");
    bench.see(ready());
    let may_skip =
        |machine: &Machine, idle| [0, 1, 2].map(|skipped| machine.may_skip(idle, skipped));
    assert_eq!(may_skip(&bench.machine, true), [true, true, false]);
    assert_eq!(may_skip(&bench.machine, false), [false; 3]);
    assert!(bench.machine.doubt(bench.now + Duration::from_secs(1)));
    assert_eq!(may_skip(&bench.machine, true), [false; 3], "in doubt");
    bench.see(dead());
    bench.see(dead());
    assert_eq!(may_skip(&bench.machine, true), [false; 3], "dead");
}
