//! Why a tree cannot be read as the wanted value, and which node is to blame.

use std::collections::HashSet;
use std::fmt::{self, Display, Write as _};

use serde::de::{self, Unexpected};

use super::document::unknown_key;
use super::faults::{Fault, Place, quoted, suggestion};
use super::tree::{Node, Value};

/// Why a tree is not the wanted value: what, and which node.
#[derive(Debug)]
pub(super) struct ReadError {
    problem: Problem,
    /// The node to blame, once known.
    place: Option<Place>,
    /// Numbers of entries and items from that node up to the root.
    steps: Vec<usize>,
}

#[derive(Debug)]
enum Problem {
    MissingKey(&'static str),
    UnknownKey { key: String, known: &'static [&'static str] },
    Other { message: String, hint: Option<String> },
}

impl ReadError {
    /// A problem whose node is still to be told.
    pub(super) fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        let problem = Problem::Other { message: message.into(), hint };
        Self { problem, place: None, steps: Vec::new() }
    }

    /// Blames the node at this place, unless an inner one is to blame.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    /// Tells in which entry or item of the parent it happened.
    pub(super) fn within(mut self, step: usize) -> Self {
        self.steps.push(step);
        self
    }

    /// The keys that are known where an unknown one was found.
    #[cfg(test)]
    pub(super) fn known_keys(&self) -> Option<&'static [&'static str]> {
        match self.problem {
            Problem::UnknownKey { known, .. } => Some(known),
            _ => None,
        }
    }

    /// The fault to report for a tree.
    pub(super) fn fault(&self, tree: &Node) -> Fault {
        let place = self.place.unwrap_or(tree.place);
        if let Problem::UnknownKey { key, known } = &self.problem {
            return unknown_key(place, key, known);
        }
        let path = path(tree, &self.steps);
        let message = if path.is_empty() { self.to_string() } else { format!("`{path}`: {self}") };
        let hint = match &self.problem {
            Problem::Other { hint, .. } => hint.clone(),
            _ => None,
        };
        Fault { place, message, hint }
    }

    /// Takes what is to blame out of the tree and says what that was; `None` when it is all of it.
    /// Items of lists become empty and stay, so that the others keep their numbers, unless an
    /// empty one is refused as well.
    pub(super) fn cut(&self, tree: &mut Node) -> Option<Cut> {
        let (step, parents) = self.steps.split_first()?;
        let parent = descend(tree, parents)?;
        match &mut parent.value {
            Value::Mapping(entries) if *step < entries.len() => {
                let (key, _) = entries.remove(*step);
                Some(Cut { place: parent.place, key: Some(key.text) })
            }
            Value::Sequence(items) if *step < items.len() => {
                let place = items[*step].place;
                if std::mem::replace(&mut items[*step].value, Value::Null) == Value::Null {
                    items.remove(*step);
                }
                Some(Cut { place, key: None })
            }
            _ => None,
        }
    }

    /// Is this no fault of the file, but only of what was cut out before?
    pub(super) fn follows(&self, cuts: &HashSet<Cut>) -> bool {
        let key = match &self.problem {
            Problem::MissingKey(key) => Some((*key).to_owned()),
            _ => None,
        };
        self.place.is_some_and(|place| cuts.contains(&Cut { place, key }))
    }
}

/// What was taken out of a tree: an item of a list, or a key of the mapping that stands there.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Cut {
    place: Place,
    key: Option<String>,
}

fn descend<'a>(tree: &'a mut Node, steps: &[usize]) -> Option<&'a mut Node> {
    steps.iter().rev().try_fold(tree, |node, step| node.child_mut(*step))
}

fn path(tree: &Node, steps: &[usize]) -> String {
    let mut node = tree;
    let mut path = String::new();
    for step in steps.iter().rev() {
        node = match &node.value {
            Value::Sequence(items) if *step < items.len() => {
                let _infallible = write!(path, "[{step}]");
                &items[*step]
            }
            Value::Mapping(entries) if *step < entries.len() => {
                let (key, value) = &entries[*step];
                let dot = if path.is_empty() { "" } else { "." };
                let _infallible = write!(path, "{dot}{}", key.text);
                value
            }
            _ => break,
        };
    }
    path
}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::UnknownKey { key, .. } => write!(f, "unknown key {}", quoted(key)),
            Problem::MissingKey(key) => write!(f, "the key `{key}` is missing"),
            Problem::Other { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    /// What follows a line break in the text becomes the hint.
    fn custom<T: Display>(text: T) -> Self {
        let text = text.to_string();
        match text.split_once('\n') {
            Some((message, hint)) => Self::new(message, Some(hint.to_owned())),
            None => Self::new(text, None),
        }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {found}"), None)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("unknown value {}", quoted(found));
        Self::new(message, Some(suggestion(found, expected)))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let problem = Problem::UnknownKey { key: key.to_owned(), known };
        Self { problem, place: None, steps: Vec::new() }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { problem: Problem::MissingKey(key), place: None, steps: Vec::new() }
    }
}
