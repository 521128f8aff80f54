//! What every host remembers of a restore that is under way: whoever finds it, on whatever machine, can
//! go on where it was cut off.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::bootstrap::backup::{BackupName, rfc3339};

/// The folder of restores on a host.
pub const FOLDER: &str = "/var/lib/apiproxy/restore";

/// The restore that is under way there; none when the last one was finished.
pub const CURRENT: &str = "/var/lib/apiproxy/restore/current";

/// What the data come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// This backup.
    Backup(BackupName),
    /// What the member on this host had.
    Member(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backup(name) => name.fmt(f),
            Self::Member(host) => write!(f, "the data of {host}"),
        }
    }
}

/// A host whose place another one takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// Where it was reached.
    pub address: IpAddr,
    /// Who takes its place.
    pub by: String,
}

/// A restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restore {
    /// When it was begun and a random number: the later one is the greater one.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// What the data come from.
    pub source: Source,
    /// Hosts that leave, by their names.
    pub leaving: BTreeMap<String, Leaving>,
    /// Does etcd get a new authority, because the key of the old one is not with the operator?
    pub new_authority: bool,
    /// Where a stacked etcd begins anew: the others join it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The version of the etcd that the data are of, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd_version: Option<String>,
}

impl Restore {
    /// One that begins now.
    pub fn new(
        cluster: &str,
        source: Source,
        leaving: BTreeMap<String, Leaving>,
        now: SystemTime,
    ) -> Self {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let time = rfc3339(seconds).replace([':', '-'], "");
        let id = format!("{time}-{:06x}", fastrand::u32(..1 << 24));
        let (first, etcd_version) = (None, None);
        let cluster = cluster.to_owned();
        Self { id, cluster, source, leaving, new_authority: false, first, etcd_version }
    }

    /// Takes this host the place of another?
    pub fn is_new(&self, host: &str) -> bool {
        self.leaving.values().any(|leaving| leaving.by == host)
    }

    /// The folder of it on a host.
    pub fn folder(&self) -> String {
        format!("{FOLDER}/{}", self.id)
    }

    /// A file in that folder.
    pub fn file(&self, name: &str) -> String {
        format!("{FOLDER}/{}/{name}", self.id)
    }

    /// etcd's token of the new cluster: members of the old one are strangers to it.
    pub fn token(&self) -> String {
        format!("apiproxy-{}-{}", self.cluster, self.id)
    }

    /// As it is written.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_later_one_is_greater() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let leaving = Leaving { address: "10.0.0.1".parse().unwrap(), by: "s1".to_owned() };
        let leaving = BTreeMap::from([("e1".to_owned(), leaving)]);
        let source = Source::Backup("prod-20261201T060059Z-r48213".parse().unwrap());
        let one = Restore::new("prod", source, leaving, at(1_796_104_859));
        assert!(one.id.starts_with("20261201T060059Z-"), "{}", one.id);
        let json = one.to_json().unwrap();
        assert_eq!(serde_json::from_str::<Restore>(&json).unwrap(), one);
        let source = Source::Member("e1".to_owned());
        let later = Restore::new("prod", source, BTreeMap::new(), at(1_796_104_860));
        assert!(later.id > one.id && later.token() != one.token());
    }
}
