//! Laying settings over settings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Lays a mapping over another as RFC 7386 (JSON Merge Patch) says: mappings are merged key by key, a
/// null takes its key away, and anything else replaces what was there.
pub(super) fn lay_over(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match value {
            Value::Null => {
                base.remove(key);
            }
            Value::Object(over) => {
                let slot = base.entry(key.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(base) = slot {
                    lay_over(base, over);
                }
            }
            other => {
                base.insert(key.clone(), other.clone());
            }
        }
    }
}

/// Flags of one program: later ones win.
pub(super) fn flags<const N: usize>(
    layers: [&BTreeMap<String, String>; N],
) -> BTreeMap<String, String> {
    layers.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(base: &Value, over: &Value) -> Value {
        let (Value::Object(mut base), Value::Object(over)) = (base.clone(), over.clone()) else {
            panic!("mappings only");
        };
        lay_over(&mut base, &over);
        Value::Object(base)
    }

    /// The examples of RFC 7386, appendix A, that are mappings.
    #[test]
    fn it_merges_as_the_rfc_says() {
        for (base, over, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(&base, &over), expected, "{base} under {over}");
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
        ];
        let node = leaf.prop_recursive(3, 24, 4, |inner| {
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-d]", node, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn twice_is_once(base in tree(), over in tree()) {
            let once = merged(&base, &over);
            prop_assert_eq!(merged(&once, &over), once);
        }
    }
}
