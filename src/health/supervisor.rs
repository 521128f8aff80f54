//! Looks after one backend: decides when to probe, lets probes overlap while in doubt, and publishes
//! its condition.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};
use tracing::{debug, info, warn};

use super::Method;
use super::machine::{Machine, NONE_READY_PACE, Observation, Verdict};
use super::probe::{Report, Session};
use crate::events::{Event, Events};
use crate::metrics::Metrics;
use crate::model::{
    Backend, BackendName, CloseReason, Condition, Doubt, Hint, Standing, State, Writer,
};

/// Paces are drawn from 90% to 110% of their value, so that the probes of a fleet that started
/// together drift apart.
const JITTER: f64 = 0.1;

/// The most probes of one backend under way at a time: with overlap, `timeout` over `fastInterval`
/// of them, but never a pile.
const MOST_PROBES: usize = 8;

/// Counts the doubts that were news.
const SUSPICIONS: &str = "apiproxy_suspicions_total";

/// Counts the states that a backend enters.
const TRANSITIONS: &str = "apiproxy_backend_transitions_total";

pub(super) struct Supervisor {
    backend: Arc<Backend>,
    machine: Machine,
    method: watch::Receiver<Method>,
    session: Session,
    writer: Rc<Writer>,
    metrics: Metrics,
    events: Events,
    /// As it was last seen.
    standing: Standing,
    published: Condition,
    /// Did the last probe fail for a reason of our own? Said once, not with every probe.
    unable: bool,
    /// Connections reset so far because the backend was dead.
    resets: u64,
    /// When the last probe began.
    last_start: Instant,
    /// Turns to probe that have been left out since.
    skipped: u32,
}

/// A hint starts a probe at once, but not so soon after the last one: a backend that fails every
/// client would otherwise be probed as often as clients come. The fast pace sees to it then.
const HURRY: Duration = Duration::from_millis(100);

/// A probe that has ended.
struct Ended {
    started: Instant,
    at: Instant,
    report: Report,
}

impl Supervisor {
    pub(super) fn new(
        backend: Arc<Backend>,
        newcomer: bool,
        method: watch::Receiver<Method>,
        writer: Rc<Writer>,
        metrics: Metrics,
        events: Events,
    ) -> Self {
        count_from_zero(&metrics, &backend.name);
        let machine = Machine::new(method.borrow().rules, Instant::now().into_std());
        let machine = if newcomer { machine.newcomer() } else { machine };
        let published = machine.condition().clone();
        let session = Session::default();
        Self {
            backend,
            machine,
            method,
            session,
            writer,
            metrics,
            events,
            standing: Standing::default(),
            published,
            unable: false,
            resets: 0,
            last_start: Instant::now(),
            skipped: 0,
        }
    }

    /// Looks after the backend until the inbox is closed, and says then whose supervisor it was.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Hint>) -> Arc<Backend> {
        let mut probes = JoinSet::new();
        let mut changed = self.writer.reader().subscribe();
        self.method.mark_unchanged();
        let mut last_turn = self.launch(&mut probes);
        let mut jitter = draw_jitter();
        loop {
            let due = last_turn + self.pace().mul_f64(jitter);
            tokio::select! {
                () = sleep_until(due), if probes.len() < MOST_PROBES => {
                    last_turn = self.take_turn(&mut probes);
                    jitter = draw_jitter();
                }
                Some(Ok(ended)) = probes.join_next() => self.take_in(&ended),
                hint = inbox.recv() => match hint {
                    Some(hint) => {
                        let rested = self.last_start.elapsed() >= self.rest(&hint);
                        if self.is_news(&hint) && rested && probes.len() < MOST_PROBES {
                            last_turn = self.launch(&mut probes);
                        }
                    }
                    None => return self.backend,
                },
                // The pace depends on whether any backend is ready.
                Ok(()) = changed.changed() => self.look_at_standing(),
                Ok(()) = self.method.changed() => {
                    last_turn = self.go_by_new_rules(&mut probes);
                }
            }
        }
    }

    /// Other rules are in force: what they find is to be known at once.
    fn go_by_new_rules(&mut self, probes: &mut JoinSet<Ended>) -> Instant {
        let rules = self.method.borrow_and_update().rules;
        self.machine.set_rules(rules);
        self.session = Session::default();
        self.launch(probes)
    }

    /// One that is wanted again after it was not has few connections, as a recovered one has.
    fn look_at_standing(&mut self) {
        let standing = match self.writer.reader().load().entry(&self.backend) {
            Some(entry) => entry.standing,
            None => return,
        };
        let before = std::mem::replace(&mut self.standing, standing);
        if before != Standing::Serving && standing == Standing::Serving {
            self.machine.note_return(Instant::now().into_std());
            self.publish();
        }
    }

    /// How long after the last probe a hint may start another one. That a bad backend takes
    /// connections is no reason to hurry: clients are served by it all the same.
    fn rest(&self, hint: &Hint) -> Duration {
        match hint {
            Hint::Doubt { .. } => HURRY,
            Hint::Connected { .. } => NONE_READY_PACE.max(self.machine.fast_interval()),
        }
    }

    fn pace(&self) -> Duration {
        let none_ready = !self.writer.reader().load().usable();
        self.machine.pace(Instant::now().into_std(), none_ready)
    }

    /// Probes, or lets this turn go by; returns when that was.
    fn take_turn(&mut self, probes: &mut JoinSet<Ended>) -> Instant {
        let idle = self.backend.counters.active() == 0;
        if self.machine.may_skip(idle, self.skipped) {
            self.skipped += 1;
            return Instant::now();
        }
        self.launch(probes)
    }

    fn launch(&mut self, probes: &mut JoinSet<Ended>) -> Instant {
        let started = Instant::now();
        self.last_start = started;
        self.skipped = 0;
        let snapshot = self.writer.reader().load().clone();
        let addresses =
            snapshot.entry(&self.backend).map(|entry| entry.addresses.clone()).unwrap_or_default();
        let probe = self.method.borrow().probe.clone();
        let attempt = probe.prepare(&mut self.session);
        probes.spawn_local(async move {
            let report = probe.run(&addresses, attempt).await;
            Ended { started, at: Instant::now(), report }
        });
        started
    }

    fn take_in(&mut self, ended: &Ended) {
        let name = self.backend.name.as_str();
        let time = ended.at - ended.started;
        let result = ended.report.result();
        let labels = self.backend.name.labels(Some(("result", result)));
        self.metrics.increment("apiproxy_probes_total", &labels);
        debug!(backend = name, result, ?time, "a probe ended");
        match &ended.report.verdict {
            Ok(verdict) => {
                let resets = self.backend.counters.closes(CloseReason::BackendDead);
                if std::mem::replace(&mut self.resets, resets) != resets {
                    self.machine.note_resets(ended.at.into_std());
                }
                if std::mem::take(&mut self.unable) {
                    info!(backend = name, "this host can probe again");
                }
                let labels = self.backend.name.labels(None);
                self.metrics.observe("apiproxy_probe_seconds", &labels, time);
                let good = matches!(verdict, Verdict::Ready { .. } | Verdict::Alive(_));
                self.backend.probe_times.add(good.then_some(time));
                self.machine.observe(&Observation {
                    started: ended.started.into_std(),
                    ended: ended.at.into_std(),
                    verdict: verdict.clone(),
                });
                self.publish();
            }
            // Says nothing about the backend, so that its state stays.
            Err(error) if !self.unable => {
                warn!(backend = name, %error, "this host cannot probe; the last state stays");
                self.unable = true;
            }
            Err(_) => {}
        }
    }

    /// Does the hint ask for a probe now?
    fn is_news(&mut self, hint: &Hint) -> bool {
        match hint {
            Hint::Doubt { doubt, since, .. } => {
                let news = self.machine.doubt(*since);
                if news {
                    let labels = self.backend.name.labels(Some(("reason", doubt.as_str())));
                    self.metrics.increment(SUSPICIONS, &labels);
                    let backend = self.backend.name.clone();
                    self.events.record(Event::Doubt { backend, doubt: *doubt });
                }
                self.publish();
                news
            }
            Hint::Connected { .. } => {
                matches!(self.machine.condition().state, State::Dead | State::NotReady)
            }
        }
    }

    fn publish(&mut self) {
        let condition = self.machine.condition();
        if *condition == self.published {
            return;
        }
        let (from, to) = (self.published.state, condition.state);
        if from != to {
            let (backend, reason) = (self.backend.name.clone(), condition.reason.clone());
            let labels = backend.labels(Some(("state", to.as_str())));
            self.metrics.increment(TRANSITIONS, &labels);
            self.events.record(Event::State { backend, from, to, reason });
        }
        if let Some(warning) = &condition.warning
            && self.published.warning.as_ref() != Some(warning)
        {
            let (backend, reason) = (self.backend.name.clone(), warning.clone());
            self.events.record(Event::Reservation { backend, reason });
        }
        self.published = condition.clone();
        self.writer.update(|snapshot| {
            let mut entries = snapshot.entries.iter_mut();
            if let Some(entry) = entries.find(|e| Arc::ptr_eq(&e.backend, &self.backend)) {
                entry.condition = self.published.clone();
            }
        });
    }
}

/// A series that begins with its first event shows no increase: it must be there before.
fn count_from_zero(metrics: &Metrics, backend: &BackendName) {
    for state in State::ALL {
        metrics.total(TRANSITIONS, &backend.labels(Some(("state", state.as_str()))), 0);
    }
    for doubt in Doubt::ALL {
        metrics.total(SUSPICIONS, &backend.labels(Some(("reason", doubt.as_str()))), 0);
    }
}

fn draw_jitter() -> f64 {
    1.0 - JITTER + 2.0 * JITTER * fastrand::f64()
}
