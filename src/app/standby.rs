//! A process that waits until it is needed. To a supervisor it has started: who waits must not be taken
//! for one that cannot start.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::service::SIGNS;
use crate::systemd::{self, Notifier};

/// How often it asks whether it is needed.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Waits, and tells systemd so.
#[derive(Debug)]
pub struct StandBy {
    notifier: Notifier,
    pace: Duration,
    watched: bool,
    told: bool,
}

impl StandBy {
    /// Nothing has been told yet.
    pub fn from_env() -> Self {
        Self::new(Notifier::from_env(), systemd::watchdog(false))
    }

    fn new(notifier: Notifier, watchdog: Option<Duration>) -> Self {
        let pace = watchdog.map_or(ASK_EVERY, |time| ASK_EVERY.min(time / SIGNS));
        Self { notifier, pace, watched: watchdog.is_some(), told: false }
    }

    /// Waits a while for this reason.
    pub async fn wait(&mut self, reason: &impl Display) {
        if !self.told {
            let reason = reason.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            info!(reason, "standing by");
            self.notifier.ready(false, &format!("standing by: {reason}"));
            self.told = true;
        }
        if self.watched {
            self.notifier.alive();
        }
        sleep(self.pace).await;
    }

    /// Has systemd been told that this process has started?
    pub fn is_told(&self) -> bool {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_started_and_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let hear = || {
            let mut bytes = [0; 200];
            let count = systemd.recv(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        let mut waits = StandBy::new(notifier, Some(Duration::from_millis(900)));
        let start = Instant::now();
        waits.wait(&"another one serves\n  it goes on").await;
        assert_eq!(hear().unwrap(), "READY=1\nSTATUS=standing by: another one serves\n");
        assert_eq!(hear().unwrap(), "WATCHDOG=1\n");
        waits.wait(&"another one serves").await;
        assert_eq!((hear().unwrap(), hear()), ("WATCHDOG=1\n".to_owned(), None));
        assert_eq!(start.elapsed(), Duration::from_millis(600), "three signs within the time");
    }
}
