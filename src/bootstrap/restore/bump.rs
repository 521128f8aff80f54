//! Makes the revision of a restored database greater and marks all older ones as compacted, as
//! `etcdutl snapshot restore --bump-revision --mark-compacted` does: for etcd's tools that cannot.
//!
//! What is written is what etcd itself leaves when a key is deleted at the new revision and a compaction
//! up to it was asked for but not carried out: etcd carries it out when it starts (etcd: mvcc/kvstore.go,
//! `restore`). The changed pages are written behind the others and the old ones are left to bbolt, which
//! finds them free. The file must be nobody else's: one that is cut off half way is thrown away.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::page::{Entry, Meta, Page};
use crate::bootstrap::backup::bolt::BoltError;
use crate::bootstrap::backup::bolt::format::{BUCKET, IS_BUCKET};

/// By how much the revision grows: more than a cluster writes between two backups, and what etcd's
/// documentation recommends (<https://etcd.io/docs/v3.6/op-guide/recovery/>).
pub const BUMP: i64 = 1_000_000_000;

/// The key that is deleted at the new revision. It was never there.
const DELETED: &[u8] = b"apiproxy/restored";

/// Up to where a compaction was asked for (etcd: mvcc/kvstore.go, `scheduledCompactKeyName`).
const SCHEDULED: &[u8] = b"scheduledCompactRev";

/// Why it cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum BumpError {
    /// The database cannot be read.
    #[error(transparent)]
    Bolt(#[from] BoltError),
    /// It cannot be written.
    #[error("cannot write the database: {0}")]
    Io(#[from] io::Error),
    /// It is not built as etcd's are.
    #[error("the database is not built as etcd's are: {0}")]
    Foreign(&'static str),
}

/// A database that is being changed.
struct Changing {
    file: File,
    page_size: u64,
    /// The number of the first page that was never used.
    end: u64,
}

impl Changing {
    fn load(&self, number: u64) -> Result<Page, BumpError> {
        Ok(Page::read(&self.file, self.page_size, self.end, number)?)
    }

    /// Writes a page behind all others; its number.
    fn append(&mut self, page: &Page) -> Result<u64, BumpError> {
        let number = self.end;
        let bytes = page.to_bytes(number, self.page_size)?;
        self.file.write_all_at(&bytes, number * self.page_size)?;
        self.end += bytes.len() as u64 / self.page_size;
        Ok(number)
    }

    /// Adds an entry behind all others of the tree that begins here; the number of its root from then on.
    fn push(&mut self, root: u64, entry: Entry) -> Result<u64, BumpError> {
        let mut page = self.load(root)?;
        if page.is_leaf() {
            page.entries.push(entry);
        } else {
            let child = page.entries.last().map(|last| last.child);
            let child = child.ok_or(BumpError::Foreign("an empty branch"))?;
            let new = self.push(child, entry)?;
            page.entries.last_mut().into_iter().for_each(|last| last.child = new);
        }
        self.append(&page)
    }

    /// The last key of the tree that begins here.
    fn last(&self, root: u64) -> Result<Option<Vec<u8>>, BumpError> {
        let mut page = self.load(root)?;
        while !page.is_leaf() {
            let child = page.entries.last().map(|last| last.child);
            page = self.load(child.ok_or(BumpError::Foreign("an empty branch"))?)?;
        }
        Ok(page.entries.pop().map(|last| last.key))
    }
}

/// Main and sub as etcd writes them.
fn revision(main: i64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &[0; 8]].concat()
}

fn main_of(bytes: &[u8]) -> i64 {
    bytes.first_chunk().map_or(0, |main| i64::from_be_bytes(*main))
}

/// Makes the revision greater by this; the new one.
///
/// # Errors
/// If the database cannot be read or written, or is not etcd's.
pub fn bump(database: &Path, by: i64) -> Result<i64, BumpError> {
    let file = OpenOptions::new().read(true).write(true).open(database)?;
    let meta = Meta::newest(&file)?;
    let (page_size, end) = (meta.page_size(), meta.end());
    let mut changing = Changing { file, page_size, end };
    let mut top = changing.load(meta.root())?;
    if !top.is_leaf() {
        return Err(BumpError::Foreign("its root is no leaf"));
    }
    let place = |top: &Page, name: &[u8]| {
        let found = top.entries.iter().position(|e| e.key == name && e.flags & IS_BUCKET != 0);
        found.ok_or(BumpError::Foreign("a bucket is missing"))
    };
    let [keys, notes] = [place(&top, b"key")?, place(&top, b"meta")?];

    // The revision is that of the last change, or that up to which was compacted if that is greater.
    let mut told = bucket(&changing, &top.entries[notes].value)?;
    let compacted = told.entries.iter().filter(|entry| entry.key.ends_with(b"CompactRev"));
    let compacted = compacted.map(|entry| main_of(&entry.value)).max().unwrap_or_default();
    let last = match bucket_root(&top.entries[keys].value)? {
        0 => bucket(&changing, &top.entries[keys].value)?.entries.pop().map(|last| last.key),
        root => changing.last(root)?,
    };
    let old = last.map_or(1, |key| main_of(&key)).max(compacted);
    let new = old.checked_add(by).ok_or(BumpError::Foreign("its revision is too great"))?;

    let length = u8::try_from(DELETED.len()).unwrap_or_default();
    let entry = Entry {
        flags: 0,
        key: [revision(new), b"t".to_vec()].concat(),
        value: [&[0x0a, length][..], DELETED].concat(),
        child: 0,
    };
    let grown = match bucket_root(&top.entries[keys].value)? {
        0 => {
            let mut page = bucket(&changing, &top.entries[keys].value)?;
            page.entries.push(entry);
            changing.append(&page)?
        }
        root => changing.push(root, entry)?,
    };
    set_root(&mut top.entries[keys].value, grown);

    let scheduled = Entry { flags: 0, key: SCHEDULED.to_vec(), value: revision(new), child: 0 };
    match told.entries.binary_search_by(|entry| entry.key.as_slice().cmp(SCHEDULED)) {
        Ok(at) => told.entries[at] = scheduled,
        Err(at) => told.entries.insert(at, scheduled),
    }
    let told = changing.append(&told)?;
    set_root(&mut top.entries[notes].value, told);

    let root = changing.append(&top)?;
    let Changing { file, end, .. } = changing;
    file.set_len(end * page_size)?;
    file.sync_all()?;
    meta.next(root, end).write(&file)?;
    file.sync_all()?;
    Ok(new)
}

fn bucket_root(value: &[u8]) -> Result<u64, BumpError> {
    let root = value.first_chunk().map(|root| u64::from_le_bytes(*root));
    root.ok_or(BumpError::Foreign("the head of a bucket is cut"))
}

/// From here on it has pages of its own.
fn set_root(value: &mut Vec<u8>, root: u64) {
    value.truncate(BUCKET);
    value[..8].copy_from_slice(&root.to_le_bytes());
}

/// The only page of a small bucket.
fn bucket(changing: &Changing, value: &[u8]) -> Result<Page, BumpError> {
    let page = match bucket_root(value)? {
        0 => Page::parse(value.get(BUCKET..).unwrap_or_default())?,
        root => changing.load(root)?,
    };
    if page.is_leaf() { Ok(page) } else { Err(BumpError::Foreign("a bucket is too large")) }
}

#[cfg(test)]
mod tests {
    use super::super::super::backup::Contents;
    use super::super::super::backup::bolt::made;
    use super::*;

    /// An entry of the bucket of keys as etcd writes it.
    fn put(main: i64, key: &str) -> (Vec<u8>, Vec<u8>) {
        let length = u8::try_from(key.len()).unwrap();
        (revision(main), [&[0x0a, length][..], key.as_bytes(), b"\x2a\x01v"].concat())
    }

    fn bumped(keys: Vec<(Vec<u8>, Vec<u8>)>, notes: Vec<(Vec<u8>, Vec<u8>)>) -> (i64, Contents) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::write(&path, made::database(&[("key", keys), ("meta", notes)])).unwrap();
        let new = bump(&path, BUMP).unwrap();
        let contents = Contents::of(&File::open(&path).unwrap()).unwrap();
        // Both meta pages stay sound, and it can be done again.
        assert_eq!(bump(&path, 1).unwrap(), new + 1);
        (new, contents)
    }

    #[test]
    fn the_revision_grows_and_no_key_changes() {
        let keys = || vec![put(2, "a"), put(3, "b"), put(7, "a")];
        let before = {
            let database = made::database(&[("key", keys()), ("meta", vec![])]);
            Contents::of(database.as_slice()).unwrap()
        };
        let (new, after) = bumped(keys(), vec![]);
        assert_eq!((new, after.revision), (BUMP + 7, BUMP + 7));
        assert_eq!((after.keys, after.digest), (before.keys, before.digest));
    }

    #[test]
    fn what_was_compacted_counts() {
        let notes = vec![(b"finishedCompactRev".to_vec(), revision(90))];
        assert_eq!(bumped(vec![put(2, "a")], notes).0, BUMP + 90);
        assert_eq!(bumped(vec![], vec![]).0, BUMP + 1);
    }

    #[test]
    fn another_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for bytes in [made::database(&[("key", vec![]), ("other", vec![])]), vec![0; 20_000]] {
            std::fs::write(&path, &bytes).unwrap();
            assert!(bump(&path, BUMP).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
