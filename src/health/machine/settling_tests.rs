//! A backend that says no more than "alive" (401, 403) on its way back.

use std::num::NonZeroU32;

use super::*;

const STEP: Duration = Duration::from_millis(500);

/// A backend with a probe every half second.
struct Probed {
    machine: Machine,
    now: Instant,
}

impl Probed {
    fn new() -> Self {
        let two = NonZeroU32::new(2).unwrap();
        let interval = Duration::from_secs(10);
        let rules = Rules { rise: two, fall: two, interval, fast_interval: STEP };
        let now = Instant::now();
        Self { machine: Machine::new(rules, now), now }
    }

    /// So many probes with this result; returns the state after the last.
    fn hears(&mut self, times: u32, verdict: &Verdict) -> State {
        for _ in 0..times {
            self.now += STEP;
            let (started, ended, verdict) = (self.now, self.now, verdict.clone());
            self.machine.observe(&Observation { started, ended, verdict });
        }
        self.machine.condition().state
    }
}

fn ready() -> Verdict {
    Verdict::Ready { warning: None }
}

fn alive() -> Verdict {
    Verdict::Alive(Reason::new("status403", "answers 403"))
}

fn not_ready() -> Verdict {
    Verdict::NotReady(Reason::new("status500", "answers 500"))
}

fn dead() -> Verdict {
    Verdict::Dead(Failure::Refused, Reason::new("refused", "refused"))
}

#[test]
fn without_anonymous_access_a_backend_is_ready_with_a_warning() {
    let mut backend = Probed::new();
    assert_eq!(backend.hears(1, &alive()), State::Ready);
    assert_eq!(backend.hears(100, &alive()), State::Ready);
    let condition = backend.machine.condition();
    assert!(!condition.suspect);
    assert_eq!(condition.reason.code, "ok");
    assert_eq!(condition.warning.as_ref().unwrap().code, "status403");
}

#[test]
fn a_ready_backend_stays_so_when_anonymous_access_is_taken_away() {
    let mut backend = Probed::new();
    assert_eq!(backend.hears(1, &ready()), State::Ready);
    assert_eq!(backend.hears(3, &alive()), State::Ready);
    assert!(backend.machine.condition().warning.is_some());
}

#[test]
fn a_starting_apiserver_that_answers_403_at_first_is_not_ready_before_it_says_so() {
    let mut backend = Probed::new();
    backend.hears(1, &ready());
    assert_eq!(backend.hears(2, &dead()), State::Dead);
    assert_eq!(backend.hears(4, &alive()), State::NotReady);
    let condition = backend.machine.condition();
    assert_eq!((condition.reason.code.as_str(), &condition.warning), ("status403", &None));
    assert_eq!(backend.hears(1, &not_ready()), State::NotReady);
    assert_eq!(backend.hears(1, &ready()), State::NotReady);
    assert_eq!(backend.hears(1, &ready()), State::Ready);
}

#[test]
fn without_anonymous_access_a_backend_comes_back_when_it_has_settled() {
    let steps = u32::try_from(SETTLING.as_millis() / STEP.as_millis()).unwrap();
    let mut backend = Probed::new();
    backend.hears(1, &alive());
    assert_eq!(backend.hears(2, &dead()), State::Dead);
    assert_eq!(backend.hears(steps, &alive()), State::NotReady);
    assert_eq!(backend.hears(1, &alive()), State::Ready);
    assert!(backend.machine.condition().warning.is_some());
    assert!(backend.machine.condition().recovered_at.is_some());

    // Another answer in between begins it anew.
    backend.hears(2, &dead());
    backend.hears(steps, &alive());
    backend.hears(1, &not_ready());
    assert_eq!(backend.hears(steps, &alive()), State::NotReady);
    assert_eq!(backend.hears(1, &alive()), State::Ready);
}
