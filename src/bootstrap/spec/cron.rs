//! The five fields of a schedule, as crontab(5) has them.

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Days of each month, in a leap year.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A field: its name, its first and last number, and names for numbers from the first on.
struct Field(&'static str, u32, u32, &'static [&'static str]);

const FIELDS: [Field; 5] = [
    Field("minute", 0, 59, &[]),
    Field("hour", 0, 23, &[]),
    Field("day of the month", 1, 31, &[]),
    Field("month", 1, 12, MONTHS),
    Field("day of the week", 0, 7, DAYS),
];

/// The numbers that a schedule names, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CronFields {
    /// 0 to 59.
    pub minutes: u64,
    /// 0 to 23.
    pub hours: u64,
    /// Days of the month, 1 to 31; none if any will do.
    pub days: Option<u64>,
    /// 1 to 12.
    pub months: u64,
    /// Days of the week, 0 to 6 from Sunday on; none if any will do. With days of the month as well,
    /// one of the two suffices.
    pub weekdays: Option<u64>,
}

/// Reads the five fields of a schedule.
///
/// # Errors
/// If it is none, or never comes round: why.
pub fn cron_fields(text: &str) -> Result<CronFields, String> {
    check(text)?;
    let words: Vec<_> = text.split_whitespace().collect();
    let mut sets = [0; 5];
    for ((field, word), set) in FIELDS.iter().zip(&words).zip(&mut sets) {
        *set = numbers(field, word)?;
    }
    let [minutes, hours, days, months, weekdays] = sets;
    let chosen = |at: usize, set: u64| (words.get(at) != Some(&"*")).then_some(set);
    // Sunday has two numbers.
    let weekdays = (weekdays | weekdays >> 7 & 1) & 0x7f;
    Ok(CronFields { minutes, hours, days: chosen(2, days), months, weekdays: chosen(4, weekdays) })
}

/// Is this a schedule that comes round? If not, why.
pub(super) fn check(text: &str) -> Result<(), String> {
    let words: Vec<_> = text.split_whitespace().collect();
    if words.len() != FIELDS.len() {
        return Err(format!("a schedule has five fields, this has {}", words.len()));
    }
    let mut sets = [0; 5];
    for ((field, word), set) in FIELDS.iter().zip(&words).zip(&mut sets) {
        *set = numbers(field, word)?;
    }
    let [_, _, days, months, _] = sets;
    // With a day of the week too, one of the two days suffices.
    let comes_round = words[4] != "*"
        || LENGTHS.iter().zip(1..).any(|(length, month)| {
            months & bit(month) != 0 && (1..=*length).any(|day| days & bit(day) != 0)
        });
    if comes_round { Ok(()) } else { Err("no year has such a day".to_owned()) }
}

const fn bit(number: u32) -> u64 {
    1 << number
}

/// The numbers that a field names, one bit each.
fn numbers(field: &Field, word: &str) -> Result<u64, String> {
    let Field(name, first, last, _) = *field;
    let mut set = 0;
    for part in word.split(',') {
        let wrong = || format!("`{part}` is no {name}, which is {first} to {last}");
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, number(step).filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match span.split_once('-') {
            _ if span == "*" => (first, last),
            Some((from, to)) => {
                (value(field, from).ok_or_else(wrong)?, value(field, to).ok_or_else(wrong)?)
            }
            None => {
                let from = value(field, span).ok_or_else(wrong)?;
                (from, if part.contains('/') { last } else { from })
            }
        };
        if from > to {
            return Err(format!("`{part}` runs backwards"));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        set |= (from..=to).step_by(step).map(bit).fold(0, |all, one| all | one);
    }
    Ok(set)
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn value(&Field(_, first, last, names): &Field, text: &str) -> Option<u32> {
    let lower = text.to_lowercase();
    let by_name = names.iter().zip(first..).find(|(name, _)| **name == lower).map(|(_, n)| n);
    by_name.or_else(|| number(text)).filter(|number| (first..=last).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_of_crontab_are_understood() {
        for text in [
            "0 */6 * * *",
            "* * * * *",
            "0-30/10,45 0,12 1 jan-mar,6 mon-fri",
            "5/15 3 29 feb *",
            "0 0 * * 7",
            "0 0 31 2 mon",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(numbers(&FIELDS[0], "50/4"), Ok(bit(50) | bit(54) | bit(58)));
        assert_eq!(numbers(&FIELDS[4], "Sun,2-3"), Ok(0b1101));
    }

    #[test]
    fn others_are_refused() {
        for (text, why) in [
            ("", "a schedule has five fields, this has 0"),
            ("@daily", "a schedule has five fields, this has 1"),
            ("0 0 * * * *", "a schedule has five fields, this has 6"),
            ("60 * * * *", "`60` is no minute, which is 0 to 59"),
            ("0 24 * * *", "`24` is no hour, which is 0 to 23"),
            ("0 0 0 * *", "`0` is no day of the month, which is 1 to 31"),
            ("0 0 * foo *", "`foo` is no month, which is 1 to 12"),
            ("0 0 * * 8", "`8` is no day of the week, which is 0 to 7"),
            ("*/0 * * * *", "`*/0` is no minute, which is 0 to 59"),
            ("1,,2 * * * *", "`` is no minute, which is 0 to 59"),
            ("30-10 * * * *", "`30-10` runs backwards"),
            ("0 0 30,31 2 *", "no year has such a day"),
            ("0 0 31 4,6,9,11 *", "no year has such a day"),
        ] {
            assert_eq!(check(text), Err(why.to_owned()), "{text}");
        }
    }
}
