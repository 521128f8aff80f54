//! Tells all parts of the process how far its life has come: above all, its end.

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the life of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Taking over from another process, which still serves: no connections yet.
    Starting,
    /// Serving.
    Running,
    /// No new connections; those that are open may end by themselves until the given moment.
    Draining {
        /// When the rest is cut.
        until: Instant,
        /// Another process has taken over: it answers at our addresses now.
        handed_over: bool,
    },
    /// Everything ends now.
    Ending,
}

/// The side that decides.
#[derive(Clone, Debug)]
pub struct Drain(watch::Sender<Phase>);

/// The side that follows.
#[derive(Clone, Debug)]
pub struct Phases(watch::Receiver<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }
}

impl Drain {
    /// For a process that takes over: it serves from [`Drain::open`] on.
    pub fn starting() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }

    /// Begins to serve; false when that is not wanted any more.
    pub fn open(&self) -> bool {
        self.0.send_if_modified(|phase| {
            let first = *phase == Phase::Starting;
            if first {
                *phase = Phase::Running;
            }
            first
        })
    }

    /// Starts the drain, once: a later call does not move its end.
    pub fn start(&self, until: Instant) {
        self.begin(until, false);
    }

    /// Starts the drain because another process has taken over.
    pub fn hand_over(&self, until: Instant) {
        self.begin(until, true);
    }

    fn begin(&self, until: Instant, handed_over: bool) {
        self.0.send_if_modified(|phase| {
            let first = matches!(phase, Phase::Starting | Phase::Running);
            if first {
                *phase = Phase::Draining { until, handed_over };
            }
            first
        });
    }

    /// Ends everything now.
    pub fn end(&self) {
        self.0.send_replace(Phase::Ending);
    }

    /// A follower.
    pub fn phases(&self) -> Phases {
        Phases(self.0.subscribe())
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}

impl Phases {
    /// The phase now.
    pub fn current(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until connections are wanted, or never will be.
    pub async fn serving(&mut self) {
        // An error means that the deciding side is gone: the end.
        let _ = self.0.wait_for(|phase| *phase != Phase::Starting).await;
    }

    /// Waits until new connections are no longer wanted.
    pub async fn draining(&mut self) {
        // An error means that the deciding side is gone, and with it the wish for connections.
        let _ = self.0.wait_for(Phase::is_over).await;
    }

    /// Waits until another process answers at our addresses: for ever, when none takes over.
    pub async fn handed_over(&mut self) {
        if self.0.wait_for(Phase::is_handed_over).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until everything is to end.
    pub async fn ending(&mut self) {
        let phase = self.0.wait_for(Phase::is_over).await.map(|phase| *phase);
        if let Ok(Phase::Draining { until, .. }) = phase {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                _ = self.0.wait_for(|phase| *phase == Phase::Ending) => {}
            }
        }
    }
}

impl Phase {
    /// Does another process answer at our addresses?
    pub fn is_handed_over(&self) -> bool {
        matches!(self, Self::Draining { handed_over: true, .. })
    }

    /// Are new connections no longer wanted?
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Ending)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_deadline_or_at_once_when_told() {
        let drain = Drain::default();
        let start = Instant::now();
        drain.start(start + Duration::from_mins(1));
        drain.start(start + Duration::from_mins(10));
        drain.phases().draining().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        drain.phases().ending().await;
        assert_eq!(start.elapsed().as_secs(), 60);
        drain.end();
        drain.phases().ending().await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_over_serves_when_it_is_told_and_who_hands_over_says_so() {
        let drain = Drain::starting();
        let mut phases = drain.phases();
        let soon = Duration::from_millis(1);
        tokio::time::timeout(soon, phases.serving()).await.unwrap_err();
        assert!(drain.open());
        phases.serving().await;
        assert_eq!(drain.phase(), Phase::Running);
        tokio::time::timeout(soon, phases.draining()).await.unwrap_err();
        let until = Instant::now() + Duration::from_mins(1);
        drain.hand_over(until);
        assert!(!drain.open());
        assert_eq!(drain.phase(), Phase::Draining { until, handed_over: true });
        phases.draining().await;
        phases.handed_over().await;
        let other = Drain::default();
        other.start(until);
        tokio::time::timeout(soon, other.phases().handed_over()).await.unwrap_err();
    }
}
