//! A proxy that is watched and cannot be heard: since when, told at first and once a minute, and that
//! it is back.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{CliError, output};

/// What has been told and stays as it is, is told again this often.
const AGAIN: Duration = Duration::from_mins(1);

/// Kept by who watches.
#[derive(Debug)]
pub(super) struct Outage {
    /// When the proxy was heard last; before that, when it was asked first.
    heard: (SystemTime, Instant),
    /// What was told last of its silence, and when.
    told: Option<(String, Instant)>,
}

impl Outage {
    /// Nothing has been heard yet.
    pub(super) fn new() -> Self {
        Self { heard: (SystemTime::now(), Instant::now()), told: None }
    }

    /// It has been heard. The line to tell, when its silence was told before.
    pub(super) fn over(&mut self) -> Option<String> {
        let since = std::mem::replace(self, Self::new());
        since.told.is_some().then(|| format!("it answers again, after {}", since.age()))
    }

    /// It cannot be heard, for this reason.
    pub(super) fn describe(&self, error: &CliError) -> String {
        let since = humantime::format_rfc3339_seconds(self.heard.0);
        format!("{error}\n  no answer since {since}, for {}", self.age())
    }

    /// The same, when it is time to tell it.
    pub(super) fn tell(&mut self, error: &CliError) -> Option<String> {
        let (reason, now) = (error.to_string(), Instant::now());
        let known =
            self.told.as_ref().is_some_and(|(told, at)| *told == reason && now < *at + AGAIN);
        if known {
            return None;
        }
        self.told = Some((reason, now));
        Some(self.describe(error))
    }

    fn age(&self) -> String {
        output::age(self.heard.1.elapsed().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_when_it_begins_once_a_minute_and_when_it_ends() {
        let silent = CliError::Silent("no answer".to_owned());
        let gone = CliError::Failed("cannot reach it".to_owned());
        let mut outage = Outage::new();
        assert_eq!(outage.over(), None, "it was never away");
        let pass = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        pass(3).await;
        let told = outage.tell(&silent).unwrap();
        assert!(told.starts_with("no answer\n  no answer since 2"), "{told}");
        assert!(told.ends_with("Z, for 3s"), "{told}");
        pass(57).await;
        assert_eq!(outage.tell(&silent), None);
        pass(3).await;
        assert!(outage.tell(&silent).unwrap().ends_with("Z, for 63s"));
        assert!(outage.tell(&gone).unwrap().starts_with("cannot reach it\n"), "that is news");
        pass(1).await;
        assert_eq!(outage.over().unwrap(), "it answers again, after 64s");
        assert_eq!(outage.over(), None);
    }
}
