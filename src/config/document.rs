//! One YAML document: its kind, the places of its values, and typed reading that finds every fault.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

use super::ConfigError;
use super::faults::{Fault, Faults, Place, nearest, quoted, suggestion};
use super::tree::{self, Node, Value};

/// The `apiVersion` of every document that we read.
pub const API_VERSION: &str = "apiproxy.io/v1alpha1";

/// Times that a document is read over, each time without one more faulty value.
const MOST_READS: usize = 1_000;

/// A parsed document. Its text is YAML without duplicate keys; what it says is still to be read.
#[derive(Clone, Debug)]
pub struct Document {
    root: Node,
}

impl Document {
    /// Parses the text of a file, and tells the faults that it has as YAML.
    ///
    /// # Errors
    ///
    /// The text is empty, is not YAML, holds more than one document, or would expand to more than
    /// a configuration can need.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Faults), ConfigError> {
        // The parser skips a byte order mark without counting it; so do the shown lines.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut faults = Faults::new(name, text);
        match serde_saphyr::from_str_with_options::<Node>(text, options()) {
            Ok(Node { value: Value::Null, .. }) => {
                Err(ConfigError::Empty { name: name.to_owned() })
            }
            Ok(mut root) => {
                drop_duplicates(&mut root, &mut faults);
                Ok((Self { root }, faults))
            }
            Err(error) => {
                faults.push(syntax_fault(&error, text));
                Err(ConfigError::Syntax(faults))
            }
        }
    }

    /// Refuses any document but one of this kind and of [`API_VERSION`].
    ///
    /// # Errors
    ///
    /// [`ConfigError::WrongKind`] says what was found and what was expected.
    pub fn expect_kind(&self, kind: &str, mut faults: Faults) -> Result<Faults, ConfigError> {
        let mut wrong = Vec::new();
        for (key, expected) in [("apiVersion", API_VERSION), ("kind", kind)] {
            let hint = format!("write `{key}: {expected}`");
            let message = match self.root.entry(key).map(|(_, node)| node) {
                Some(Node { value: Value::String(found), .. }) if found == expected => continue,
                Some(node) if node.value != Value::Null => {
                    format!("`{key}` is {}, expected `{expected}`", node.describe())
                }
                _ if matches!(self.root.value, Value::Mapping(_)) => format!("`{key}` is missing"),
                _ => {
                    let message = format!("expected a mapping, found {}", self.root.describe());
                    wrong = vec![Fault::new(self.root.place, message).hint(hint)];
                    break;
                }
            };
            wrong.push(Fault::new(self.place(key), message).hint(hint));
        }
        if wrong.is_empty() {
            return Ok(faults);
        }
        for fault in wrong {
            faults.push(fault);
        }
        Err(ConfigError::WrongKind(faults))
    }

    /// Reads a value. Each fault is noted at its place, what is at fault is left out, and reading
    /// goes on, so that one call finds them all. `None` when nothing is left to read.
    ///
    /// Make the items of lists `Option`s: what is at fault is then `None`, and the others keep
    /// their numbers. Values that may be at fault are best `Option`s too.
    pub fn read<T: DeserializeOwned>(&self, faults: &mut Faults) -> Option<T> {
        let mut tree = self.root.clone();
        let mut cuts = HashSet::new();
        for _ in 0..MOST_READS {
            match T::deserialize(&tree) {
                Ok(value) => return Some(value),
                Err(error) => {
                    if !error.follows(&cuts) {
                        let stop = faults.is_full();
                        faults.push(error.fault(&tree));
                        if stop {
                            return None;
                        }
                    }
                    cuts.insert(error.cut(&mut tree)?);
                }
            }
        }
        None
    }

    /// Where the value at a path such as `backends[1].address` stands, or else the nearest thing
    /// around it. A list or mapping stands where its key does.
    pub fn place(&self, path: &str) -> Place {
        self.walk(path).place
    }

    /// The value at a path, unless it is empty or not there.
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        let walk = self.walk(path);
        (walk.arrived && walk.node.value != Value::Null).then_some(walk.node)
    }

    /// Is a value given at this path, or did something stand in the way that is not of the right
    /// type and so has a fault of its own?
    pub(crate) fn has(&self, path: &str) -> bool {
        let walk = self.walk(path);
        let blocked = !walk.node.is_collection();
        walk.node.value != Value::Null && (walk.arrived || blocked)
    }

    /// Has the mapping at this path a key that is not one of these?
    pub(super) fn has_other_keys(&self, path: &str, known: &[&str]) -> bool {
        match self.node(path).map(|node| &node.value) {
            Some(Value::Mapping(entries)) => {
                entries.iter().any(|(key, _)| !known.contains(&key.text.as_str()))
            }
            _ => false,
        }
    }

    /// Has the mapping at this path, or the whole document if that is empty, a key that was most
    /// likely meant to be this one? It has a fault of its own.
    pub(crate) fn has_misspelt(&self, path: &str, key: &str) -> bool {
        let node = if path.is_empty() { Some(&self.root) } else { self.node(path) };
        let Some(Value::Mapping(entries)) = node.map(|node| &node.value) else {
            return false;
        };
        // The key itself without a value is missing all the same.
        entries.iter().any(|(found, _)| found.text != key && nearest(&found.text, &[key]).is_some())
    }

    /// Where a key of the mapping at this path stands, whatever is in its name; or else the mapping.
    pub(crate) fn key_place(&self, path: &str, key: &str) -> Place {
        let walk = self.walk(path);
        walk.node.entry(key).map_or(walk.place, |(key, _)| key.place)
    }

    fn walk(&self, path: &str) -> Walk<'_> {
        let mut walk = Walk { node: &self.root, place: self.root.place, arrived: true };
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']').map(str::parse) {
                Some(Ok(index)) => walk.node.item(index).map(|node| (node.place, node)),
                _ => walk.node.entry(step).map(|(key, node)| {
                    (if node.is_collection() { key.place } else { node.place }, node)
                }),
            };
            match next {
                Some((place, node)) => walk = Walk { node, place, arrived: true },
                None => {
                    return Walk { arrived: false, ..walk };
                }
            }
        }
        walk
    }
}

/// How far a path leads.
struct Walk<'a> {
    node: &'a Node,
    place: Place,
    arrived: bool,
}

/// Limits that no configuration reaches and that keep alias bombs and deep nests harmless.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 200_000,
            max_events: 600_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 50_000,
            max_recorded_anchor_bytes: 4 * 1024 * 1024,
            max_total_scalar_bytes: 4 * 1024 * 1024,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Notes second values of a key and keeps the first, everywhere in the tree.
fn drop_duplicates(node: &mut Node, faults: &mut Faults) {
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| drop_duplicates(item, faults)),
        Value::Mapping(entries) => {
            let mut seen = HashMap::new();
            entries.retain_mut(|(key, node)| {
                drop_duplicates(node, faults);
                let first = match seen.entry(key.text.clone()) {
                    Entry::Occupied(first) => *first.get(),
                    Entry::Vacant(vacant) => {
                        vacant.insert(key.place);
                        return true;
                    }
                };
                let fault = Fault::new(key.place, format!("{} is given twice", quoted(&key.text)));
                faults.push(match first {
                    Place::Position { line, .. } => {
                        fault.hint(format!("it is already in line {line}; keep one of them"))
                    }
                    Place::Flag(_) => fault,
                });
                false
            });
        }
        _ => {}
    }
}

fn syntax_fault(error: &serde_saphyr::Error, text: &str) -> Fault {
    let place = error.location().map_or(Place::Position { line: 1, column: 1 }, tree::place);
    let Place::Position { line, .. } = place else {
        return Fault::new(place, "not YAML");
    };
    let line = text.lines().nth(line - 1).unwrap_or_default().trim_start_matches(' ');
    match error.without_snippet() {
        serde_saphyr::Error::MultipleDocuments { .. } => {
            Fault::new(place, "a second document begins here")
                .hint("one file holds one document; remove the `---` and what follows")
        }
        other => {
            let message = other.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let fault = Fault::new(place, format!("not YAML: {}", escape(message)));
            if ["budget breached", "exceed"].iter().any(|word| message.contains(word)) {
                let message = "this is far more, or nested far deeper, than a configuration needs";
                Fault::new(place, message)
                    .hint("write it without anchors and aliases, and with fewer levels")
            } else if line.starts_with('\t') {
                fault.hint("indent with spaces; YAML allows no tabs there")
            } else if message.starts_with("mapping values are not allowed") {
                fault.hint("check the indentation, or put the text with `: ` in quotes")
            } else if message.starts_with("unexpected character") {
                fault.hint("put the text in quotes")
            } else {
                fault
            }
        }
    }
}

fn escape(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A fault for a key that is not one of these.
pub(super) fn unknown_key(place: Place, key: &str, known: &[&str]) -> Fault {
    let fault = Fault::new(place, format!("unknown key {}", quoted(key)));
    if key == "<<" {
        return fault.hint("merge keys are not supported; write the keys out");
    }
    fault.hint(suggestion(key, known))
}
