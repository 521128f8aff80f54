//! Changes of parts of an object.

use serde_json::{Value, json};

/// RFC 7386. Lists are replaced whole.
pub(crate) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in fields {
        // What kubectl adds for lists that are merged by key.
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            object.as_object_mut().map(|object| object.remove(key));
        } else {
            merge(&mut object[key], value);
        }
    }
}

/// One operation of RFC 6902: `add`, `replace` or `remove`.
pub(crate) fn operate(object: &mut Value, operation: &Value) -> Result<(), String> {
    let path = operation["path"].as_str().unwrap_or_default();
    let bad = || format!("cannot patch {path}");
    let (parent, last) = path.rsplit_once('/').ok_or_else(bad)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let (kind, value) = (operation["op"].as_str().unwrap_or_default(), operation["value"].clone());
    match (kind, object.pointer_mut(parent).ok_or_else(bad)?) {
        ("add" | "replace", Value::Object(parent)) => drop(parent.insert(last, value)),
        ("remove", Value::Object(parent)) => drop(parent.remove(&last).ok_or_else(bad)?),
        ("add", Value::Array(parent)) if last == "-" => parent.push(value),
        (kind, Value::Array(parent)) => {
            let index: usize = last.parse().map_err(|_| bad())?;
            match kind {
                "add" if index <= parent.len() => parent.insert(index, value),
                "replace" if index < parent.len() => parent[index] = value,
                "remove" if index < parent.len() => drop(parent.remove(index)),
                _ => return Err(bad()),
            }
        }
        _ => return Err(bad()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_change_what_they_name() {
        let mut object = json!({ "a": { "b": 1, "c": [1, 2] }, "d": 1 });
        merge(&mut object, &json!({ "a": { "c": [3] }, "d": null, "e": { "f": 1 } }));
        assert_eq!(object, json!({ "a": { "b": 1, "c": [3] }, "e": { "f": 1 } }));
        let mut operate = |kind: &str, path: &str| {
            operate(&mut object, &json!({ "op": kind, "path": path, "value": 2 }))
                .map(|()| object.clone())
        };
        assert!(operate("remove", "/a/b").is_ok());
        assert!(operate("add", "/a/x~1y").is_ok());
        let after = json!({ "a": { "c": [3, 2], "x/y": 2 }, "e": { "f": 1 } });
        assert_eq!(operate("add", "/a/c/-"), Ok(after));
        for (kind, path) in [
            ("remove", "/q/r"),
            ("remove", "/a/q"),
            ("replace", "/a/c/7"),
            ("move", "/a/c"),
            ("add", ""),
        ] {
            assert!(operate(kind, path).is_err(), "{kind} {path}");
        }
    }
}
