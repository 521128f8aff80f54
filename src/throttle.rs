//! Keeps a log line that repeats from filling the log: one in a while, with how many were left out.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one through every so often, and counts the others.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    last: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// One at most within this time.
    pub fn new(every: Duration) -> Self {
        Self { every, last: None, left_out: 0 }
    }

    /// May this one through? Then how many were held back since the last one that might.
    pub fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now < last + self.every) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_passes_and_tells_of_the_others() {
        let mut throttle = Throttle::new(Duration::from_secs(10));
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!([throttle.admit(), throttle.admit()], [None, None]);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!([throttle.admit(), throttle.admit()], [Some(2), None]);
    }
}
