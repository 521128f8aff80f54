//! The example, the schema and the reference say what the code does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::bootstrap::spec::schema::property;
use crate::config::{KeyDoc, accepted_keys};

const TOPOLOGIES: [Topology; 2] = [Topology::Stacked, Topology::External];

/// A document as a value.
fn value(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

/// What a schema has against a value. It knows the keywords that our schema uses, and no others.
fn against(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let any = |schemas: &Value| {
        let fits = |schema: &Value| against(schema, value, path).is_empty();
        schemas.as_array().unwrap().iter().any(fits)
    };
    for (keyword, wanted) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "format" => true,
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|wanted| is_a(value, wanted)),
                wanted => is_a(value, wanted),
            },
            "const" => wanted == value,
            "enum" => wanted.as_array().unwrap().contains(value),
            "anyOf" | "oneOf" => any(wanted),
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "required" => {
                let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
                !value.is_object() || wanted.as_array().unwrap().iter().all(has)
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(against(wanted, item, &format!("{path}[{index}]")));
                }
                true
            }
            "properties" => {
                for (key, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        found.extend(against(schema, value, &format!("{path}.{key}")));
                    }
                }
                true
            }
            "additionalProperties" => {
                let known =
                    |key: &str| schema.pointer("/properties").is_some_and(|p| p.get(key).is_some());
                let others = value.as_object().into_iter().flatten().filter(|(key, _)| !known(key));
                for (key, value) in others {
                    match wanted {
                        Value::Bool(true) => {}
                        Value::Bool(false) => found.push(format!("{path}: unknown key {key}")),
                        schema => found.extend(against(schema, value, &format!("{path}.{key}"))),
                    }
                }
                true
            }
            other => panic!("the keyword {other} is not known here"),
        };
        if !fits {
            found.push(format!("{path}: {keyword} {wanted}"));
        }
    }
    found
}

fn is_a(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type {other} is not known here"),
    }
}

#[test]
fn the_examples_are_valid() {
    for topology in TOPOLOGIES {
        let text = example(topology, "my-cluster");
        let cluster = read(&text).unwrap();
        assert_eq!(cluster.topology, topology);
        assert_eq!(cluster.name, "my-cluster");
        assert_eq!(cluster.endpoint.name, "apiserver.my-cluster.local");
        assert_eq!(cluster.etcd_hosts().count(), 3);
        assert_eq!(cluster.with_role(Role::Worker).count(), 2);
        assert!(!text.contains('@') && text.lines().all(|line| line.len() <= 112), "{text}");
    }
}

/// What is commented out in the example, put in force.
fn uncommented(text: &str) -> String {
    let mut lines = Vec::<String>::new();
    for line in text.lines() {
        let rest = line.trim_start().strip_prefix("# ").filter(|_| line.starts_with(' '));
        let yaml = rest.map(str::trim_start).filter(|rest| {
            let is_word = |word: &str| word.chars().all(char::is_alphanumeric);
            rest.starts_with("- ") || rest.split_once(':').is_some_and(|(key, _)| is_word(key))
        });
        if yaml.is_none() {
            lines.push(line.to_owned());
            continue;
        }
        let line = line.replacen("# ", "", 1);
        let key = line.split_once(':').map_or("", |(key, _)| key).to_owned() + ":";
        // The other way to write a key takes its place.
        if !line.trim_start().starts_with('-') {
            lines.retain(|other| line.starts_with("      ") || !other.starts_with(&key));
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn what_the_examples_comment_out_is_valid_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cni.yaml"), "").unwrap();
    std::fs::write(folder.path().join("workers.csv"), "name,address\nw9,10.0.0.39\n").unwrap();
    for topology in TOPOLOGIES {
        let key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
        let text = uncommented(&example(topology, "prod")).replace("age1...", key);
        let cluster = match read_in(folder.path(), &text) {
            Ok(cluster) => cluster,
            Err(error) => panic!("{text}\n{error}"),
        };
        assert_eq!(cluster.extensions.len(), 2);
        assert_eq!(cluster.host("gpu1").unwrap().overrides.kubelet["maxPods"], 50);
        assert_eq!(cluster.artifacts, Artifacts::Directory(folder.path().join("./artifacts")));
        assert!(cluster.host("w9").is_some() && cluster.host("x1").is_some());
        assert!(cluster.audit && cluster.encryption_at_rest);
        let backup = cluster.etcd.backup.unwrap();
        assert_eq!(backup.recipients, [key]);
        assert_eq!(backup.s3.unwrap().credentials_file, folder.path().join("./s3-key"));
        assert_eq!(against(&schema(), &value(&text), ""), [""; 0]);
    }
}

#[test]
fn the_schema_takes_the_examples_and_no_unknown_keys() {
    let schema = schema();
    for topology in TOPOLOGIES {
        let good = value(&example(topology, "prod"));
        assert_eq!(against(&schema, &good, ""), [""; 0]);
        for pointer in
            ["", "/metadata", "/spec", "/spec/endpoint", "/spec/hosts/0", "/spec/etcd/backup"]
        {
            let mut bad = good.clone();
            bad.pointer_mut(pointer).unwrap()["adress"] = json!("x");
            let path = pointer.replace("/0", "[0]").replace('/', ".");
            assert_eq!(against(&schema, &bad, ""), [format!("{path}: unknown key adress")]);
        }
        for (pointer, wrong) in [
            ("/kind", json!("ProxyConfiguration")),
            ("/spec/topology", json!("stackd")),
            ("/spec/hosts/0/roles/0", json!("master")),
            ("/spec/endpoint/port", json!(70_000)),
            ("/spec/etcd/backup/keep", json!(0)),
            ("/spec/monitoring/enabled", json!("yes")),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = wrong;
            assert!(!against(&schema, &bad, "").is_empty(), "{pointer}");
        }
        let mut bad = good.clone();
        bad["spec"]["hosts"][0].as_object_mut().unwrap().remove("address");
        assert!(!against(&schema, &bad, "").is_empty());
    }
}

#[test]
fn the_schema_describes_every_key_and_leaves_none_open() {
    fn closed(schema: &Value) -> usize {
        let own = schema.get("properties").map_or(0, |_| {
            assert_eq!(schema["additionalProperties"], json!(false), "{schema}");
            1
        });
        let inner = match schema {
            Value::Object(entries) => entries.values().map(closed).sum(),
            Value::Array(items) => items.iter().map(closed).sum(),
            _ => 0,
        };
        own + inner
    }
    let mut schema = schema();
    assert!(closed(&schema) > 15);
    for doc in reference() {
        let property = property(&mut schema, doc.path).expect(doc.path);
        assert!(
            property["description"].as_str().unwrap().starts_with(&doc.meaning.replace('`', ""))
        );
    }
}

#[test]
fn every_key_is_documented() {
    let documented: BTreeSet<_> = reference().iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(documented.len(), reference().len());
    assert_eq!(documented, accepted_keys::<shape::File>());
    let table = reference_markdown();
    assert!(table.lines().all(|line| line.matches('|').count() == 5), "{table}");
}

/// A file that is good, with a value at a path.
fn with(path: &str, value: Value) -> Result<Cluster, SpecError> {
    let mut file = json!({
        "apiVersion": "apiproxy.io/v1alpha1", "kind": "Cluster", "metadata": { "name": "prod" },
        "spec": {
            "kubernetesVersion": "v1.34.2",
            "hosts": [{ "name": "cp1", "address": "10.0.0.11", "roles": ["controlPlane"] }],
            "etcd": { "backup": { "drill": {}, "s3": {
                "endpoint": "https://s3.example", "bucket": "backups", "credentialsFile": "key",
            } } },
        },
    });
    let pointer = path.replace("[]", ".0").replace('.', "/");
    let steps: Vec<_> = pointer.split('/').collect();
    let target = steps.iter().fold(&mut file, |node, step| match step.parse::<usize>() {
        Ok(index) => &mut node[index],
        Err(_) => &mut node[*step],
    });
    *target = value;
    read(&file.to_string())
}

/// Writing the documented default changes nothing.
#[test]
fn documented_defaults_are_those_in_force() {
    let plain = with("kind", json!("Cluster")).unwrap();
    let mut checked = 0;
    for KeyDoc { path, default, .. } in reference().iter().filter(|doc| !doc.default.is_empty()) {
        let text = default.replace("NAME", "prod");
        let value = serde_json::from_str(&text).unwrap_or(json!(text));
        assert_eq!(with(path, value).expect(path), plain, "{path}");
        checked += 1;
    }
    assert_eq!(checked, 18);
}

#[test]
fn documented_ranges_are_those_in_force() {
    let mut checked = 0;
    for KeyDoc { path, values, .. } in reference() {
        let numbers = values.split_once(" to ");
        let Some((Ok(low), Ok(high))) = numbers.map(|(low, high)| (low.parse(), high.parse()))
        else {
            continue;
        };
        let (low, high): (i64, i64) = (low, high);
        assert!(with(path, json!(low)).is_ok() && with(path, json!(high)).is_ok(), "{path}");
        assert!(
            with(path, json!(low - 1)).is_err() && with(path, json!(high + 1)).is_err(),
            "{path}"
        );
        checked += 1;
    }
    assert_eq!(checked, 4);
}
