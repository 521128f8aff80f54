//! Which server fails when, and how: the same in every demo.

use std::time::Duration;

/// The first fault comes after this time; so long is also the calm between two of them.
const CALM: Duration = Duration::from_secs(4);

/// How long a server stays bad: longer than any detection takes.
const BAD: Duration = Duration::from_secs(6);

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It takes connections and never answers.
    Hang,
    /// Its port is closed and its connections are reset.
    Crash,
    /// `/readyz` says 500; all else works.
    NotReady,
}

const FAULTS: [Fault; 3] = [Fault::Hang, Fault::Crash, Fault::NotReady];

/// One change: a server becomes bad, or (`None`) well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) server: usize,
    pub(super) fault: Option<Fault>,
}

/// The sequence of acts, without end. Every server meets every fault.
#[derive(Debug)]
pub(super) struct Script {
    servers: usize,
    played: u32,
}

impl Script {
    pub(super) fn new(servers: usize) -> Self {
        Self { servers, played: 0 }
    }

    /// When the next act begins, from the start of the demo on.
    pub(super) fn next_at(&self) -> Duration {
        let rounds = self.played / 2;
        let begins = CALM + (CALM + BAD) * rounds;
        if self.played.is_multiple_of(2) { begins } else { begins + BAD }
    }

    /// Takes the next act.
    pub(super) fn next(&mut self) -> Act {
        let round = (self.played / 2) as usize;
        let begins = self.played.is_multiple_of(2);
        self.played += 1;
        let fault = FAULTS[(round + round / FAULTS.len()) % FAULTS.len()];
        Act { server: round % self.servers, fault: begins.then_some(fault) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_meets_every_fault_and_recovers() {
        let mut script = Script::new(3);
        let mut seen = std::collections::HashSet::new();
        let mut last = Duration::ZERO;
        for _ in 0..9 {
            assert!(script.next_at() > last);
            let bad = script.next();
            last = script.next_at();
            let well = script.next();
            assert_eq!((bad.server, None), (well.server, well.fault));
            seen.insert((bad.server, format!("{:?}", bad.fault)));
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }
}
