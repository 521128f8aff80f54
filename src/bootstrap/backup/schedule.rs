//! When backups are taken: the slots of a schedule, in UTC, and the same for systemd's timers.

use super::clock::{DAY, Moment};
use crate::bootstrap::spec::{CronFields, cron_fields};

/// A schedule of five fields as in crontab(5), in UTC: all hosts mean the same slots by it, and no hour
/// comes twice or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule(CronFields);

/// The longest time between two slots: 29 February, past a year like 2100, on a given day or any.
const LONGEST: u64 = 8 * 366 + 1;

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

fn list(set: u64) -> String {
    let numbers = (0..64).filter(|number| has(set, *number));
    numbers.map(|number| format!("{number:02}")).collect::<Vec<_>>().join(",")
}

impl Schedule {
    /// Reads one.
    ///
    /// # Errors
    /// If it is none: why.
    pub fn parse(text: &str) -> Result<Self, String> {
        cron_fields(text).map(Self)
    }

    fn has_day(&self, moment: &Moment) -> bool {
        let CronFields { days, months, weekdays, .. } = self.0;
        let day = days.map(|set| has(set, moment.day));
        let weekday = weekdays.map(|set| has(set, moment.weekday));
        let right = match (day, weekday) {
            (Some(day), Some(weekday)) => day || weekday,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => true,
        };
        right && has(months, moment.month)
    }

    /// The slots of a day, by its first second, from the first on.
    fn of_day(&self, day: u64) -> Vec<u64> {
        if !self.has_day(&Moment::of(day)) {
            return Vec::new();
        }
        let CronFields { minutes, hours, .. } = self.0;
        let minute = |number: &u64| {
            let [hour, minute] = [number / 60, number % 60];
            hours >> hour & 1 == 1 && minutes >> minute & 1 == 1
        };
        (0..DAY / 60).filter(minute).map(|minute| day + minute * 60).collect()
    }

    /// The last slot that has begun at this second; none since 1970 began only.
    pub fn last(&self, now: u64) -> Option<u64> {
        let today = now / DAY;
        let days = (today.saturating_sub(LONGEST)..=today).rev();
        let mut slots = days
            .filter_map(|day| self.of_day(day * DAY).into_iter().rev().find(|slot| *slot <= now));
        slots.next()
    }

    /// The first slot after this second.
    pub fn next(&self, now: u64) -> Option<u64> {
        let today = now / DAY;
        let mut slots = (today..=today + LONGEST)
            .filter_map(|day| self.of_day(day * DAY).into_iter().find(|slot| *slot > now));
        slots.next()
    }

    /// The seconds between two slots, on the average of a year.
    pub fn period(&self) -> u64 {
        // Any year will do that has a 29 February: 2024.
        let slots = (19_723..20_089).map(|day| self.of_day(day * DAY).len() as u64).sum::<u64>();
        366 * DAY / slots.max(1)
    }

    /// What systemd.time(7) calls it, for `OnCalendar=`: two where one of two kinds of days suffices.
    pub fn calendars(&self) -> Vec<String> {
        let CronFields { minutes, hours, days, months, weekdays } = self.0;
        let time = format!("{}:{}:00 UTC", list(hours), list(minutes));
        let months = if months == 0x1ffe { "*".to_owned() } else { list(months) };
        let of = |weekdays: Option<u64>, days: Option<u64>| {
            let names = weekdays.map(|set| {
                let names = (0..).zip(WEEKDAYS).filter(|(number, _)| has(set, *number));
                names.map(|(_, name)| name).collect::<Vec<_>>().join(",") + " "
            });
            let days = days.map_or_else(|| "*".to_owned(), list);
            format!("{}*-{months}-{days} {time}", names.unwrap_or_default())
        };
        match (weekdays, days) {
            (Some(_), Some(_)) => vec![of(weekdays, None), of(None, days)],
            (weekdays, days) => vec![of(weekdays, days)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::rfc3339;
    use super::*;

    fn at(text: &str) -> u64 {
        let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap();
        let moment = Moment {
            year: number(0..4),
            month: number(5..7),
            day: number(8..10),
            hour: number(11..13),
            minute: number(14..16),
            second: number(17..19),
            weekday: 0,
        };
        moment.seconds().unwrap()
    }

    fn around(schedule: &str, now: &str) -> (String, String) {
        let (schedule, now) = (Schedule::parse(schedule).unwrap(), at(now));
        let (last, next) = (schedule.last(now).unwrap(), schedule.next(now).unwrap());
        assert_eq!(schedule.next(last - 1), Some(last), "the last is the next of before");
        assert_eq!(schedule.last(next), Some(next), "a slot begins with its first second");
        (rfc3339(last), rfc3339(next))
    }

    #[test]
    fn the_slots_around_a_moment() {
        for (schedule, now, last, next) in [
            ("0 */6 * * *", "2026-12-01T05:59:59Z", "2026-12-01T00:00:00Z", "2026-12-01T06:00:00Z"),
            ("0 */6 * * *", "2026-12-01T06:00:00Z", "2026-12-01T06:00:00Z", "2026-12-01T12:00:00Z"),
            ("30 23 * * *", "2027-01-01T00:00:00Z", "2026-12-31T23:30:00Z", "2027-01-01T23:30:00Z"),
            ("0 0 29 2 *", "2097-01-01T00:00:00Z", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
            ("0 1 * * 7", "2026-12-01T00:00:00Z", "2026-11-29T01:00:00Z", "2026-12-06T01:00:00Z"),
            ("0 1 1 * mon", "2026-12-02T00:00:00Z", "2026-12-01T01:00:00Z", "2026-12-07T01:00:00Z"),
        ] {
            assert_eq!(around(schedule, now), (last.into(), next.into()), "{schedule} {now}");
        }
    }

    #[test]
    fn the_period_is_an_average() {
        let period = |text| Schedule::parse(text).unwrap().period();
        assert_eq!((period("0 */6 * * *"), period("* * * * *")), (6 * 3600, 60));
        assert_eq!(period("0 0 29 2 *"), 366 * DAY);
    }

    #[test]
    fn systemd_is_told_the_same() {
        let calendars = |text| Schedule::parse(text).unwrap().calendars();
        assert_eq!(calendars("0 */6 * * *"), ["*-*-* 00,06,12,18:00:00 UTC"]);
        assert_eq!(calendars("5,35 1 * jan,feb 7"), ["Sun *-01,02-* 01:05,35:00 UTC"]);
        assert_eq!(
            calendars("0 1 1 * mon-fri"),
            ["Mon,Tue,Wed,Thu,Fri *-*-* 01:00:00 UTC", "*-*-01 01:00:00 UTC"]
        );
    }
}
