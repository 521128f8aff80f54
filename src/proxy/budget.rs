//! The retry budget: how many extra attempts to connect a data thread may make, so that many clients
//! that wait do not multiply the connections that struggling servers are asked for. Pure: the clock
//! comes in as an argument.

use std::time::{Duration, Instant};

/// What a client that is connected pays in, in attempts: with every five connections goes one extra
/// attempt. Linkerd's and Finagle's ratio, and Envoy's `budget_percent`.
const RATIO: f64 = 0.2;

/// Extra attempts a second that are free, so that a node with few clients has some: Linkerd's and
/// Finagle's `minRetriesPerSecond`.
const FLOOR: f64 = 10.0;

/// For how long what is not spent is kept, as in Finagle. So one hundred extra attempts at a time are
/// free: more than a node has clients that dial in the same 200 ms, so that the first to meet a
/// silent server are all served by another one.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The account. Starts full.
#[derive(Debug)]
pub(super) struct Budget {
    attempts: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { attempts: most(), at: now }
    }

    /// A client has been connected.
    pub(super) fn deposit(&mut self, now: Instant) {
        self.accrue(now);
        self.attempts = (self.attempts + RATIO).min(most());
    }

    /// Takes an attempt out, if there is one.
    pub(super) fn withdraw(&mut self, now: Instant) -> bool {
        self.accrue(now);
        let enough = self.attempts >= 1.0;
        if enough {
            self.attempts -= 1.0;
        }
        enough
    }

    fn accrue(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.attempts = (self.attempts + FLOOR * passed.as_secs_f64()).min(most());
        self.at = self.at.max(now);
    }
}

fn most() -> f64 {
    FLOOR * KEPT_FOR.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many can be withdrawn now.
    fn rest(budget: &mut Budget, now: Instant) -> usize {
        std::iter::from_fn(|| budget.withdraw(now).then_some(())).count()
    }

    #[test]
    fn a_hundred_at_once_then_ten_a_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(rest(&mut budget, start), 100);
        assert_eq!(rest(&mut budget, start + Duration::from_millis(90)), 0);
        assert_eq!(rest(&mut budget, start + Duration::from_secs(1)), 10);
        assert_eq!(rest(&mut budget, start + Duration::from_hours(1)), 100);
    }

    #[test]
    fn every_five_connections_pay_for_one_more() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        rest(&mut budget, start);
        (0..1000).for_each(|_| budget.deposit(start));
        assert!((99..=100).contains(&rest(&mut budget, start)), "no more than is kept");
        (0..52).for_each(|_| budget.deposit(start));
        assert_eq!(rest(&mut budget, start), 10);
    }

    #[test]
    fn a_clock_that_stands_or_steps_back_pays_nothing() {
        let start = Instant::now();
        let mut budget = Budget::new(start + Duration::from_secs(5));
        rest(&mut budget, start);
        assert_eq!(rest(&mut budget, start + Duration::from_secs(5)), 0);
    }
}
