//! The health of one backend as a pure state machine: observations and the clock in, a condition out.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::model::{Condition, Failure, Reason, State};

/// How long a mass reset is remembered: within it, a further one of the same backend needs twice
/// the evidence, so that flapping cannot set off a storm of reconnects (kubernetes#65954).
pub const RESET_MEMORY: Duration = Duration::from_mins(5);

/// The pace for a backend when no backend is ready. New connections try them all anyway.
pub(super) const NONE_READY_PACE: Duration = Duration::from_secs(1);

/// A bad backend is probed at `fastInterval` first and then less and less often, at this fraction
/// of the time it has been bad: a server that is being repaired is not greeted by a whole fleet.
const BACK_OFF_FRACTION: u32 = 8;

/// A backend that carries none of this node's connections is probed at one turn of so many.
const IDLE_TURNS: u32 = 3;

/// How long a backend on its way back has to answer no more than "alive" before it counts as ready.
/// A kube-apiserver that starts says 403 to nearly everybody until it has read the RBAC rules, and
/// 401 to a stranger without anonymous access from the first moment on. It is not ready for some
/// seconds more, and whoever is sent to it gets 403s for requests that are allowed.
pub const SETTLING: Duration = Duration::from_secs(10);

/// What judges observations: part of `healthCheck`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Good answers in a row that make a backend ready.
    pub rise: NonZeroU32,
    /// Bad answers in a row that take it out.
    pub fall: NonZeroU32,
    /// Pace while all is well.
    pub interval: Duration,
    /// Pace while in doubt.
    pub fast_interval: Duration,
}

/// What a probe learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes requests, perhaps with something to mend.
    Ready {
        /// What to mend.
        warning: Option<Reason>,
    },
    /// It is alive, but does not let us know whether it is ready (401, 403).
    Alive(Reason),
    /// It is alive and says no.
    NotReady(Reason),
    /// It does not answer as a healthy server does.
    Dead(Failure, Reason),
}

/// A verdict and when its probe began. A probe that failed for a reason of our own is no observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When the probe began.
    pub started: Instant,
    /// When it ended; not before `started`.
    pub ended: Instant,
    /// What it learned.
    pub verdict: Verdict,
}

/// Lengths of the current runs of like observations.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    good: u32,
    bad: u32,
    alive: u32,
    silent: u32,
    /// When the first probe of the run of answers that say no more than "alive" began.
    alive_only_since: Option<Instant>,
    /// When the first probe of the silent run began.
    silent_since: Option<Instant>,
}

impl Runs {
    fn count(&mut self, observation: &Observation) {
        match observation.verdict {
            Verdict::Ready { .. } => {
                *self = Self { good: self.good + 1, alive: self.alive + 1, ..Self::default() };
            }
            Verdict::Alive(_) => {
                *self = Self {
                    alive: self.alive + 1,
                    alive_only_since: self.alive_only_since.or(Some(observation.started)),
                    ..Self::default()
                };
            }
            Verdict::NotReady(_) => {
                *self = Self { bad: self.bad + 1, alive: self.alive + 1, ..Self::default() };
            }
            Verdict::Dead(..) => {
                *self = Self {
                    bad: self.bad + 1,
                    silent: self.silent + 1,
                    silent_since: self.silent_since.or(Some(observation.started)),
                    ..Self::default()
                };
            }
        }
    }
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Machine {
    rules: Rules,
    condition: Condition,
    runs: Runs,
    /// The start of the newest probe that counted: older ones that end later are stale.
    newest: Option<Instant>,
    /// Evidence of doubt newer than this is not settled yet.
    doubted: Option<Instant>,
    /// When connections of the backend were last reset in a mass.
    last_reset: Option<Instant>,
}

impl Machine {
    /// A backend that has not been probed.
    pub fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            condition: Condition::unknown(now),
            runs: Runs::default(),
            newest: None,
            doubted: None,
            last_reset: None,
        }
    }

    /// The state in force and the evidence for it.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Takes in what a probe learned. Observations of overlapping probes may come in any order: one
    /// that began before the newest that counted is stale and changes nothing.
    pub fn observe(&mut self, observation: &Observation) {
        if self.newest.is_some_and(|newest| observation.started < newest) {
            return;
        }
        self.newest = Some(observation.started);
        self.runs.count(observation);
        let alive = !matches!(observation.verdict, Verdict::Dead(..));
        if alive && self.doubted.is_some_and(|since| observation.started >= since) {
            self.doubted = None;
        }
        if let Some(next) = self.next_state(observation) {
            self.enter(next, observation);
            self.doubted = None;
        }
        self.condition.failing = self.condition.state == State::Ready && self.runs.bad > 0;
        self.condition.suspect = self.condition.failing || self.doubted.is_some();
        let ok = || Reason::new("ok", "answers its check");
        let (reason, warning) = match &observation.verdict {
            Verdict::Ready { warning } => (ok(), warning.clone()),
            Verdict::Alive(reason) if self.condition.state == State::Ready => {
                (ok(), Some(reason.clone()))
            }
            Verdict::Alive(reason) | Verdict::NotReady(reason) | Verdict::Dead(_, reason) => {
                (reason.clone(), None)
            }
        };
        self.condition.reason = reason;
        self.condition.warning = warning;
    }

    /// The data path has reset connections because the backend is dead.
    pub fn note_resets(&mut self, now: Instant) {
        self.last_reset = Some(now);
    }

    /// The data path doubts the backend because of something that began at `since`. Returns whether
    /// the doubt is news: no probe that began later has heard from the backend.
    pub fn doubt(&mut self, since: Instant) -> bool {
        let settled = self.runs.alive > 0 && self.newest.is_some_and(|newest| newest >= since);
        if settled || self.condition.state == State::Dead {
            return false;
        }
        let news = self.doubted.is_none();
        self.doubted = Some(self.doubted.map_or(since, |earlier| earlier.max(since)));
        self.condition.suspect = true;
        news
    }

    fn next_state(&self, observation: &Observation) -> Option<State> {
        let (rise, fall) = (self.rules.rise.get(), self.rules.fall.get());
        let runs = self.runs;
        let settled =
            runs.alive_only_since.is_some_and(|since| observation.started >= since + SETTLING);
        let next = match (self.condition.state, &observation.verdict) {
            // With nothing better known of any backend, one that is alive will do.
            (State::Unknown, Verdict::Ready { .. } | Verdict::Alive(_)) => State::Ready,
            (State::Unknown, Verdict::NotReady(_)) => State::NotReady,
            (State::Unknown | State::Ready | State::NotReady, Verdict::Dead(..))
                if runs.silent >= fall =>
            {
                State::Dead
            }
            (State::Ready, Verdict::NotReady(_) | Verdict::Dead(..)) if runs.bad >= fall => {
                State::NotReady
            }
            (State::NotReady | State::Dead, Verdict::Ready { .. }) if runs.good >= rise => {
                State::Ready
            }
            (State::NotReady | State::Dead, Verdict::Alive(_)) if settled => State::Ready,
            (State::Dead, Verdict::NotReady(_) | Verdict::Alive(_) | Verdict::Ready { .. })
                if runs.alive >= rise =>
            {
                State::NotReady
            }
            _ => return None,
        };
        Some(next)
    }

    fn enter(&mut self, next: State, observation: &Observation) {
        let now = observation.ended;
        let previous = std::mem::replace(&mut self.condition.state, next);
        self.condition.since = now;
        self.condition.failing_since = None;
        self.condition.reset_from = None;
        if next == State::Ready {
            self.condition.recovered_at = (previous != State::Unknown).then_some(now);
        }
        // A server with a wrong certificate talks: nobody new is sent there, but nothing is cut.
        let silent =
            !matches!(observation.verdict, Verdict::Dead(failure, _) if failure.is_certificate());
        if next == State::Dead && silent {
            let failing_since = self.runs.silent_since.unwrap_or(now);
            let evidence = now.saturating_duration_since(failing_since);
            let again = self.last_reset.is_some_and(|at| now < at + RESET_MEMORY);
            self.condition.failing_since = Some(failing_since);
            self.condition.reset_from = Some(if again { now + evidence } else { now });
        }
    }

    /// The pace while in doubt.
    pub fn fast_interval(&self) -> Duration {
        self.rules.fast_interval
    }

    /// May the next probe be left out, after so many that were? While all is well and the backend
    /// is `idle`: it carries none of this node's connections. Asked anew at every turn, so that one
    /// that has got connections meanwhile is probed within `interval`.
    pub fn may_skip(&self, idle: bool, skipped: u32) -> bool {
        idle && self.is_steady() && skipped + 1 < IDLE_TURNS
    }

    /// Well, as far as anybody knows.
    fn is_steady(&self) -> bool {
        self.condition.state == State::Ready && !self.condition.suspect
    }

    /// How long to wait from one turn to probe to the next one, before jitter.
    ///
    /// `none_ready`: no backend of the node is ready.
    pub fn pace(&self, now: Instant, none_ready: bool) -> Duration {
        let Rules { interval, fast_interval, .. } = self.rules;
        let changing = match self.condition.state {
            State::Unknown => true,
            // A failing ready one is suspect.
            State::Ready | State::Drained => false,
            State::NotReady => self.runs.good > 0 || self.runs.silent > 0,
            State::Dead => self.runs.alive > 0,
        };
        if self.condition.suspect || changing {
            return fast_interval;
        }
        if self.is_steady() {
            return interval;
        }
        let bad_for = now.saturating_duration_since(self.condition.since);
        let pace = (bad_for / BACK_OFF_FRACTION).clamp(fast_interval, interval);
        if none_ready { pace.min(NONE_READY_PACE.max(fast_interval)) } else { pace }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod settling_tests;
#[cfg(test)]
mod tests;
