//! Seconds since 1970 as year, month, day and time of day, in UTC, and back.

/// Seconds of a day.
pub(super) const DAY: u64 = 86_400;

/// A moment in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) year: u32,
    /// From 1.
    pub(super) month: u32,
    /// From 1.
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    /// 0 is Sunday.
    pub(super) weekday: u32,
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

const fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Moment {
    /// The moment of this second.
    pub(super) fn of(seconds: u64) -> Self {
        let (mut days, rest) = (seconds / DAY, seconds % DAY);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let weekday = small((days + 4) % 7);
        let (mut year, mut month) = (1970, 1);
        loop {
            let length = if is_leap(year) { 366 } else { 365 };
            if days < length || year == 9999 {
                break;
            }
            (days, year) = (days - length, year + 1);
        }
        let mut days = small(days);
        while days >= days_of(year, month) && month < 12 {
            (days, month) = (days - days_of(year, month), month + 1);
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let [hour, minute, second] = [hour, minute, second].map(small);
        Self { year, month, day: days + 1, hour, minute, second, weekday }
    }

    /// Its second; none if there is no such moment. The weekday does not count.
    pub(super) fn seconds(self) -> Option<u64> {
        let Self { year, month, day, hour, minute, second, .. } = self;
        let sound = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        if !sound {
            return None;
        }
        let years = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<u64>();
        let months = (1..month).map(|month| u64::from(days_of(year, month))).sum::<u64>();
        let days = years + months + u64::from(day) - 1;
        Some(days * DAY + u64::from(hour * 3600 + minute * 60 + second))
    }
}

/// A second as RFC 3339 has it: `2026-12-01T06:00:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    let Moment { year, month, day, hour, minute, second, .. } = Moment::of(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text, weekday) in [
            (0, "1970-01-01T00:00:00Z", 4),
            (951_782_400, "2000-02-29T00:00:00Z", 2),
            (1_796_104_859, "2026-12-01T06:00:59Z", 2),
            (4_107_542_400, "2100-03-01T00:00:00Z", 1),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(Moment::of(seconds).weekday, weekday, "{text}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in 0_u64..200_000_000_000) {
            prop_assert_eq!(Moment::of(seconds).seconds(), Some(seconds));
        }
    }
}
