//! Tells all parts of the process how far its end has come.

use tokio::sync::watch;
use tokio::time::Instant;

/// How far the end of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Running,
    /// No new connections; those that are open may end by themselves until the given moment.
    Draining {
        /// When the rest is cut.
        until: Instant,
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
    /// Starts the drain, once: a later call does not move its end.
    pub fn start(&self, until: Instant) {
        self.0.send_if_modified(|phase| {
            let first = *phase == Phase::Running;
            if first {
                *phase = Phase::Draining { until };
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

    /// Waits until new connections are no longer wanted.
    pub async fn draining(&mut self) {
        // An error means that the deciding side is gone, and with it the wish for connections.
        let _ = self.0.wait_for(|phase| *phase != Phase::Running).await;
    }

    /// Waits until everything is to end.
    pub async fn ending(&mut self) {
        let phase = self.0.wait_for(|phase| *phase != Phase::Running).await.map(|phase| *phase);
        if let Ok(Phase::Draining { until }) = phase {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                _ = self.0.wait_for(|phase| *phase == Phase::Ending) => {}
            }
        }
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
}
