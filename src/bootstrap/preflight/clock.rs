//! How far a host's clock is from ours, with the way there and back taken off.

use std::time::Duration;

/// How far a clock is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// Is it ahead of ours, or behind?
    pub ahead: bool,
    /// By how much.
    pub off: Duration,
    /// How much of it may be nothing but the way there and back.
    pub uncertain: Duration,
}

/// As NTP reckons (RFC 5905, section 8): we asked at `asked` and had all of the answer at `heard`,
/// by our clock; it was begun and ended at `theirs`, by the host's. Nanoseconds since 1970.
pub fn skew(asked: i128, heard: i128, theirs: (i128, i128)) -> Skew {
    let (begun, ended) = theirs;
    let twice_off = begun.saturating_sub(asked).saturating_add(ended.saturating_sub(heard));
    let way = heard.saturating_sub(asked).saturating_sub(ended.saturating_sub(begun)).max(0);
    let nanoseconds =
        |n: i128| Duration::from_nanos(u64::try_from(n.unsigned_abs() / 2).unwrap_or(u64::MAX));
    Skew { ahead: twice_off > 0, off: nanoseconds(twice_off), uncertain: nanoseconds(way) }
}

impl Skew {
    /// How far two clocks are from each other.
    pub fn between(self, other: Self) -> Duration {
        if self.ahead == other.ahead {
            self.off.abs_diff(other.off)
        } else {
            self.off.saturating_add(other.off)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_there_and_back_is_no_skew() {
        let second = 1_000_000_000;
        // 200 ms there, 300 ms of work, 200 ms back; the same clock.
        let same = skew(0, second * 7 / 10, (second / 5, second / 2));
        assert_eq!((same.off, same.uncertain), (Duration::ZERO, Duration::from_millis(200)));
        // All of the way in one direction: off by half of it at most, and that is uncertain.
        let lopsided = skew(0, second, (second, second));
        assert_eq!(lopsided.off, Duration::from_millis(500));
        assert_eq!(lopsided.uncertain, Duration::from_millis(500));
        let behind = skew(3600 * second, 3601 * second, (0, second));
        assert_eq!((behind.ahead, behind.off), (false, Duration::from_hours(1)));
        assert!(skew(0, second, (3600 * second, 3601 * second)).ahead);
        skew(i128::MIN, i128::MAX, (i128::MAX, i128::MIN));
    }

    #[test]
    fn two_clocks_on_either_side_of_ours_are_apart_by_both() {
        let of = |ahead, seconds| Skew {
            ahead,
            off: Duration::from_secs(seconds),
            uncertain: Duration::ZERO,
        };
        assert_eq!(of(true, 5).between(of(false, 3)), Duration::from_secs(8));
        assert_eq!(of(true, 5).between(of(true, 3)), Duration::from_secs(2));
    }
}
