//! What names, labels, taints and images of Kubernetes look like.

use super::Taint;
use crate::config::suggestion;

/// The effects of a taint.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Is this a label of RFC 1123, as the names of clusters are: up to 63 lower-case letters, digits and
/// inner hyphens?
pub fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && dashed(text, |byte| byte == b'-')
}

/// A name of RFC 1123: labels with dots between them, of at most so many characters.
pub(super) fn is_name(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.split('.').all(is_label)
}

fn dashed(text: &str, inner: impl Fn(u8) -> bool) -> bool {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| outer(*byte) || inner(*byte))
        && bytes.first().is_some_and(|byte| outer(*byte))
        && bytes.last().is_some_and(|byte| outer(*byte))
}

/// The value of a label: up to 63 letters, digits and inner `-`, `_` and `.`; or nothing.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_qualified_part(text)
}

/// `NAME` or `PREFIX/NAME`, where the prefix is a DNS name.
pub(super) fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_name(prefix, 253) && is_qualified_part(name),
        None => is_qualified_part(text),
    }
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63
        && bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Reads `key=value:effect` or `key:effect`; if it is none, why, and what to do.
pub(super) fn taint(text: &str) -> Result<Taint, (String, String)> {
    let how = || "write it as key=value:NoSchedule or key:NoSchedule".to_owned();
    let (pair, effect) = text.rsplit_once(':').ok_or_else(|| ("it has no effect".into(), how()))?;
    if !EFFECTS.contains(&effect) {
        return Err((format!("`{effect}` is no effect"), suggestion(effect, &EFFECTS)));
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if !is_qualified_name(key) {
        return Err((format!("`{key}` is no key of a taint"), how()));
    }
    if !is_label_value(value) {
        return Err((format!("`{value}` is no value of a taint"), how()));
    }
    Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned() })
}

/// Can this be the name of an image, with a tag or digest or without?
pub(super) fn is_image(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(n, d)| (n, Some(d)));
    let digest_ok = digest.is_none_or(|digest| {
        digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        })
    });
    digest_ok && name.parse::<crate::image::Name>().is_ok()
}

/// Can this be the name of a flag, without its dashes?
pub(super) fn is_flag(text: &str) -> bool {
    dashed(text, |byte| byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for text in ["a", "w1", "a-b", "1"] {
            assert!(is_label(text) && is_name(text, 63), "{text}");
        }
        for text in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_label(text) && !is_name(text, 63), "{text}");
        }
        assert!(is_name("w1.example.com", 63) && !is_name("w1..com", 63) && !is_name("a.b", 2));
        for text in ["gpu", "a.b/c_d.E-f", "x.io/1"] {
            assert!(is_qualified_name(text), "{text}");
        }
        for text in ["", "/a", "a/", "a/b/c", "A.io/x", "-a", "a:b", &"a".repeat(64)] {
            assert!(!is_qualified_name(text), "{text}");
        }
        assert!(is_label_value("") && is_label_value("A_1.b") && !is_label_value("a b"));
        assert!(is_flag("v") && is_flag("audit-log-path") && !is_flag("--v") && !is_flag("a=b"));
    }

    #[test]
    fn taints_are_read() {
        let (key, effect) = ("a.io/gpu".to_owned(), "NoSchedule".to_owned());
        let taint_of =
            |value: &str| Taint { key: key.clone(), value: value.into(), effect: effect.clone() };
        assert_eq!(taint("a.io/gpu=yes:NoSchedule"), Ok(taint_of("yes")));
        assert_eq!(taint("a.io/gpu:NoSchedule"), Ok(taint_of("")));
        let wrong = |text: &str| taint(text).unwrap_err();
        let how = "write it as key=value:NoSchedule or key:NoSchedule";
        assert_eq!(wrong("gpu"), ("it has no effect".into(), how.into()));
        assert_eq!(wrong("gpu:noschedule").1, "did you mean `NoSchedule`?");
        assert_eq!(wrong("g u:NoExecute"), ("`g u` is no key of a taint".into(), how.into()));
        assert_eq!(wrong("g=u v:NoExecute").0, "`u v` is no value of a taint");
    }

    #[test]
    fn images_have_tags_or_digests() {
        let digest = format!("r.io/a/b@sha256:{}", "0a".repeat(32));
        for text in ["batch", "registry.local/batch:1.2", "r:5000/a/b:v1", digest.as_str()] {
            assert!(is_image(text), "{text}");
        }
        for text in ["", "a b", "r/a:", "r/a@sha256:00", "https://r/a"] {
            assert!(!is_image(text), "{text}");
        }
    }
}
