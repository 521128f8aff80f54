//! When a node probes a server: what `health/supervisor.rs` does with sockets, on a virtual clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use apiproxy::health::Machine;

use crate::fleet::server::Truth;

/// As in `health/supervisor.rs`; `tests/simulation.rs` compares them.
const JITTER: f64 = 0.1;
/// As in `health/supervisor.rs`.
pub(super) const HURRY: Duration = Duration::from_millis(100);

/// How long a probe takes, in seconds.
const LATENCY: std::ops::Range<f64> = 0.002..0.02;

pub(super) struct Watch {
    pub(super) machine: Machine,
    pub(super) last_start: Instant,
    /// When there was last a turn to probe, taken or not.
    last_turn: Instant,
    /// Turns that have been left out since the last probe.
    skipped: u32,
    /// When the next turn is.
    pub(super) due: Instant,
    jitter: f64,
    /// Probes under way: when they began, when they end, and what they will say.
    under_way: VecDeque<(Instant, Instant, Truth)>,
    rng: fastrand::Rng,
}

impl Watch {
    pub(super) fn new(machine: Machine, start: Instant, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let under_way = VecDeque::new();
        Self {
            machine,
            last_start: start,
            last_turn: start,
            skipped: 0,
            due: start,
            jitter: 1.0,
            under_way,
            rng,
        }
    }

    /// Lets this turn to probe go by, if the server may do without.
    pub(super) fn skip(&mut self, now: Instant, idle: bool) -> bool {
        let skip = self.machine.may_skip(idle, self.skipped);
        if skip {
            self.skipped += 1;
            self.turn(now);
        }
        skip
    }

    fn turn(&mut self, now: Instant) {
        self.last_turn = now;
        self.jitter = 1.0 - JITTER + 2.0 * JITTER * self.rng.f64();
    }

    pub(super) fn launch(&mut self, now: Instant, truth: Truth) {
        let latency = LATENCY.start + (LATENCY.end - LATENCY.start) * self.rng.f64();
        // Answers come in the order of the probes.
        let earliest = self.under_way.back().map_or(now, |(_, ends, _)| *ends);
        let ends = (now + Duration::from_secs_f64(latency)).max(earliest);
        self.under_way.push_back((now, ends, truth));
        self.last_start = now;
        self.skipped = 0;
        self.turn(now);
    }

    pub(super) fn next_answer(&self) -> Option<Instant> {
        self.under_way.front().map(|(_, ends, _)| *ends)
    }

    pub(super) fn take_answer(&mut self) -> (Instant, Truth) {
        let (started, _, truth) = self.under_way.pop_front().expect("a probe is under way");
        (started, truth)
    }

    /// The pace may have changed.
    pub(super) fn reckon(&mut self, now: Instant, none_ready: bool) {
        let pace = self.machine.pace(now, none_ready).mul_f64(self.jitter);
        self.due = (self.last_turn + pace).max(now);
    }
}
