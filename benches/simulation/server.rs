//! What happens to the apiservers: the same for every node, and the only thing that nodes share.

use std::time::Duration;

use apiproxy::health::Verdict;
use apiproxy::model::{Failure, Reason};

/// What an apiserver truly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Answers 200 on `/readyz`.
    Ready,
    /// Serves, and answers 500 on `/readyz`: `--shutdown-delay-duration`.
    ShuttingDown,
    /// Refuses connections.
    Dead,
    /// Takes connections and answers 403, as before it has read the RBAC rules.
    Starting,
}

impl Truth {
    pub(crate) fn accepts(self) -> bool {
        self != Self::Dead
    }

    /// What a probe learns.
    pub(super) fn verdict(self) -> Verdict {
        match self {
            Self::Ready => Verdict::Ready { warning: None },
            Self::ShuttingDown => Verdict::NotReady(Reason::new("status500", "answers 500")),
            Self::Dead => Verdict::Dead(Failure::Refused, Reason::new("refused", "refuses")),
            Self::Starting => Verdict::Alive(Reason::new("status403", "answers 403")),
        }
    }
}

/// What one apiserver is from each moment on, beginning with 0.
#[derive(Clone, Debug)]
pub(crate) struct Life(Vec<(Duration, Truth)>);

impl Life {
    pub(crate) fn at(&self, time: Duration) -> Truth {
        let past = self.0.iter().take_while(|(since, _)| *since <= time);
        past.last().map_or(Truth::Ready, |(_, truth)| *truth)
    }

    /// When its kernel ends all of its connections.
    pub(super) fn deaths(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().filter(|(_, truth)| *truth == Truth::Dead).map(|(since, _)| *since)
    }
}

/// A course of events.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) lives: Vec<Life>,
    /// When the first thing happens; all is well and settled before.
    pub(crate) begins: Duration,
    /// When the last server became ready.
    pub(crate) returns: Duration,
}

/// Nodes have started and their probes have drifted apart.
const SETTLED: Duration = Duration::from_mins(5);

/// From the start of an apiserver's process until it is ready.
const START: Duration = Duration::from_secs(5);

/// From its end until it is started again.
const DOWN: Duration = Duration::from_secs(15);

impl Scenario {
    /// All apiservers are restarted, one after another.
    pub(crate) fn rolling_restart(servers: u32, delay: Duration, apart: Duration) -> Self {
        let life = |number: u32| {
            let begins = SETTLED + apart * number;
            let (dies, starts) = (begins + delay, begins + delay + DOWN);
            Life(vec![
                (Duration::ZERO, Truth::Ready),
                (begins, Truth::ShuttingDown),
                (dies, Truth::Dead),
                (starts, Truth::Starting),
                (starts + START, Truth::Ready),
            ])
        };
        Self {
            name: format!("rolling restart, shutdown delay {} s", delay.as_secs()),
            lives: (0..servers).map(life).collect(),
            begins: SETTLED,
            returns: SETTLED + apart * (servers - 1) + delay + DOWN + START,
        }
    }

    /// One apiserver is killed and comes back much later.
    pub(crate) fn lost_for(servers: u32, time: Duration) -> Self {
        let starts = SETTLED + time;
        Self::one(servers, &format!("one lost for {} min", time.as_secs() / 60), || {
            Life(vec![
                (Duration::ZERO, Truth::Ready),
                (SETTLED, Truth::Dead),
                (starts, Truth::Starting),
                (starts + START, Truth::Ready),
            ])
        })
        .returning(starts + START)
    }

    /// One apiserver that has been in the configuration all along starts for the first time.
    pub(crate) fn added(servers: u32) -> Self {
        Self::one(servers, "one added", || {
            Life(vec![
                (Duration::ZERO, Truth::Dead),
                (SETTLED, Truth::Starting),
                (SETTLED + START, Truth::Ready),
            ])
        })
        .returning(SETTLED + START)
    }

    fn one(servers: u32, name: &str, life: impl Fn() -> Life) -> Self {
        let well = || Life(vec![(Duration::ZERO, Truth::Ready)]);
        let lives = (0..servers).map(|number| if number == 0 { life() } else { well() });
        let (begins, returns) = (SETTLED, SETTLED);
        Self { name: name.to_owned(), lives: lives.collect(), begins, returns }
    }

    fn returning(self, returns: Duration) -> Self {
        Self { returns, ..self }
    }
}
