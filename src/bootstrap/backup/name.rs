//! Names of backups: cluster, time and revision, such as `prod-20261201T060000Z-r48213`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use crate::bootstrap::spec::is_cluster_name;

/// So far, in seconds, clocks of hosts may be apart.
pub(super) const AHEAD: u64 = 600;

/// The name of a backup. The later one is the greater one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupName {
    /// The cluster that it is of.
    pub cluster: String,
    /// When it was taken, in seconds since 1970.
    pub seconds: u64,
    /// The newest revision in it.
    pub revision: i64,
}

/// A text that is no name of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a backup; they look like prod-20261201T060000Z-r48213")]
pub struct NameError(String);

impl BackupName {
    /// The name of a backup that is taken at this time.
    pub fn new(cluster: &str, time: SystemTime, revision: i64) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { cluster: cluster.to_owned(), seconds: since.as_secs(), revision }
    }

    /// When it was taken.
    pub fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.seconds)
    }

    /// Was it taken by a clock that was ahead, by the one that says that it is `now`? Such a backup is the
    /// newest for long, and stands in nobody's place.
    pub fn is_ahead(&self, now: SystemTime) -> bool {
        self.time() > now + Duration::from_secs(AHEAD)
    }

    /// How long ago that was, in seconds.
    pub fn age(&self, now: SystemTime) -> u64 {
        now.duration_since(self.time()).unwrap_or_default().as_secs()
    }
}

impl Ord for BackupName {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |name: &Self| (name.seconds, name.revision);
        key(self).cmp(&key(other)).then_with(|| self.cluster.cmp(&other.cluster))
    }
}

impl PartialOrd for BackupName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moment { year, month, day, hour, minute, second, .. } = Moment::of(self.seconds);
        let (date, time) =
            (year * 10_000 + month * 100 + day, hour * 10_000 + minute * 100 + second);
        write!(f, "{}-{date:08}T{time:06}Z-r{}", self.cluster, self.revision)
    }
}

impl FromStr for BackupName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text)
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| NameError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<BackupName> {
    let (rest, revision) = text.rsplit_once("-r")?;
    let (cluster, time) = rest.rsplit_once('-')?;
    let (date, time) = time.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (date, time) = (number(date, 8)?, number(time, 6)?);
    let moment = Moment {
        year: date / 10_000,
        month: date / 100 % 100,
        day: date % 100,
        hour: time / 10_000,
        minute: time / 100 % 100,
        second: time % 100,
        ..Moment::default()
    };
    let revision = revision.parse().ok().filter(|revision| *revision >= 0)?;
    let cluster = Some(cluster).filter(|name| is_cluster_name(name))?.to_owned();
    Some(BackupName { cluster, seconds: moment.seconds()?, revision })
}

impl TryFrom<String> for BackupName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<BackupName> for String {
    fn from(name: BackupName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let text = "my-prod-20261201T060059Z-r48213";
        let name: BackupName = text.parse().unwrap();
        assert_eq!((name.cluster.as_str(), name.revision), ("my-prod", 48213));
        assert_eq!(name.seconds, 1_796_104_859);
        assert_eq!(name.to_string(), text);
        assert_eq!(BackupName::new("my-prod", name.time(), 48213), name);
        assert_eq!(name.age(name.time() + Duration::from_mins(1)), 60);
    }

    #[test]
    fn other_texts_are_none() {
        for text in [
            "",
            "prod",
            "prod-20261201T060059Z",
            "prod-20261301T060059Z-r1",
            "prod-20260230T060059Z-r1",
            "prod-20261201T240000Z-r1",
            "prod-20261201T060059Z-r-1",
            "prod-20261201T060059Z-r01",
            "-20261201T060059Z-r1",
            "../prod-20261201T060059Z-r1",
            "a/b-20261201T060059Z-r1",
            "prod-20261201T060059Z-r1 ",
            "prod-2026120½T060059Z-r1",
        ] {
            assert_eq!(text.parse::<BackupName>(), Err(NameError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_later_one_is_greater_whatever_its_cluster() {
        let name = |text: &str| text.parse::<BackupName>().unwrap();
        assert!(name("z-20261201T060000Z-r9") < name("a-20261201T060001Z-r1"));
        assert!(name("a-20261201T060000Z-r9") < name("a-20261201T060000Z-r10"));
    }
}
