//! Texts that stand for many: `w[1-200]`, `w[001-200]`, `10.0.1.[1-20,30]`.

use std::fmt;
use std::str::FromStr;

/// Most texts that one range stands for: twice the nodes that Kubernetes is made for.
pub(super) const MOST: usize = 10_000;

/// A text with at most one range of numbers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    /// Empty when there is no range.
    spans: Vec<Span>,
    after: String,
}

/// Numbers from the first to the last, of at least as many digits as the width says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
    width: usize,
}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One bracket without the other.
    #[error("a bracket has no partner; write a range as w[1-20]")]
    Bracket,
    /// More than one range.
    #[error("more than one range; only one can be in a name or address")]
    Twice,
    /// Between the brackets are no numbers.
    #[error("`{0}` is no range of numbers; write it as [1-20] or [1-3,7]")]
    Numbers(String),
    /// The end is before the beginning.
    #[error("the range `{0}` runs backwards; write the smaller number first")]
    Backwards(String),
    /// Zeros in front, but the ends have not as many digits.
    #[error("the ends of `{0}` have not as many digits; write it as [001-200] or [1-200]")]
    Width(String),
    /// Too many.
    #[error("it stands for more than {MOST} hosts")]
    TooMany,
}

impl Pattern {
    /// Has it a range?
    pub fn is_range(&self) -> bool {
        !self.spans.is_empty()
    }

    /// How many texts it stands for.
    pub fn count(&self) -> usize {
        if self.is_range() { self.spans.iter().copied().map(Span::count).sum() } else { 1 }
    }

    /// The texts that it stands for, in its order.
    pub fn expand(&self) -> Vec<String> {
        if !self.is_range() {
            return vec![self.before.clone()];
        }
        let numbers = self.spans.iter().flat_map(|span| {
            (span.first..=span.last).map(|number| format!("{number:0width$}", width = span.width))
        });
        numbers.map(|number| format!("{}{number}{}", self.before, self.after)).collect()
    }

    /// The same without the text at this place of its expansion; none if no other is left.
    pub(super) fn without(&self, place: usize) -> Option<Self> {
        let mut before = 0;
        let mut spans = Vec::new();
        for span in &self.spans {
            let inside = place.checked_sub(before).filter(|inside| *inside < span.count());
            before += span.count();
            let Some(gone) = inside.and_then(|inside| u64::try_from(inside).ok()) else {
                spans.push(*span);
                continue;
            };
            let gone = span.first + gone;
            if gone > span.first {
                spans.push(Span { last: gone - 1, ..*span });
            }
            if gone < span.last {
                spans.push(Span { first: gone + 1, ..*span });
            }
        }
        let left = Self { spans, ..self.clone() };
        match left.is_range().then(|| left.expand())?.as_slice() {
            [one] => one.parse().ok(),
            _ => Some(left),
        }
    }
}

impl Span {
    fn count(self) -> usize {
        usize::try_from(self.last - self.first).unwrap_or(usize::MAX).saturating_add(1)
    }
}

impl FromStr for Span {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let number = |part: &str| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let parsed = plain.then(|| part.parse::<u64>().ok()).flatten();
            parsed.ok_or_else(|| RangeError::Numbers(text.to_owned()))
        };
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(from)?, number(to)?);
        let padded = [from, to].iter().any(|part| part.len() > 1 && part.starts_with('0'));
        if padded && from.len() != to.len() {
            return Err(RangeError::Width(text.to_owned()));
        }
        if first > last {
            return Err(RangeError::Backwards(text.to_owned()));
        }
        let span = Self { first, last, width: if padded { from.len() } else { 0 } };
        if span.count() > MOST { Err(RangeError::TooMany) } else { Ok(span) }
    }
}

impl FromStr for Pattern {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let plain = |text: &str| !text.contains(['[', ']']);
        let Some((before, rest)) = text.split_once('[') else {
            let alone = Self { before: text.to_owned(), spans: Vec::new(), after: String::new() };
            return if plain(text) { Ok(alone) } else { Err(RangeError::Bracket) };
        };
        let (inner, after) = rest.split_once(']').ok_or(RangeError::Bracket)?;
        if !plain(before) || !plain(inner) {
            return Err(RangeError::Bracket);
        }
        if !plain(after) {
            return Err(RangeError::Twice);
        }
        let spans: Vec<Span> =
            inner.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        let pattern = Self { before: before.to_owned(), spans, after: after.to_owned() };
        if pattern.count() > MOST { Err(RangeError::TooMany) } else { Ok(pattern) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.before)?;
        if !self.is_range() {
            return Ok(());
        }
        let spans = self.spans.iter().map(|Span { first, last, width }| {
            if first == last {
                format!("{first:0width$}")
            } else {
                format!("{first:0width$}-{last:0width$}")
            }
        });
        write!(f, "[{}]{}", spans.collect::<Vec<_>>().join(","), self.after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(text: &str) -> Vec<String> {
        text.parse::<Pattern>().expect(text).expand()
    }

    #[test]
    fn one_is_taken_out_of_a_range() {
        let without = |text: &str, place| {
            text.parse::<Pattern>().unwrap().without(place).map(|left| left.to_string())
        };
        for (text, place, left) in [
            ("w[1-3]", 0, "w[2-3]"),
            ("w[1-3]", 1, "w[1,3]"),
            ("w[1-3]", 2, "w[1-2]"),
            ("w[001-200].a", 16, "w[001-016,018-200].a"),
            ("10.0.0.[1-2,9]", 2, "10.0.0.[1-2]"),
            ("w[1-2]", 0, "w2"),
        ] {
            assert_eq!(without(text, place).as_deref(), Some(left), "{text} {place}");
        }
        assert_eq!(without("w1", 0), None);
        assert_eq!(without("w[1]", 0), None);
    }

    #[test]
    fn ranges_stand_for_many() {
        assert_eq!(expand("cp1"), ["cp1"]);
        assert_eq!(expand("w[1-3]"), ["w1", "w2", "w3"]);
        assert_eq!(expand("w[08-10].x"), ["w08.x", "w09.x", "w10.x"]);
        assert_eq!(expand("10.0.1.[9-11]"), ["10.0.1.9", "10.0.1.10", "10.0.1.11"]);
        assert_eq!(expand("2001:db8::[7]"), ["2001:db8::7"]);
        assert_eq!(expand("w[1-2, 7,9-10]"), ["w1", "w2", "w7", "w9", "w10"]);
        assert_eq!(expand("[0-1]"), ["0", "1"]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let numbers = |text: &str| RangeError::Numbers(text.to_owned());
        for (text, error) in [
            ("w[1-3", RangeError::Bracket),
            ("w1-3]", RangeError::Bracket),
            ("w]1[", RangeError::Bracket),
            ("w[[1]", RangeError::Bracket),
            ("r[1-2]n[1-2]", RangeError::Twice),
            ("w[]", numbers("")),
            ("w[a-b]", numbers("a-b")),
            ("w[1-]", numbers("1-")),
            ("w[-1]", numbers("-1")),
            ("w[1-2-3]", numbers("1-2-3")),
            ("w[+1-2]", numbers("+1-2")),
            ("w[1-99999999999999999999]", numbers("1-99999999999999999999")),
            ("w[3-1]", RangeError::Backwards("3-1".to_owned())),
            ("w[001-20]", RangeError::Width("001-20".to_owned())),
            ("w[1-020]", RangeError::Width("1-020".to_owned())),
            ("w[1-10001]", RangeError::TooMany),
            ("w[0-18446744073709551615]", RangeError::TooMany),
            ("w[1-6000,1-6000]", RangeError::TooMany),
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(error), "{text}");
        }
        assert_eq!(expand("w[1-10000]").len(), MOST);
    }

    proptest! {
        #[test]
        fn a_range_has_each_number_once_and_in_order(
            before in "[a-z.:]{0,5}", after in "[a-z.]{0,5}",
            first in 0u64..5_000, more in 0u64..300, padded: bool,
        ) {
            let last = first + more;
            let width = if padded { 6 } else { 0 };
            let text = format!("{before}[{first:0width$}-{last:0width$}]{after}");
            let pattern: Pattern = text.parse().unwrap();
            let texts = pattern.expand();
            prop_assert_eq!(texts.len(), pattern.count());
            prop_assert_eq!(texts.len() as u64, more + 1);
            for (text, number) in texts.iter().zip(first..) {
                let inner = text.strip_prefix(&before).unwrap().strip_suffix(&after).unwrap();
                prop_assert_eq!(inner.parse::<u64>().unwrap(), number);
                prop_assert!(!padded || inner.len() == 6);
                prop_assert!(padded || inner == number.to_string());
            }
        }

        #[test]
        fn what_is_written_is_read_again(text in r"[a-z]{1,3}(\[[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,2}){0,2}\])?") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                let again: Pattern = pattern.to_string().parse().unwrap();
                prop_assert_eq!(again.expand(), pattern.expand());
            }
        }

        #[test]
        fn no_text_breaks_it(text in r"[\[\]0-9a-z,\- ]{0,30}") {
            if let Ok(pattern) = text.parse::<Pattern>() {
                prop_assert_eq!(pattern.expand().len(), pattern.count());
                prop_assert!(pattern.count() >= 1 && pattern.count() <= MOST);
            }
        }
    }
}
