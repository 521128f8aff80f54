//! What a load has seen: kept by its thread, read by anyone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A load's results so far.
#[derive(Clone, Debug)]
pub struct LoadStats {
    /// Requests answered with 200.
    pub ok: u64,
    /// Requests that timed out, could not connect, were cut or were answered otherwise.
    pub failed: u64,
    /// Connections opened for requests, watches not counted.
    pub dials: u64,
    /// The longest time without a success, from the start on and including the present one. As
    /// requests are paced, it never falls below the pace.
    pub longest_outage: Duration,
    /// How many requests each server answered with 200, by its `x-apiserver`.
    pub servers: BTreeMap<String, u64>,
    /// The server that answered last.
    pub last_server: Option<String>,
    /// Why the last request that failed did.
    pub last_error: Option<String>,
    /// Watches open now.
    pub watches: u64,
    /// Watches that ended once open.
    pub cuts: u64,
    /// Events received by all watches together.
    pub events: u64,
    /// The longest time that one of the watches received nothing, from the start on and including
    /// the present ones.
    pub longest_silence: Duration,
    last_ok: Instant,
    last_events: Vec<Instant>,
}

impl LoadStats {
    /// The results of no load at all: what others are merged into.
    pub fn none() -> Self {
        Self::new(Instant::now(), 0)
    }

    /// The results of two loads together: sums, and the longer of the stretches.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.ok += other.ok;
        self.failed += other.failed;
        self.dials += other.dials;
        self.longest_outage = self.longest_outage.max(other.longest_outage);
        for (server, count) in other.servers {
            *self.servers.entry(server).or_default() += count;
        }
        self.last_server = other.last_server.or(self.last_server);
        self.last_error = other.last_error.or(self.last_error);
        self.watches += other.watches;
        self.cuts += other.cuts;
        self.events += other.events;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
        self.last_ok = self.last_ok.max(other.last_ok);
        self.last_events.extend(other.last_events);
        self
    }

    pub(super) fn new(now: Instant, watches: usize) -> Self {
        Self {
            ok: 0,
            failed: 0,
            dials: 0,
            longest_outage: Duration::ZERO,
            servers: BTreeMap::new(),
            last_server: None,
            last_error: None,
            watches: 0,
            cuts: 0,
            events: 0,
            longest_silence: Duration::ZERO,
            last_ok: now,
            last_events: vec![now; watches],
        }
    }

    /// Brings the longest stretches up to `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        self.longest_outage = self.longest_outage.max(now.duration_since(self.last_ok));
        for heard in &self.last_events {
            self.longest_silence = self.longest_silence.max(now.duration_since(*heard));
        }
    }

    pub(super) fn succeed(&mut self, server: String, now: Instant) {
        self.advance(now);
        self.last_ok = now;
        self.ok += 1;
        *self.servers.entry(server.clone()).or_default() += 1;
        self.last_server = Some(server);
    }

    pub(super) fn fail(&mut self, why: String, now: Instant) {
        self.advance(now);
        self.failed += 1;
        self.last_error = Some(why);
    }

    pub(super) fn hear(&mut self, watch: usize, events: u64, now: Instant) {
        self.advance(now);
        self.events += events;
        if let Some(heard) = self.last_events.get_mut(watch) {
            *heard = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_stretches_are_kept_and_include_the_present() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stats = LoadStats::new(start, 2);
        stats.succeed("a".into(), at(3));
        stats.hear(0, 2, at(4));
        stats.fail("refused".into(), at(5));
        assert_eq!(stats.longest_outage, Duration::from_secs(3));
        assert_eq!(stats.longest_silence, Duration::from_secs(5), "the second watch heard nothing");
        stats.hear(1, 1, at(6));
        stats.advance(at(9));
        assert_eq!(stats.longest_outage, Duration::from_secs(6));
        assert_eq!(stats.longest_silence, Duration::from_secs(6));
        assert_eq!((stats.ok, stats.failed, stats.events), (1, 1, 3));
    }
}
