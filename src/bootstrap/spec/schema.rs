//! The JSON Schema of a `Cluster` file, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::reference::reference;
use super::{KIND, shape};
use crate::config::{API_VERSION, KeyDoc};

/// The schema (draft 7, which editors know best). It knows every key and type; what depends on other
/// values is told when the file is read.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<shape::File>().to_value();
    schema["title"] = json!("A cluster of apiproxy bootstrap");
    for (key, value) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        schema["properties"][key]["const"] = json!(value);
    }
    for doc in reference() {
        if let Some(property) = property(&mut schema, doc.path) {
            describe(property, doc);
        }
    }
    schema
}

/// The schema at a path such as `spec.hosts[].name`.
pub(super) fn property<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |schema, step| {
        let (key, is_list) = step.strip_suffix("[]").map_or((step, false), |key| (key, true));
        let property = schema.get_mut("properties")?.get_mut(key)?;
        if is_list { property.get_mut("items") } else { Some(property) }
    })
}

fn describe(property: &mut Value, doc: &KeyDoc) {
    property["description"] = json!(format!("{} ({})", doc.meaning, doc.values).replace('`', ""));
    if !doc.default.is_empty() {
        let default = serde_json::from_str(doc.default);
        property["default"] = default.unwrap_or_else(|_| json!(doc.default));
    }
}
