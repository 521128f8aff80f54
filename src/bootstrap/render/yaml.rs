//! YAML as Kubernetes' programs read it.

use serde::Serialize;

use super::RenderError;

/// One document. Strings that a YAML 1.1 reader, as Go's is, would take for something else are
/// quoted.
pub(super) fn document<T: Serialize>(what: &'static str, value: &T) -> Result<String, RenderError> {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: true,
        prefer_block_scalars: false,
    };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| RenderError::Format { what, reason: error.to_string() })
}

/// Several documents in one file.
pub(super) fn stream(documents: impl IntoIterator<Item = String>) -> String {
    documents.into_iter().collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn text_stays_text() {
        let texts = [
            "yes",
            "no",
            "on",
            "null",
            "~",
            "1.34",
            "0x1f",
            "1e3",
            "12:30:45",
            "true",
            "",
            " a",
            "a: b",
            "a #b",
            "- a",
            "*",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'",
            "\"",
            "a\nb",
            "\u{feff}",
            "=",
            "<<",
            "::1",
            "[::]:6443",
            "key=value:NoSchedule",
            "2026-11-24",
        ];
        let long = "a b ".repeat(60);
        let map: BTreeMap<&str, &str> = texts.into_iter().chain([&*long]).map(|t| (t, t)).collect();
        let text = document("a map", &map).unwrap();
        let back: BTreeMap<String, String> = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back.len(), map.len());
        for (key, value) in &back {
            assert_eq!(key, value);
            assert_eq!(map[key.as_str()], value);
        }
        for plain in ["yes", "no", "on", "1.34", "12:30:45", "2026-11-24"] {
            assert!(!text.contains(&format!(": {plain}\n")), "{plain} stands unquoted:\n{text}");
        }
    }

    #[test]
    fn documents_are_parted() {
        assert_eq!(stream(["a: 1\n".to_owned(), "b: 2\n".to_owned()]), "a: 1\n---\nb: 2\n");
    }
}
