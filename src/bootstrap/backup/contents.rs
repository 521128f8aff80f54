//! What a database of etcd holds: its revision, how many keys there are below each prefix, and checksums.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::bolt::{BoltError, Database, Source, Visitor};
use super::crc32c::Crc32c;
use crate::bootstrap::hex::hex;

/// The bucket of all revisions of all keys.
const KEY: &[u8] = b"key";

/// A revision in the bucket: main and sub, with `_` between them (etcd: mvcc/revision.go).
const REVISION: usize = 17;

/// The most prefixes that are told apart. A cluster with many kinds of objects has some hundred.
const PREFIXES: usize = 1000;

/// bbolt's files are whole sectors; a snapshot of etcd has a SHA-256 behind it.
const SECTOR: u64 = 512;
const SUM: usize = 32;

/// What is in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contents {
    /// The newest revision.
    pub revision: i64,
    /// How many keys there are.
    pub keys: u64,
    /// etcd's own checksum of a snapshot, as `etcdctl snapshot status` has it.
    pub hash: u32,
    /// SHA-256 of all keys that there are, with their values and revisions. Unlike `hash` it stays
    /// the same in a restore.
    pub digest: String,
    /// How many keys begin with each of these: `/registry/pods/`; those without a slash with nothing.
    pub prefixes: BTreeMap<String, u64>,
    /// One of the keys, for a look at an object: the last of the fullest prefix.
    pub sample: Option<String>,
}

/// Why a snapshot is no good.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It is cut or changed.
    #[error("the snapshot is torn: {0}")]
    Torn(&'static str),
    /// Its database cannot be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
}

impl From<std::io::Error> for ContentsError {
    fn from(error: std::io::Error) -> Self {
        Self::Bolt(error.into())
    }
}

/// Is a snapshot what etcd sent? It puts a SHA-256 behind it.
///
/// # Errors
/// If it is torn, or cannot be read.
pub fn check_sum(snapshot: &File) -> Result<(), ContentsError> {
    let len = snapshot.metadata()?.len();
    if len % SECTOR != SUM as u64 {
        return Err(ContentsError::Torn("its checksum is not there"));
    }
    let mut file = snapshot;
    file.seek(SeekFrom::Start(0))?;
    let mut context = Context::new(&SHA256);
    let (mut left, mut chunk) = (len - SUM as u64, vec![0; 256 << 10]);
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        file.read_exact(&mut chunk[..some])?;
        context.update(&chunk[..some]);
        left -= some as u64;
    }
    let mut told = [0; SUM];
    file.read_exact(&mut told)?;
    if context.finish().as_ref() == told {
        Ok(())
    } else {
        Err(ContentsError::Torn("its checksum does not fit"))
    }
}

impl Contents {
    /// Reads a database or a snapshot.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of<S: Source + ?Sized>(source: &S) -> Result<Self, ContentsError> {
        let database = Database::open(source)?;
        let mut first = First::default();
        database.walk(&mut first)?;
        let First { hash, revision, live, .. } = first;
        let mut contents = Self { revision, hash: hash.value(), ..Self::default() };
        // Fewer segments where there are too many prefixes of two to be of use.
        for segments in [2, 1, 0] {
            let there = live.iter().filter(|(_, last)| !last.deleted).map(|(key, _)| key);
            (contents.keys, contents.prefixes) = (0, BTreeMap::new());
            for key in there {
                contents.keys += 1;
                *contents.prefixes.entry(prefix(key, segments)).or_default() += 1;
            }
            if contents.prefixes.len() <= PREFIXES {
                break;
            }
        }
        let fullest = contents.prefixes.iter().max_by_key(|(_, count)| **count);
        if let Some((fullest, _)) = fullest {
            let there = live.iter().filter(|(_, last)| !last.deleted).map(|(key, _)| key);
            let text = there.filter_map(|key| std::str::from_utf8(key).ok());
            contents.sample = text.filter(|key| key.starts_with(fullest)).max().map(str::to_owned);
        }
        let mut second = Second { live: &live, digest: Context::new(&SHA256), here: false };
        database.walk(&mut second)?;
        contents.digest = hex(second.digest.finish().as_ref());
        Ok(contents)
    }
}

/// What a key begins with, up to so many segments: `/registry/pods/` has two.
fn prefix(key: &[u8], segments: usize) -> String {
    let text = String::from_utf8_lossy(key);
    let slashes = text.match_indices('/').map(|(at, _)| at + 1);
    match slashes.take(segments + 1).last() {
        _ if segments == 0 => String::new(),
        Some(end) => text[..end].to_owned(),
        None => String::new(),
    }
}

/// The last word on a key.
#[derive(Clone, Copy, Debug)]
struct Last {
    revision: [u8; REVISION],
    deleted: bool,
}

/// The first walk: checksum, revision, and what became of each key.
#[derive(Default)]
struct First {
    hash: Crc32c,
    here: bool,
    revision: i64,
    live: HashMap<Vec<u8>, Last>,
}

impl Visitor for First {
    fn bucket(&mut self, name: &[u8]) {
        self.hash.update(name);
        self.here = name == KEY;
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        self.hash.update(key);
        self.hash.update(value);
        let (true, Some((revision, mark))) = (self.here, key.split_at_checked(REVISION)) else {
            return;
        };
        // Both are certain: the head has the length of a revision.
        let Ok(revision) = <[u8; REVISION]>::try_from(revision) else { return };
        let Some(main) = revision.first_chunk() else { return };
        self.revision = i64::from_be_bytes(*main);
        let last = Last { revision, deleted: mark == b"t" };
        if let Some(name) = key_of(value) {
            match self.live.get_mut(name) {
                Some(known) => *known = last,
                None => drop(self.live.insert(name.to_vec(), last)),
            }
        }
    }
}

/// The second walk: a digest of what there is, in the order in which it came to be.
struct Second<'a> {
    live: &'a HashMap<Vec<u8>, Last>,
    digest: Context,
    here: bool,
}

impl Visitor for Second<'_> {
    fn bucket(&mut self, name: &[u8]) {
        self.here = name == KEY;
    }

    fn entry(&mut self, key: &[u8], value: &[u8]) {
        let last = key_of(value).filter(|_| self.here).and_then(|name| self.live.get(name));
        if last.is_some_and(|last| !last.deleted && last.revision == key) {
            for part in [key, value] {
                self.digest.update(&(part.len() as u64).to_be_bytes());
                self.digest.update(part);
            }
        }
    }
}

/// The key in an entry of the bucket: field 1 of the message `KeyValue` (etcd: mvccpb/kv.proto),
/// which etcd writes first.
fn key_of(value: &[u8]) -> Option<&[u8]> {
    let rest = value.strip_prefix(&[0x0a])?;
    let (mut len, mut shift) = (0_usize, 0);
    for (index, byte) in rest.iter().enumerate().take(5) {
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let start = index + 1;
            return rest.get(start..start.checked_add(len)?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::bolt::made;
    use super::*;

    fn put(revision: i64, key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
        let name = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
        let len = u8::try_from(key.len()).unwrap();
        (name, [&[0x0a, len], key.as_bytes(), b"\x2a", value.as_bytes()].concat())
    }

    fn delete(revision: i64, key: &str) -> (Vec<u8>, Vec<u8>) {
        let (mut name, value) = put(revision, key, "");
        name.push(b't');
        (name, value)
    }

    fn database(entries: Vec<(Vec<u8>, Vec<u8>)>, term: &str) -> Vec<u8> {
        let meta = vec![(b"term".to_vec(), term.as_bytes().to_vec())];
        made::database(&[("key", entries), ("meta", meta)])
    }

    #[test]
    fn only_the_last_word_on_a_key_counts() {
        let entries = vec![
            put(2, "/registry/pods/a/x", "1"),
            put(3, "/registry/pods/a/y", "1"),
            put(4, "/registry/pods/a/x", "2"),
            put(5, "compact_rev_key", "1"),
            put(6, "/registry/secrets/a/s", "1"),
            delete(7, "/registry/secrets/a/s"),
        ];
        let all = Contents::of(database(entries, "1").as_slice()).unwrap();
        assert_eq!((all.revision, all.keys), (7, 3));
        let prefixes = [(String::new(), 1), ("/registry/pods/".to_owned(), 2)];
        assert_eq!(all.prefixes, BTreeMap::from(prefixes));
        assert_eq!(all.sample.as_deref(), Some("/registry/pods/a/y"));
        // Compacted, and with another term: the same keys, another hash.
        let less = vec![
            put(3, "/registry/pods/a/y", "1"),
            put(4, "/registry/pods/a/x", "2"),
            put(5, "compact_rev_key", "1"),
            delete(7, "/registry/secrets/a/s"),
        ];
        let same = Contents::of(database(less.clone(), "2").as_slice()).unwrap();
        assert_eq!((&same.digest, same.revision), (&all.digest, 7));
        assert_ne!(same.hash, all.hash);
        let mut other = less;
        other[1] = put(4, "/registry/pods/a/x", "3");
        assert_ne!(Contents::of(database(other, "2").as_slice()).unwrap().digest, all.digest);
    }

    #[test]
    fn a_torn_snapshot_is_known_by_its_checksum() {
        let bytes = database(vec![put(2, "/a/b/c", "1")], "1");
        let sum = ring::digest::digest(&SHA256, &bytes);
        let file = |parts: &[&[u8]]| {
            let mut file = tempfile::tempfile().unwrap();
            for part in parts {
                file.write_all(part).unwrap();
            }
            check_sum(&file).map_err(|error| error.to_string())
        };
        assert_eq!(file(&[&bytes, sum.as_ref()]), Ok(()));
        let torn = |why: &str| Err(format!("the snapshot is torn: {why}"));
        assert_eq!(file(&[&bytes]), torn("its checksum is not there"));
        assert_eq!(file(&[&bytes[512..], sum.as_ref()]), torn("its checksum does not fit"));
        let mut flipped = bytes.clone();
        flipped[5000] ^= 1;
        assert_eq!(file(&[&flipped, sum.as_ref()]), torn("its checksum does not fit"));
    }
}
