//! What is wrong with a configuration: every fault at its place, with what to do about it.

use std::fmt::{self, Write as _};

/// Most faults that are kept; more would help nobody.
const MOST: usize = 100;

/// Characters of a source line that are shown around a fault.
const WINDOW: usize = 100;

/// Where a value was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A flag of the command line, such as `--backend`.
    Flag(&'static str),
    /// In the file; both count from 1, columns in characters.
    Position {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, in one line.
    pub message: String,
    /// What to do about it, when the message does not say so already.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: without_logins(&message.into()), hint: None }
    }

    /// The same fault, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All faults of one file and of the flags that go with it.
///
/// `Display` shows them in the order of their places, each with its source line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    name: String,
    source: String,
    list: Vec<Fault>,
    has_more: bool,
}

impl Faults {
    /// No faults yet, in a file of this name and text; both are empty when there is no file.
    pub fn new(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self { name: name.into(), source: source.into(), list: Vec::new(), has_more: false }
    }

    /// Adds a fault at its place, unless it is already known.
    pub fn push(&mut self, fault: Fault) {
        match self.list.binary_search(&fault) {
            Ok(_) => {}
            Err(_) if self.list.len() >= MOST => self.has_more = true,
            Err(index) => self.list.insert(index, fault),
        }
    }

    /// Is all well?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Can it hold no more?
    pub fn is_full(&self) -> bool {
        self.list.len() >= MOST
    }

    /// The faults, sorted: those of flags first, then by line and column.
    pub fn as_slice(&self) -> &[Fault] {
        &self.list
    }

    /// The name of the file, as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line a fault, for logs: `FILE:LINE:COLUMN: MESSAGE (HINT)`.
    pub fn lines(&self) -> Vec<String> {
        let with_hint = |fault: &Fault| match &fault.hint {
            Some(hint) => format!("{} ({hint})", self.headline(fault)),
            None => self.headline(fault),
        };
        self.list.iter().map(with_hint).chain(self.remainder()).collect()
    }

    fn headline(&self, fault: &Fault) -> String {
        match fault.place {
            Place::Flag(flag) => format!("{flag}: {}", fault.message),
            Place::Position { line, column } => {
                format!("{}:{line}:{column}: {}", self.name, fault.message)
            }
        }
    }

    fn remainder(&self) -> Option<String> {
        self.has_more.then(|| "and more; fix these first".to_owned())
    }

    fn block(&self, fault: &Fault) -> String {
        let mut block = self.headline(fault);
        if let Place::Position { line, column } = fault.place
            && let Some(text) = self.source.lines().nth(line.saturating_sub(1))
        {
            let (text, caret) = excerpt(&without_logins(text), column);
            let number = line.to_string();
            let gutter = " ".repeat(number.len());
            let rows = format!("\n  {number} | {text}\n  {gutter} | {}^", " ".repeat(caret));
            block.push_str(&rows);
        }
        if let Some(hint) = &fault.hint {
            let _infallible = write!(block, "\n  hint: {hint}");
        }
        block
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = self.list.iter().map(|fault| self.block(fault)).chain(self.remainder());
        for (index, block) in blocks.enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            f.write_str(&block)?;
        }
        Ok(())
    }
}

/// The part of a line around a column that fits a terminal, and how many characters of it stand
/// before the column.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let visible = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let length = line.chars().count();
    let before = column.saturating_sub(1).min(length);
    if length <= WINDOW {
        return (line.chars().map(visible).collect(), before);
    }
    let start = before.saturating_sub(WINDOW / 2).min(length - WINDOW);
    let mut text = String::from(if start > 0 { "…" } else { "" });
    text.extend(line.chars().skip(start).take(WINDOW).map(visible));
    if start + WINDOW < length {
        text.push('…');
    }
    (text, before - start + usize::from(start > 0))
}

/// A text in which addresses such as `https://user:password@host` and `user:password@host` have a mask in
/// the place of the login: what is shown of a file must not tell it.
pub(crate) fn without_logins(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "'\"`".contains(c);
    text.split_inclusive(is_end).map(without_login).collect()
}

/// The same of a word.
fn without_login(word: &str) -> String {
    // A password may hold whatever its owner could type: after a scheme, all before the last `@` goes.
    if let Some(at) = word.find("://") {
        let (scheme, rest) = word.split_at(at + 3);
        let host = rest.rsplit_once('@').map(|(_, host)| host);
        return host.map_or_else(|| word.to_owned(), |host| format!("{scheme}***@{host}"));
    }
    let (authority, path) = word.split_at(word.find('/').unwrap_or(word.len()));
    match authority.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => format!("***@{host}{path}"),
        _ => word.to_owned(),
    }
}

/// A text as it is quoted in a message: on one line, without control characters, not too long.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// The one of these names that was most likely meant.
pub(crate) fn nearest<'a>(wrong: &str, right: &[&'a str]) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    right.iter().copied().min_by_key(distance).filter(|name| {
        let near = distance(name) <= name.chars().count().max(3) / 3;
        near || (lower.len() >= 3 && name.to_lowercase().starts_with(&lower))
    })
}

/// `hint` for a name that is not one of these: the nearest one, or all.
pub(crate) fn suggestion(wrong: &str, right: &[&str]) -> String {
    match (nearest(wrong, right), right) {
        (Some(name), _) => format!("did you mean `{name}`?"),
        (None, []) => "remove it".to_owned(),
        (None, [only]) => format!("use `{only}`"),
        (None, _) => {
            let names: Vec<_> = right.iter().map(|name| format!("`{name}`")).collect();
            format!("use one of {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_addresses_are_not_shown() {
        for (text, shown) in [
            ("a: 'https://ops:x@m.local/k8s' # b", "a: 'https://***@m.local/k8s' # b"),
            ("deb http://ops:x@y@m.local/debian main", "deb http://***@m.local/debian main"),
            ("{ registry: ops:x@r.local:5000 }", "{ registry: ***@r.local:5000 }"),
            ("https://token@m.local", "https://***@m.local"),
            ("\"https://ops:a,b@m.local/k8s\", c", "\"https://***@m.local/k8s\", c"),
            ("https://ops:a/b@m.local/k8s", "https://***@m.local/k8s"),
            ("https://m.local/a@b", "https://***@b"),
        ] {
            assert_eq!(without_logins(text), shown);
        }
        for text in ["r.local:5000/a@sha256:0", "ops@m.local", "https://m.local/a", "a: @b", ""] {
            assert_eq!(without_logins(text), text);
        }
    }
}
