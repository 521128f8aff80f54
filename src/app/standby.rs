//! A process that waits until it is needed. To a supervisor it has started: who waits must not be taken
//! for one that cannot start.

use std::fmt::Display;
use std::time::Duration;

use tracing::{info, warn};

use super::service::SIGNS;
use crate::systemd::{self, Notifier};
use crate::watch::LOOK_EVERY;

/// Tells why it waits, once for each reason, and systemd that it lives.
#[derive(Debug)]
pub(super) struct StandBy {
    notifier: Notifier,
    pace: Duration,
    watched: bool,
    /// Why it waits, as it was told.
    reason: Option<String>,
}

impl StandBy {
    /// Nothing has been told yet.
    pub(super) fn from_env() -> Self {
        Self::new(Notifier::from_env(), systemd::watchdog(false))
    }

    fn new(notifier: Notifier, watchdog: Option<Duration>) -> Self {
        let pace = watchdog.map_or(LOOK_EVERY, |time| LOOK_EVERY.min(time / SIGNS));
        Self { notifier, pace, watched: watchdog.is_some(), reason: None }
    }

    /// It waits for this reason; `is_usual` when nothing is wrong. From the first time on, it has
    /// started.
    pub(super) fn tell(&mut self, reason: &impl Display, is_usual: bool) {
        let reason = reason.to_string();
        let reason = reason.lines().next().unwrap_or_default().trim_end_matches(':');
        if self.reason.as_deref() == Some(reason) {
            return;
        }
        if is_usual {
            info!(reason, "standing by");
        } else {
            warn!(reason, "standing by");
        }
        self.notifier.ready(false, &format!("standing by: {reason}"));
        self.reason = Some(reason.to_owned());
    }

    /// Gives a sign of life, if anybody waits for one.
    pub(super) fn live(&self) {
        if self.watched && self.is_told() {
            self.notifier.alive();
        }
    }

    /// How often [`Self::live`] is to be called, and the file looked at.
    pub(super) fn pace(&self) -> Duration {
        self.pace
    }

    /// Has systemd been told that this process has started?
    pub(super) fn is_told(&self) -> bool {
        self.reason.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn who_waits_has_started_and_lives_and_says_why_once() {
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
        assert_eq!(waits.pace(), Duration::from_millis(300), "three signs within the time");
        waits.live();
        assert!(hear().is_none() && !waits.is_told());
        waits.tell(&"another one serves\n  it goes on", true);
        assert_eq!(hear().unwrap(), "READY=1\nSTATUS=standing by: another one serves\n");
        waits.live();
        assert_eq!(hear().unwrap(), "WATCHDOG=1\n");
        waits.tell(&"another one serves", true);
        assert_eq!(hear(), None);
        waits.tell(&"it does not answer", false);
        assert_eq!(hear().unwrap(), "READY=1\nSTATUS=standing by: it does not answer\n");
        assert!(waits.is_told());
    }
}
