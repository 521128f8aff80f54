//! Files checked against the documented fields of their kind: unknown ones are refused, as are values
//! of the wrong type.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::version::Version;

/// Types with their fields: a line for each type, an indented one for each field. A `!` marks fields that
/// must be there; `[T]` is a list, `{T}` a map.
struct Schema(BTreeMap<&'static str, Vec<(&'static str, &'static str)>>);

impl Schema {
    fn read(text: &'static str) -> Self {
        let mut types: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut current = "";
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(field) = line.strip_prefix("  ") {
                types.entry(current).or_default().extend(field.split_once(' '));
            } else {
                current = line;
                types.entry(current).or_default();
            }
        }
        Self(types)
    }

    /// Finds everything that is wrong with a value of this type.
    fn check(&self, kind: &str, value: &Value, path: &str, faults: &mut Vec<String>) {
        let wrong = |faults: &mut Vec<String>| faults.push(format!("{path}: {value} is no {kind}"));
        if let Some(inner) = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')) {
            match value {
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.check(inner, item, &format!("{path}[{index}]"), faults);
                    }
                }
                Value::Null => {}
                _ => wrong(faults),
            }
        } else if let Some(inner) = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}')) {
            match value {
                Value::Object(entries) => {
                    for (key, entry) in entries {
                        self.check(inner, entry, &format!("{path}.{key}"), faults);
                    }
                }
                Value::Null => {}
                _ => wrong(faults),
            }
        } else {
            let fits = match kind {
                "any" => true,
                "string" => value.is_string(),
                "bool" => value.is_boolean(),
                "int" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "duration" => value.as_str().is_some_and(is_duration),
                _ => return self.check_object(kind, value, path, faults),
            };
            if !fits && !value.is_null() {
                wrong(faults);
            }
        }
    }

    fn check_object(&self, kind: &str, value: &Value, path: &str, faults: &mut Vec<String>) {
        let fields = self.0.get(kind).unwrap_or_else(|| panic!("the schema lacks {kind}"));
        let object = match value {
            Value::Object(object) => object,
            Value::Null => return,
            _ => return faults.push(format!("{path}: {value} is no {kind}")),
        };
        for (name, value) in object {
            let own = format!("{path}.{name}");
            match fields.iter().find(|(field, _)| field.trim_end_matches('!') == name) {
                Some((_, kind)) => self.check(kind, value, &own, faults),
                None => faults.push(format!("unknown field {own:?}")),
            }
        }
        for (field, _) in fields {
            if let Some(name) = field.strip_suffix('!')
                && object.get(name).is_none_or(Value::is_null)
            {
                faults.push(format!("{path}.{name} is missing"));
            }
        }
    }
}

/// As Go writes durations: `1h30m`, `500ms`, `0s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let digits =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let unit = ["ns", "us", "ms", "s", "m", "h"].into_iter().find(|unit| {
            rest[digits..].strip_prefix(unit).is_some_and(|r| !r.starts_with(char::is_alphabetic))
        });
        let Some(unit) = unit.filter(|_| digits > 0) else { return false };
        rest = &rest[digits + unit.len()..];
    }
    !text.is_empty()
}

/// A document of a file: its kind and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) kind: String,
    pub(crate) value: Value,
}

/// The documents of a YAML text.
pub(crate) fn yaml(text: &str) -> Result<Vec<Value>, String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let is_content = |part: &&String| {
        part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    let read = |part: &String| serde_saphyr::from_str(part).map_err(|error| error.to_string());
    parts.iter().filter(is_content).map(read).collect()
}

/// Reads a text whose documents are all of kinds that a kubeadm of this version knows.
pub(crate) fn documents(text: &str, version: Version) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    for value in yaml(text)? {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let (api, kind) = (text("apiVersion"), text("kind"));
        let schema = Schema::read(match (api.as_str(), version.minor) {
            ("kubeadm.k8s.io/v1beta3", 22..=35) => include_str!("schema/kubeadm-v1beta3.txt"),
            ("kubeadm.k8s.io/v1beta4", 31..) => include_str!("schema/kubeadm-v1beta4.txt"),
            ("kubelet.config.k8s.io/v1beta1", _) => include_str!("schema/kubelet.txt"),
            ("kubeproxy.config.k8s.io/v1alpha1", _) => include_str!("schema/kube-proxy.txt"),
            _ => return Err(format!("{version} has no kind {kind:?} of {api:?}")),
        });
        if !schema.0.contains_key(kind.as_str()) || !kind.ends_with("Configuration") {
            return Err(format!("{api} has no kind {kind:?}"));
        }
        let mut body = value.clone();
        if let Some(object) = body.as_object_mut() {
            object.remove("apiVersion");
            object.remove("kind");
        }
        schema.check(&kind, &body, &kind, &mut faults);
        documents.push(Document { kind, value });
    }
    for (index, document) in documents.iter().enumerate() {
        if documents[..index].iter().any(|other| other.kind == document.kind) {
            faults.push(format!("there are two documents of the kind {}", document.kind));
        }
    }
    if faults.is_empty() { Ok(documents) } else { Err(faults.join("; ")) }
}

/// A document as kubeadm writes it: block style.
pub(crate) fn text(value: &Value) -> String {
    let options =
        serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_documented_is_refused() {
        let new = Version { minor: 34, patch: 2 };
        let refused = |text: &str, version| documents(text, version).unwrap_err();
        let head = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";
        assert!(documents(&format!("{head}clusterName: a\n"), new).is_ok());
        assert!(refused(&format!("{head}clustername: a\n"), new).contains("unknown field"));
        assert!(refused(&format!("{head}clusterName: [a]\n"), new).contains("is no string"));
        assert!(
            refused(&format!("{head}apiServer: {{ extraArgs: {{ v: \"4\" }} }}\n"), new)
                .contains("[Arg]")
        );
        assert!(refused(head, Version { minor: 30, patch: 0 }).contains("has no kind"));
        let old = head.replace("v1beta4", "v1beta3");
        assert!(
            documents(&format!("{old}apiServer: {{ extraArgs: {{ v: \"4\" }} }}\n"), new).is_ok()
        );
        assert!(refused(&old, Version { minor: 36, patch: 0 }).contains("has no kind"));
        assert!(refused(&format!("{head}---\n{head}"), new).contains("two documents"));
    }

    #[test]
    fn durations_are_those_of_go() {
        for text in ["0s", "1h30m", "500ms", "1.5h", "4m0s"] {
            assert!(is_duration(text), "{text}");
        }
        for text in ["", "5", "s", "1d", "10 s", "1hour"] {
            assert!(!is_duration(text), "{text}");
        }
    }
}
