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

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::HealthCheck;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::model::{Backend, Hint, Writer};
use crate::tls::MaterialError;

pub use machine::{Machine, Observation, RESET_MEMORY, Rules, SETTLING, Verdict};
pub use probe::{Probe, ProbeError, Report, Session};
pub use trust::Trust;

use supervisor::Supervisor;

/// How to probe and judge: `healthCheck`, with the certificates that it names.
#[derive(Clone, Debug)]
pub struct Method {
    rules: Rules,
    probe: Rc<Probe>,
}

impl Method {
    /// Reads the certificates that the check needs.
    ///
    /// # Errors
    /// A file is missing or not usable.
    pub fn new(check: &HealthCheck) -> Result<Self, MaterialError> {
        let trust = check.tls.as_ref().map(Trust::read).transpose()?.map(Rc::new);
        let rules = Rules {
            rise: check.rise,
            fall: check.fall,
            interval: check.interval,
            fast_interval: check.fast_interval,
        };
        Ok(Self { rules, probe: Rc::new(Probe::new(check, trust)) })
    }
}

/// What the health component is built from.
#[derive(Debug)]
pub struct Parts {
    /// How to probe and judge; a reload can change it.
    pub method: watch::Receiver<Method>,
    /// Publishes conditions.
    pub writer: Rc<Writer>,
    /// What the data path noticed.
    pub hints: mpsc::Receiver<Hint>,
    /// Counters and histograms.
    pub metrics: Metrics,
    /// Where changes are recorded.
    pub events: Events,
}

/// Probes the backends of the store, whoever they are, until the future is dropped. Runs on the control
/// thread's local runtime.
pub async fn run(parts: Parts) {
    let Parts { method, writer, mut hints, metrics, events } = parts;
    let mut changed = writer.reader().subscribe();
    let mut care =
        Care { method, writer, metrics, events, doors: Vec::new(), supervisors: JoinSet::new() };
    care.follow(false);
    loop {
        tokio::select! {
            Some(ended) = care.supervisors.join_next() => match ended {
                Ok(backend) if !care.is_known(&backend) => {}
                // A supervisor that ended leaves its backend without a state that is true.
                _ => return,
            },
            result = changed.changed() => match result {
                Ok(()) => care.follow(true),
                Err(_) => return,
            },
            hint = hints.recv() => match hint {
                Some(hint) => care.pass_on(hint),
                // The data threads have ended: so will the process.
                None => std::future::pending().await,
            },
        }
    }
}

/// All supervisors, one for each backend.
struct Care {
    method: watch::Receiver<Method>,
    writer: Rc<Writer>,
    metrics: Metrics,
    events: Events,
    /// Where hints go. Dropping a door ends its supervisor.
    doors: Vec<(Arc<Backend>, mpsc::Sender<Hint>)>,
    supervisors: JoinSet<Arc<Backend>>,
}

impl Care {
    /// Starts a supervisor for each new backend and ends those of backends that have gone. A
    /// `newcomer` gets its share gradually, as a recovered backend does.
    fn follow(&mut self, newcomer: bool) {
        let snapshot = self.writer.reader().load().clone();
        self.doors.retain(|(backend, _)| snapshot.entry(backend).is_some());
        for entry in &snapshot.entries {
            if self.is_known(&entry.backend) {
                continue;
            }
            let (door, inbox) = mpsc::channel(16);
            self.doors.push((entry.backend.clone(), door));
            let supervisor = Supervisor::new(
                entry.backend.clone(),
                newcomer,
                self.method.clone(),
                self.writer.clone(),
                self.metrics.clone(),
                self.events.clone(),
            );
            self.supervisors.spawn_local(supervisor.run(inbox));
        }
    }

    fn is_known(&self, backend: &Arc<Backend>) -> bool {
        self.doors.iter().any(|(known, _)| Arc::ptr_eq(known, backend))
    }

    fn pass_on(&self, hint: Hint) {
        let (Hint::Doubt { backend, .. } | Hint::Connected { backend }) = &hint;
        if let Some((_, door)) = self.doors.iter().find(|(known, _)| Arc::ptr_eq(known, backend)) {
            // A full inbox means that the supervisor has plenty to act on.
            let _ = door.try_send(hint);
        }
    }
}
