//! Whether a connection of a dead backend is reset: pure, so that it can be tried on every case.

use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::model::{Condition, State};

/// A silent connection, such as a watch without events, is left alone for so long after its backend
/// died ...
const SILENT_GRACE: Duration = Duration::from_secs(5);
/// ... and then reset at a random moment within this time, so that the watches of a node do not all
/// come back at once.
const SILENT_SPREAD: Duration = Duration::from_secs(5);

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Sentence {
    /// It lives: its backend is not dead.
    Spare,
    /// It lives for now.
    Wait,
    /// Both legs are reset.
    Reset,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Evidence {
    /// When the backend was last heard on it.
    pub(in crate::proxy) heard: Option<Instant>,
    /// Since when client bytes wait for an answer.
    pub(in crate::proxy) unanswered: Option<Instant>,
    /// The client takes no bytes, so that the backend's silence proves nothing.
    pub(in crate::proxy) held_back: bool,
    /// Its place in the spread, as a fraction of 2^16.
    pub(in crate::proxy) turn: u16,
}

/// Judges a connection of a backend in this condition.
///
/// - Client bytes that have been unanswered since before the first failed probe, or for as long as
///   raises suspicion, are evidence enough: it goes at once.
/// - A byte from the backend since the first failed probe spares it, until it has been silent for
///   as long again as a connection that was never spared.
/// - The rest goes a few seconds after the backend died, or after there was a better one to go to
///   (`haven_since`), spread over a few more.
pub(in crate::proxy) fn sentence(
    condition: &Condition,
    evidence: &Evidence,
    haven_since: Instant,
    now: Instant,
) -> Sentence {
    let (State::Dead, Some(failing_since), Some(reset_from)) =
        (condition.state, condition.failing_since, condition.reset_from)
    else {
        return Sentence::Spare;
    };
    if now < reset_from || evidence.held_back {
        return Sentence::Wait;
    }
    let spared_at = evidence.heard.filter(|heard| *heard >= failing_since);
    let waits_for_answer =
        evidence.unanswered.is_some_and(|since| since <= failing_since || now >= since + PATIENCE);
    if waits_for_answer && spared_at.is_none() {
        return Sentence::Reset;
    }
    let spread = SILENT_SPREAD * u32::from(evidence.turn) / (u32::from(u16::MAX) + 1);
    let proof = condition.since.saturating_duration_since(failing_since);
    let silent_from = spared_at.map_or(reset_from, |heard| heard + proof).max(haven_since);
    if now >= silent_from + SILENT_GRACE + spread { Sentence::Reset } else { Sentence::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Condition;

    /// A backend whose first failed probe began at second 10 and that was dead at second 12.
    fn dead(start: Instant) -> Condition {
        Condition {
            state: State::Dead,
            since: start + secs(12.0),
            failing_since: Some(start + secs(10.0)),
            reset_from: Some(start + secs(12.0)),
            ..Condition::unknown(start)
        }
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// The second, in steps of a tenth, at which the connection is reset.
    fn reset_at(condition: &Condition, start: Instant, evidence: Evidence) -> Option<f64> {
        (0..600)
            .map(|tenth| f64::from(tenth) / 10.0)
            .find(|at| sentence(condition, &evidence, start, start + secs(*at)) == Sentence::Reset)
    }

    fn evidence(start: Instant, heard: Option<f64>, unanswered: Option<f64>) -> Evidence {
        Evidence {
            heard: heard.map(|at| start + secs(at)),
            unanswered: unanswered.map(|at| start + secs(at)),
            held_back: false,
            turn: 0,
        }
    }

    #[test]
    fn unanswered_bytes_go_at_once_and_silent_watches_later() {
        let start = Instant::now();
        let at =
            |heard, unanswered| reset_at(&dead(start), start, evidence(start, heard, unanswered));
        assert_eq!(
            at(Some(8.0), Some(9.0)),
            Some(12.0),
            "unanswered before the first failed probe"
        );
        assert_eq!(at(None, Some(9.0)), Some(12.0), "never heard");
        assert_eq!(at(None, Some(10.5)), Some(12.0), "made while the backend was failing");
        assert_eq!(at(Some(8.0), Some(11.5)), Some(12.5), "unanswered for a second");
        assert_eq!(at(Some(8.0), None), Some(17.0), "a silent watch");
        assert_eq!(at(Some(20.0), Some(9.0)), Some(27.0), "spared until silent for as long again");
    }

    #[test]
    fn silent_watches_are_spread() {
        let start = Instant::now();
        let last = Evidence { turn: u16::MAX, ..evidence(start, Some(8.0), None) };
        assert_eq!(reset_at(&dead(start), start, last), Some(22.0));
    }

    #[test]
    fn silent_watches_wait_for_a_haven_and_are_spread_from_then_on() {
        let start = Instant::now();
        let haven_since = start + secs(100.0);
        let at = |turn, at| {
            let watch = Evidence { turn, ..evidence(start, Some(8.0), None) };
            sentence(&dead(start), &watch, haven_since, start + secs(at))
        };
        assert_eq!(at(0, 104.9), Sentence::Wait);
        assert_eq!(at(0, 105.0), Sentence::Reset);
        assert_eq!(at(u16::MAX, 109.9), Sentence::Wait);
        assert_eq!(at(u16::MAX, 110.0), Sentence::Reset);
    }

    #[test]
    fn a_second_reset_needs_twice_the_evidence() {
        let start = Instant::now();
        let condition = Condition { reset_from: Some(start + secs(14.0)), ..dead(start) };
        assert_eq!(reset_at(&condition, start, evidence(start, Some(8.0), Some(9.0))), Some(14.0));
    }

    #[test]
    fn only_the_dead_and_the_silent_are_reset() {
        let start = Instant::now();
        let waiting = evidence(start, None, Some(1.0));
        for state in [State::Unknown, State::Ready, State::NotReady, State::Drained] {
            let condition = Condition { state, ..dead(start) };
            assert_eq!(reset_at(&condition, start, waiting), None, "{state}");
        }
        let held_back = Evidence { held_back: true, ..waiting };
        assert_eq!(reset_at(&dead(start), start, held_back), None);
    }
}
