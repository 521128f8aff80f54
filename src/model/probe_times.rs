//! How long the last probes of a backend took.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Probes remembered for each backend: ten minutes of them while all is well.
pub const PROBES_KEPT: usize = 60;

/// No probe yet.
const NONE: u32 = u32::MAX;

/// A probe that did not find the backend ready.
const FAILED: u32 = u32::MAX - 1;

/// The last probes. Written and read by the control thread alone; atomics only because backends are
/// shared with the data threads.
#[derive(Debug)]
pub struct ProbeTimes {
    /// Microseconds, or one of the marks above.
    slots: [AtomicU32; PROBES_KEPT],
    count: AtomicU32,
}

impl Default for ProbeTimes {
    fn default() -> Self {
        Self { slots: [const { AtomicU32::new(NONE) }; PROBES_KEPT], count: AtomicU32::new(0) }
    }
}

impl ProbeTimes {
    /// Takes in a probe: how long it took, `None` when it did not find the backend ready.
    pub fn add(&self, time: Option<Duration>) {
        let micros = time.map_or(FAILED, |time| {
            u32::try_from(time.as_micros()).unwrap_or(u32::MAX).min(FAILED - 1)
        });
        let count = self.count.load(Relaxed);
        self.slots[count as usize % PROBES_KEPT].store(micros, Relaxed);
        self.count.store(count.wrapping_add(1), Relaxed);
    }

    /// The probes, the oldest first.
    pub fn all(&self) -> Vec<Option<Duration>> {
        let next = self.count.load(Relaxed) as usize;
        let slot = |place: usize| self.slots[(next + place) % PROBES_KEPT].load(Relaxed);
        let known = (0..PROBES_KEPT).map(slot).filter(|micros| *micros != NONE);
        let time = |micros: u32| Duration::from_micros(micros.into());
        known.map(|micros| (micros != FAILED).then(|| time(micros))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixty_are_kept_in_order() {
        let times = ProbeTimes::default();
        assert!(times.all().is_empty());
        times.add(None);
        times.add(Some(Duration::from_millis(1)));
        times.add(Some(Duration::MAX));
        let [failed, short, long] = times.all()[..] else { panic!("three: {:?}", times.all()) };
        assert_eq!((failed, short), (None, Some(Duration::from_millis(1))));
        assert!(long.is_some_and(|long| long > Duration::from_hours(1)));
        for millis in 0..100 {
            times.add(Some(Duration::from_millis(millis)));
        }
        let kept: Vec<_> = (40..100).map(|millis| Some(Duration::from_millis(millis))).collect();
        assert_eq!(times.all(), kept);
    }
}
