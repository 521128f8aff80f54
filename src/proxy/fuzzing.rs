//! What the fuzz targets in `fuzz/` and the benchmarks in `benches/` need of the relay. Not for
//! others: it changes as the relay does.

#[cfg(fuzzing)]
use super::relay::model;
use super::relay::{Bare, Records, Speech};

/// The tracker of one direction's TLS records.
#[derive(Debug, Default)]
pub struct Tracker(Records);

/// What some bytes hold, as the tracker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// No record begins.
    Nothing,
    /// Records of control frames' sizes only.
    Control,
    /// Perhaps a request or an answer.
    Message,
}

impl Tracker {
    /// Takes in the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Heard {
        match self.0.feed(bytes) {
            Speech::Nothing => Heard::Nothing,
            Speech::Control => Heard::Control,
            Speech::Message => Heard::Message,
        }
    }

    /// Is the direction between two records?
    pub fn at_boundary(&self) -> bool {
        self.0.at_boundary()
    }
}

/// One direction of a relay without its I/O.
#[derive(Debug, Default)]
pub struct Direction(Bare);

impl Direction {
    /// A message that one read takes and one write passes on. Returns whether it was copied.
    pub fn message(&mut self, bytes: usize) -> bool {
        self.0.message(bytes)
    }

    /// A transfer of so many reads. Returns how many bytes went through a pipe.
    pub fn transfer(&mut self, reads: u32) -> usize {
        self.0.transfer(reads)
    }
}

/// Plays these results of I/O to one direction of a relay: it must be byte-exact, hold little and
/// leave no pipe behind.
#[cfg(fuzzing)]
pub fn relay(script: &[u8]) {
    model::play(script);
}
