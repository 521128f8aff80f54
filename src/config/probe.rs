//! Finds the keys that a shape accepts, for tests that hold a reference against the code.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::faults::Place;
use super::tree::{Key, Node, Value};

/// All keys that a shape accepts, as paths such as `backends[].name`, without those that are only
/// sections of others. Found by offering it an unknown key everywhere.
pub(crate) fn accepted_keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    accepted::<T>(&[], &mut found);
    let is_section = |key: &String| found.iter().any(|other| other.starts_with(&format!("{key}.")));
    let sections: Vec<_> = found.iter().filter(|key| is_section(key)).cloned().collect();
    found.retain(|key| !sections.contains(key));
    found
}

fn accepted<T: DeserializeOwned>(steps: &[String], found: &mut BTreeSet<String>) {
    for list in [false, true] {
        let mut steps = steps.to_vec();
        if list {
            steps.push("[]".to_owned());
        }
        let mut probe = steps.clone();
        probe.push("?".to_owned());
        // A mapping of any keys takes it.
        let Err(error) = T::deserialize(&nest(&probe, Value::Null)) else { continue };
        for key in error.known_keys().unwrap_or_default() {
            let mut path = steps.clone();
            path.push((*key).to_owned());
            found.insert(path.join(".").replace(".[]", "[]"));
            accepted::<T>(&path, found);
        }
    }
}

fn leaf(value: Value) -> Node {
    Node { value, place: Place::Flag("test") }
}

/// A tree with `value` at the end of a path.
fn nest(steps: &[String], value: Value) -> Node {
    let Some((step, rest)) = steps.split_first() else {
        return leaf(value);
    };
    let inner = nest(rest, value);
    if step == "[]" {
        return leaf(Value::Sequence(vec![inner]));
    }
    let key = Key { text: step.clone(), place: Place::Flag("test") };
    leaf(Value::Mapping(vec![(key, inner)]))
}
