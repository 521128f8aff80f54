//! Names of images, written out in full as container runtimes do.

use std::fmt;
use std::str::FromStr;

use super::ImageError;

/// The registry and folder of names that give none.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library";

/// The longest tag and the longest name of an image (the grammar of distribution/reference).
const MAX_TAG: usize = 128;
const MAX_NAME: usize = 255;

/// The whole name of an image: `apiproxy:1` is `docker.io/library/apiproxy:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    repository: String,
    tag: String,
}

impl Name {
    /// The tag, without which there is no name.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for Name {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let wrong = |why| ImageError::Name(text.to_owned(), why);
        if text.contains('@') {
            return Err(wrong("give a tag, not a digest"));
        }
        let (name, tag) = match text.rsplit_once(':') {
            // Otherwise the colon stands before the registry's port.
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (text, "latest"),
        };
        if !is_tag(tag) {
            return Err(wrong("a tag is up to 128 letters, digits, `_`, `.` and `-`"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                (first, rest)
            }
            _ => (DEFAULT_REGISTRY, name),
        };
        if !is_registry(registry) {
            return Err(wrong("its registry is no HOST or HOST:PORT"));
        }
        if !path.split('/').all(is_component) {
            let why =
                "each part is lower-case letters and digits, with single `.` or `_`, or `-` inside";
            return Err(wrong(why));
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{registry}/{DEFAULT_FOLDER}/{path}")
        } else {
            format!("{registry}/{path}")
        };
        if repository.len() > MAX_NAME {
            return Err(wrong("it is longer than 255 characters"));
        }
        Ok(Self { repository, tag: tag.to_owned() })
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_TAG).contains(&tag.len())
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(is_label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// `[a-z0-9]+` and more of it after a `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = component.split(plain).filter(|separator| !separator.is_empty());
    component.starts_with(plain)
        && component.ends_with(plain)
        && between.into_iter().all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_out_as_runtimes_do() {
        let cases = [
            ("apiproxy:0.1.0", "docker.io/library/apiproxy:0.1.0"),
            ("apiproxy", "docker.io/library/apiproxy:latest"),
            ("docker.io/apiproxy:1", "docker.io/library/apiproxy:1"),
            ("infra/apiproxy:1", "docker.io/infra/apiproxy:1"),
            ("localhost/apiproxy:1", "localhost/apiproxy:1"),
            ("10.0.0.1:5000/apiproxy", "10.0.0.1:5000/apiproxy:latest"),
            (
                "registry.example/a/b-c__d.e_f--g:v1_2-rc.3",
                "registry.example/a/b-c__d.e_f--g:v1_2-rc.3",
            ),
        ];
        for (text, whole) in cases {
            assert_eq!(text.parse::<Name>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long_tag = format!("a:{}", "x".repeat(129));
        let long = "a".repeat(256);
        let digest = format!("apiproxy@sha256:{}", "0".repeat(64));
        for text in [
            "",
            ":1",
            "Api Proxy",
            "apiproxy:",
            "apiproxy:a b",
            "x/UPPER:1",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "host.:1/a",
            "host.x:/a",
            "host.x:y/a",
            "h_st.x/a",
            "a:.1",
            "a\nb",
            &long_tag,
            &long,
            &digest,
        ] {
            let error = text.parse::<Name>().unwrap_err();
            assert!(error.to_string().contains("is no name of an image: "), "{text:?}: {error}");
        }
    }
}
