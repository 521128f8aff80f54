//! The description of the API that kubectl reads before a dry run: which kinds can be patched so. In the
//! protocol buffers of `OpenAPI` 2 (`gnostic`), of which only that much is written.

use super::resources::KINDS;

/// A field with bytes in it: a text or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap_or_default());
    bytes.extend(content);
    bytes
}

/// The whole document.
pub(super) fn document() -> Vec<u8> {
    let paths: Vec<u8> = KINDS
        .iter()
        .flat_map(|kind| {
            let (group, version) = kind.api.split_once('/').unwrap_or(("", kind.api));
            let yaml = format!("group: \"{group}\"\nversion: {version}\nkind: {}\n", kind.word);
            let extension = [
                field(1, b"x-kubernetes-group-version-kind"),
                field(2, &field(2, yaml.as_bytes())),
            ]
            .concat();
            // A query parameter, in the three messages that say so.
            let parameter =
                field(1, &field(2, &field(3, &[field(2, b"query"), field(4, b"dryRun")].concat())));
            let patch = [field(8, &parameter), field(13, &extension)].concat();
            let own = format!("/{}/{}", kind.api, kind.name);
            field(2, &[field(1, own.as_bytes()), field(2, &field(8, &patch))].concat())
        })
        .collect();
    [field(1, b"2.0"), field(8, &paths)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_fields_have_long_lengths() {
        assert_eq!(field(1, b"ab"), [0x0a, 2, b'a', b'b']);
        assert_eq!(field(2, &[0; 300])[..3], [0x12, 0xac, 0x02]);
        assert!(document().len() > 2000);
    }
}
