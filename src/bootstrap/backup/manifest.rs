//! What a backup says of itself: in the bundle as its first file, and beside it without any secret, so
//! that it can be told what an encrypted one holds.

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::name::BackupName;

/// The version of the format.
pub(super) const FORMAT: u32 = 1;

/// The snapshot in a bundle.
pub(super) const SNAPSHOT: &str = "etcd/snapshot.db";

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// `FORMAT`.
    pub format: u32,
    /// Its name.
    pub name: BackupName,
    /// When it was taken, as RFC 3339 has it.
    pub taken: String,
    /// The host that took it.
    pub host: String,
    /// etcd's number of the cluster, in hexadecimal.
    pub cluster_id: String,
    /// The version of etcd that was asked.
    pub etcd_version: String,
    /// The version of Kubernetes that the spec wishes.
    pub kubernetes_version: String,
    /// The members of etcd.
    pub members: Vec<MemberNote>,
    /// What the snapshot holds.
    pub contents: Contents,
    /// The files of the bundle, in their order.
    pub parts: Vec<Part>,
    /// Files that should be in it and were not there.
    pub missing: Vec<String>,
}

/// A member of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberNote {
    /// Its name.
    pub name: String,
    /// Its number, in hexadecimal.
    pub id: String,
    /// What other members call it by.
    pub peer_urls: Vec<String>,
    /// Does it only learn?
    pub learner: bool,
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Its path in the bundle.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What lies beside a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Label {
    /// The bundle's length in bytes.
    pub size: u64,
    /// The bundle's SHA-256, in hexadecimal.
    pub sha256: String,
    /// Is it encrypted?
    pub encrypted: bool,
    /// What is in it.
    pub manifest: Manifest,
}

impl Manifest {
    /// Is everything in it that should be?
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }
}

impl Label {
    /// The bundle's file.
    pub fn file(&self) -> String {
        bundle_file(&self.manifest.name, self.encrypted)
    }

    /// Reads one.
    ///
    /// # Errors
    /// If it is none, or of a format that is not known.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let label: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let sum = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if label.manifest.format != FORMAT {
            return Err(format!("its format is {}, and {FORMAT} is known", label.manifest.format));
        }
        if sum(&label.sha256) { Ok(label) } else { Err("its checksum is none".to_owned()) }
    }

    /// As it is written.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, String> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        Ok([json, b"\n".to_vec()].concat())
    }
}

/// The file of a bundle.
pub(super) fn bundle_file(name: &BackupName, encrypted: bool) -> String {
    format!("{name}.tar{}", if encrypted { ".age" } else { "" })
}

/// The file of a label.
pub(super) fn label_file(name: &BackupName) -> String {
    format!("{name}.json")
}

/// The file of a checksum, as sha256sum(1) reads it.
pub(super) fn sum_file(bundle: &str) -> String {
    format!("{bundle}.sha256")
}

#[cfg(test)]
pub(super) mod made {
    use std::collections::BTreeMap;

    use super::*;

    /// A label of a backup of `prod` that was taken at this second.
    pub(crate) fn label(seconds: u64, size: u64, sha256: &str) -> Label {
        let name = BackupName { cluster: "prod".to_owned(), seconds, revision: 7 };
        let contents = Contents {
            revision: 7,
            keys: 1,
            hash: 42,
            digest: "d".repeat(64),
            prefixes: BTreeMap::from([("/registry/pods/".to_owned(), 1)]),
            sample: Some("/registry/pods/x".to_owned()),
        };
        let manifest = Manifest {
            format: FORMAT,
            taken: super::super::clock::rfc3339(seconds),
            name,
            host: "e1".to_owned(),
            cluster_id: "abc".to_owned(),
            etcd_version: "3.4.23".to_owned(),
            kubernetes_version: "v1.34.2".to_owned(),
            members: vec![],
            contents,
            parts: vec![],
            missing: vec![],
        };
        Label { size, sha256: sha256.to_owned(), encrypted: false, manifest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written_and_others_refused() {
        let label = made::label(1_796_104_859, 9, &"a".repeat(64));
        assert_eq!(label.file(), "prod-20261201T060059Z-r7.tar");
        let json = label.to_json().unwrap();
        assert_eq!(Label::parse(&json), Ok(label.clone()));
        let mut later = label.clone();
        later.manifest.format = 2;
        let refused = Label::parse(&later.to_json().unwrap()).unwrap_err();
        assert_eq!(refused, "its format is 2, and 1 is known");
        let short = Label { sha256: "abc".to_owned(), ..label };
        assert_eq!(Label::parse(&short.to_json().unwrap()).unwrap_err(), "its checksum is none");
        assert!(Label::parse(&json[..100]).is_err());
    }
}
