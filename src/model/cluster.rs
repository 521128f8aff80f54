//! The name of a cluster, where one process serves several.

use std::fmt;
use std::sync::Arc;

/// The longest name: that of a DNS label (RFC 1123).
const LONGEST: usize = 63;

/// A cluster's name in metrics, status and commands: 1 to 63 lower-case letters, digits and hyphens, as
/// in a DNS label. Nothing else of a proxy's names can look like it in front of a `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// A name, if this can be one.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        let fits = fits && !text.starts_with('-') && !text.ends_with('-');
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label() {
        for good in ["a", "east", "eu-west-1", "1", &"x".repeat(63)] {
            assert_eq!(ClusterName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "East", "a/b", "-a", "a-", "a.b", "ä", &"x".repeat(64)] {
            assert_eq!(ClusterName::new(bad), None, "{bad}");
        }
    }
}
