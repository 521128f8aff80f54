//! All backups of a cluster, wherever they lie, as the operator's machine sees them: over ssh, or in a
//! bucket that it asks itself, so that it needs none of the hosts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;

use super::bucket::{Bucket, BucketError, BucketSettings};
use super::depot::Stored;
use super::manifest::Label;
use super::name::BackupName;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::spec::Cluster;
use crate::bootstrap::transport::Command;

/// Where copies lie on a host that gets them.
pub const COPIES: &str = "/var/lib/apiproxy-backup/copies";

/// How long a host may take to say what it has.
const LIST: Duration = Duration::from_mins(1);

/// How long it may take to read all of it.
const EXAMINE: Duration = Duration::from_hours(1);

/// How much of a bundle is fetched at once.
const CHUNK: u64 = 16 << 20;

/// A folder of backups on a host, or a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The host's name in the spec, or the bucket's as `s3://NAME`.
    pub host: String,
    /// The folder, or what keys begin with.
    pub folder: String,
    /// The bucket, if it is one.
    #[serde(skip)]
    pub bucket: Option<BucketSettings>,
}

impl Place {
    /// A folder on a host.
    fn on(host: &str, folder: &str) -> Self {
        Self { host: host.to_owned(), folder: folder.to_owned(), bucket: None }
    }
}

/// The folders in which backups of a cluster should lie; none if it has no backups.
pub fn places(cluster: &Cluster) -> Vec<Place> {
    let Some(backup) = &cluster.etcd.backup else { return Vec::new() };
    let taken = cluster.etcd_hosts().map(|host| Place::on(&host.name, &backup.directory));
    let copies = backup.copy_to.iter().map(|host| Place::on(host, COPIES));
    let bucket = backup.s3.iter().map(|s3| {
        let settings = BucketSettings::from(s3);
        Place { host: settings.to_string(), folder: s3.prefix.clone(), bucket: Some(settings) }
    });
    taken.chain(copies).chain(bucket).collect()
}

/// Where hosts of etcd have what they got before they took a place, if it is spares that get copies.
pub fn of_former_spares(cluster: &Cluster) -> Vec<Place> {
    let to_spares = cluster.etcd.backup.as_ref().is_some_and(|backup| backup.to_spares);
    let hosts = cluster.etcd_hosts().filter(|_| to_spares);
    hosts.map(|host| Place::on(&host.name, COPIES)).collect()
}

/// Where a host that was part of the cluster may have backups.
pub fn of_host(cluster: &Cluster, name: &str) -> Vec<Place> {
    let Some(backup) = &cluster.etcd.backup else { return Vec::new() };
    let place =
        |folder: &str| Place { host: name.to_owned(), folder: folder.to_owned(), bucket: None };
    vec![place(&backup.directory), place(COPIES)]
}

/// A copy of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// Where it lies.
    #[serde(flatten)]
    pub place: Place,
    /// How it is.
    #[serde(skip)]
    pub stored: Stored,
    /// `intact` when it was read, `there` when it was not, or what is wrong with it.
    pub state: String,
}

impl Copy {
    /// Is nothing known against it? What is in it is compared when it is fetched.
    pub fn is_usable(&self) -> bool {
        self.stored.fault.is_none() && self.stored.label.is_some()
    }
}

/// How closely copies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth<'a> {
    /// By their labels alone.
    Labels,
    /// All are read; of a bucket only those of this name, if one is given.
    Everything(Option<&'a BackupName>),
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Each backup with its copies.
    pub backups: BTreeMap<BackupName, Vec<Copy>>,
    /// Places that gave no answer, with why.
    pub silent: Vec<(Place, String)>,
}

impl Fleet {
    /// Asks all places.
    pub async fn survey(cx: &Context, cluster: &str, places: &[Place], depth: Depth<'_>) -> Self {
        let asked = places.iter().map(|place| inventory(cx, cluster, place, depth));
        let mut fleet = Self::default();
        for (place, answer) in places.iter().zip(join_all(asked).await) {
            match answer {
                Ok(all) => fleet.add(place, all),
                Err(error) => fleet.silent.push((place.clone(), error)),
            }
        }
        fleet
    }

    fn add(&mut self, place: &Place, all: Vec<Stored>) {
        for stored in all {
            let state = match &stored.fault {
                Some(fault) => fault.clone(),
                None if stored.examined => "intact".to_owned(),
                None => "there".to_owned(),
            };
            let name = stored.name.clone();
            let copy = Copy { place: place.clone(), stored, state };
            self.backups.entry(name).or_default().push(copy);
        }
    }

    /// The copies that nothing is known against of a backup, or of the newest that has such copies and is
    /// whole.
    pub fn good(&self, name: Option<&BackupName>) -> Option<(&BackupName, Vec<&Copy>)> {
        let sound = |copies: &'_ [Copy]| copies.iter().any(|copy| copy.stored.is_good());
        let found = match name {
            Some(name) => self.backups.get_key_value(name),
            None => self
                .backups
                .iter()
                .rev()
                .find(|(name, copies)| sound(copies) && !name.is_ahead(SystemTime::now())),
        };
        let (name, copies) = found?;
        Some((name, copies.iter().filter(|copy| copy.stored.fault.is_none()).collect()))
    }
}

/// What a backup says of itself: the label of a copy that has one.
pub fn label(copies: &[Copy]) -> Option<&Label> {
    copies.iter().find_map(|copy| copy.stored.label.as_ref())
}

async fn inventory(
    cx: &Context,
    cluster: &str,
    place: &Place,
    depth: Depth<'_>,
) -> Result<Vec<Stored>, String> {
    if let Some(settings) = &place.bucket {
        return in_bucket(settings, cluster, depth).await;
    }
    let examine = depth != Depth::Labels;
    let mut words = vec![PROXY_PROGRAM, "bootstrap", "etcd", "inventory", "--directory"];
    words.push(&place.folder);
    words.extend(examine.then_some("--examine"));
    let limit = if examine { EXAMINE } else { LIST };
    let output = cx.run(&place.host, &Command::new(words).timeout(limit)).await;
    let output = output.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        format!("{}: what its apiproxy printed cannot be read: {error}", place.host)
    })
}

async fn in_bucket(
    settings: &BucketSettings,
    cluster: &str,
    depth: Depth<'_>,
) -> Result<Vec<Stored>, String> {
    let (settings, cluster) = (settings.clone(), cluster.to_owned());
    let (all, chosen) = match depth {
        Depth::Everything(chosen) => (chosen.is_none(), chosen.cloned()),
        Depth::Labels => (false, None),
    };
    let ask = move || {
        let bucket = Bucket::open(&settings)?;
        let look = |one: Stored| {
            let examine = all || chosen.as_ref() == Some(&one.name);
            if examine { bucket.examine(one) } else { one }
        };
        Ok(bucket.list(&cluster)?.into_iter().map(look).collect())
    };
    let asked = tokio::task::spawn_blocking(ask).await.map_err(|error| error.to_string())?;
    asked.map_err(|error: BucketError| error.to_string())
}

/// Why a bundle was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host did not give it.
    #[error(transparent)]
    Host(#[from] StepError),
    /// The bucket did not give it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// It cannot be written here.
    #[error("cannot write it here: {0}")]
    Io(#[from] std::io::Error),
    /// The host gave less than there should be.
    #[error("{host} gave {got} of {size} bytes")]
    Cut {
        /// The host.
        host: String,
        /// The bytes that came.
        got: u64,
        /// The bytes that should have come.
        size: u64,
    },
}

/// Fetches a bundle, from a host piece by piece. Whoever reads it checks it; what comes from a bucket is
/// compared with its checksum here, as nobody has read it there.
///
/// # Errors
/// If it does not come as a whole.
pub async fn fetch(
    cx: &Context,
    place: &Place,
    label: &Label,
    to: &Path,
) -> Result<(), FetchError> {
    if let Some(settings) = &place.bucket {
        let (settings, label, to) = (settings.clone(), label.clone(), to.to_owned());
        let ask = move || Bucket::open(&settings)?.fetch(&label, &to);
        let fetched = tokio::task::spawn_blocking(ask).await.map_err(std::io::Error::other)?;
        return Ok(fetched?);
    }
    let path = format!("{}/{}", place.folder, label.file());
    fetch_file(cx, &place.host, &path, label.size, to).await
}

/// Fetches a file of this length from a host, piece by piece.
///
/// # Errors
/// If it does not come as a whole.
pub async fn fetch_file(
    cx: &Context,
    host: &str,
    path: &str,
    size: u64,
    to: &Path,
) -> Result<(), FetchError> {
    const SCRIPT: &str =
        r#"dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none"#;
    let mut out = std::fs::File::create_new(to)?;
    let mut got = 0;
    while got < size {
        let numbers = [got, CHUNK.min(size - got)].map(|number| number.to_string());
        let words = [path.to_owned()].into_iter().chain(numbers);
        let command = Command::script(SCRIPT, words).timeout(Duration::from_mins(5));
        let bytes = cx.run(host, &command).await?.stdout;
        if bytes.is_empty() {
            break;
        }
        got += bytes.len() as u64;
        out.write_all(&bytes)?;
    }
    let host = host.to_owned();
    if got == size { Ok(()) } else { Err(FetchError::Cut { host, got, size }) }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::made;
    use super::*;

    fn stored(day: u64, fault: Option<&str>, examined: bool) -> Stored {
        let label = made::label(day * 86_400, 3, &"a".repeat(64));
        Stored {
            name: label.manifest.name.clone(),
            label: Some(label),
            size: 3,
            since: day,
            examined,
            fault: fault.map(str::to_owned),
        }
    }

    #[test]
    fn the_newest_good_one_is_found() {
        let place =
            |host: &str| Place { host: host.to_owned(), folder: "/b".to_owned(), bucket: None };
        let mut fleet = Fleet::default();
        fleet.add(&place("e1"), vec![stored(3, Some("torn"), true), stored(1, None, true)]);
        fleet.add(&place("s1"), vec![stored(2, None, false), stored(1, Some("torn"), true)]);
        let mut partial = stored(4, None, true);
        partial.label.as_mut().unwrap().manifest.missing.push("/etc/kubernetes/pki/sa.key".into());
        fleet.add(&place("s1"), vec![partial]);
        let hosts = |name: Option<&BackupName>| {
            let (name, copies) = fleet.good(name).unwrap();
            let hosts: Vec<_> = copies.iter().map(|copy| copy.place.host.as_str()).collect();
            (name.seconds / 86_400, hosts)
        };
        assert_eq!(hosts(None), (2, vec!["s1"]));
        let names: Vec<_> = fleet.backups.keys().collect();
        assert_eq!(hosts(Some(names[0])), (1, vec!["e1"]));
        assert_eq!(hosts(Some(names[2])), (3, vec![]));
        assert_eq!(hosts(Some(names[3])), (4, vec!["s1"]), "one that is named need not be whole");
        let states = |day: usize| {
            let copies = &fleet.backups[names[day - 1]];
            copies.iter().map(|copy| copy.state.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (states(1), states(2)),
            (vec!["intact".into(), "torn".into()], vec!["there".to_owned()])
        );
    }
}
