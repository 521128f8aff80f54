//! Versions of Kubernetes and etcd: `v1.34.2`.

use std::fmt;
use std::str::FromStr;

/// A version of three numbers, with or without a `v` before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third.
    pub patch: u32,
}

/// A text that is no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no version; one looks like v1.34.2")]
pub struct VersionError;

impl Version {
    /// The first release of Kubernetes that its own repository has packages of.
    pub const FIRST_PACKAGED: Self = Self::new(1, 24, 0);

    /// The version of these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Its minor release, as `v1.34`: what repositories are named by.
    pub fn release(self) -> String {
        format!("v{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = text.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u32>().ok()).flatten().ok_or(VersionError)
        });
        let mut next = || numbers.next().ok_or(VersionError)?;
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if numbers.next().is_some() { Err(VersionError) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_are_a_version() {
        assert_eq!("v1.34.2".parse(), Ok(Version::new(1, 34, 2)));
        assert_eq!("3.5.26".parse(), Ok(Version::new(3, 5, 26)));
        assert_eq!(Version::new(1, 34, 2).to_string(), "v1.34.2");
        assert_eq!(Version::new(1, 34, 2).release(), "v1.34");
        assert!(Version::new(1, 9, 0) < Version::new(1, 10, 0));
        for text in
            ["", "v", "1.34", "1.34.2.1", "1.34.x", "1.34.-2", "1..2", "v1.34.2-rc.1", "+1.2.3"]
        {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text}");
        }
    }
}
