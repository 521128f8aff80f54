//! Keeps the state of every backend true: probes each at its own pace, faster while in doubt, and
//! publishes what changes.

#[cfg(fuzzing)]
pub mod fuzzing;
mod machine;
mod probe;
mod supervisor;
mod trust;

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::HealthCheck;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::model::{Hint, Writer};

pub use machine::{Machine, Observation, RESET_MEMORY, Rules, SETTLING, Verdict};
pub use probe::{Probe, ProbeError, Report, Session};
pub use trust::Trust;

use supervisor::Supervisor;

/// What the health component is built from.
#[derive(Debug)]
pub struct Parts {
    /// How to probe and judge.
    pub check: HealthCheck,
    /// Trust and identity of the probes; `None` for `tcp`.
    pub trust: Option<Rc<Trust>>,
    /// Publishes conditions.
    pub writer: Rc<Writer>,
    /// What the data path noticed.
    pub hints: mpsc::Receiver<Hint>,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Where changes are recorded.
    pub events: Events,
}

/// Probes all backends until the future is dropped. Runs on the control thread's local runtime.
pub async fn run(parts: Parts) {
    let Parts { check, trust, writer, mut hints, metrics, events } = parts;
    let rules = Rules {
        rise: check.rise,
        fall: check.fall,
        interval: check.interval,
        fast_interval: check.fast_interval,
    };
    let probe = Rc::new(Probe::new(&check, trust));
    let snapshot = writer.reader().load().clone();
    let mut doors = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for entry in &snapshot.entries {
        let (door, inbox) = mpsc::channel(16);
        doors.push((entry.backend.clone(), door));
        let supervisor = Supervisor::new(
            entry.backend.clone(),
            rules,
            probe.clone(),
            writer.clone(),
            metrics.clone(),
            events.clone(),
        );
        tasks.spawn_local(supervisor.run(inbox));
    }
    loop {
        let hint = tokio::select! {
            // A supervisor that ended leaves its backend without a state that is true.
            Some(_) = tasks.join_next() => return,
            hint = hints.recv() => match hint {
                Some(hint) => hint,
                // The data threads have ended: so will the process.
                None => std::future::pending().await,
            },
        };
        let (Hint::Doubt { backend, .. } | Hint::Connected { backend }) = &hint;
        if let Some((_, door)) = doors.iter().find(|(known, _)| Arc::ptr_eq(known, backend)) {
            // A full inbox means that the supervisor has plenty to act on.
            let _ = door.try_send(hint);
        }
    }
}
