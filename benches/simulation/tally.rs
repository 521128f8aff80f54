//! What a fleet did, by server and second.

use std::time::Duration;

/// Counts of one server, by second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) probes: Vec<u32>,
    /// Connections made.
    pub(crate) dials: Vec<u32>,
    /// Connections refused.
    pub(crate) refused: Vec<u32>,
    /// Growth of the number of connections.
    growth: Vec<i32>,
}

/// Counts of all servers.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) servers: Vec<Counts>,
}

impl Tally {
    pub(super) fn new(servers: usize, length: Duration) -> Self {
        let seconds = second(length) + 2;
        let counts = Counts {
            probes: vec![0; seconds],
            dials: vec![0; seconds],
            refused: vec![0; seconds],
            growth: vec![0; seconds],
        };
        Self { servers: vec![counts; servers] }
    }

    pub(super) fn probe(&mut self, server: usize, at: Duration) {
        self.servers[server].probes[second(at)] += 1;
    }

    pub(super) fn refused(&mut self, server: usize, at: Duration) {
        self.servers[server].refused[second(at)] += 1;
    }

    pub(super) fn dialed(&mut self, server: usize, at: Duration) {
        self.servers[server].dials[second(at)] += 1;
        self.servers[server].growth[second(at)] += 1;
    }

    pub(super) fn closed(&mut self, server: usize, at: Duration) {
        self.servers[server].growth[second(at)] -= 1;
    }

    pub(super) fn merge(mut self, other: &Self) -> Self {
        for (mine, its) in self.servers.iter_mut().zip(&other.servers) {
            add(&mut mine.probes, &its.probes);
            add(&mut mine.dials, &its.dials);
            add(&mut mine.refused, &its.refused);
            add(&mut mine.growth, &its.growth);
        }
        self
    }

    /// Connections of each server at the end of each second.
    pub(crate) fn connections(&self) -> Vec<Vec<i32>> {
        let sum = |counts: &Counts| {
            let running = counts.growth.iter().scan(0, |open, growth| {
                *open += growth;
                Some(*open)
            });
            running.collect()
        };
        self.servers.iter().map(sum).collect()
    }
}

fn add<T: Copy + std::ops::AddAssign>(mine: &mut [T], its: &[T]) {
    for (mine, its) in mine.iter_mut().zip(its) {
        *mine += *its;
    }
}

/// The index of the second that a moment is in.
pub(super) fn second(at: Duration) -> usize {
    usize::try_from(at.as_secs()).expect("a run is hours long")
}
