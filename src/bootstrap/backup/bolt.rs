//! Reads the file of etcd's database, as bbolt writes it, without etcd: what a snapshot holds can be
//! told wherever it lies, and no page of a damaged one leads astray.

pub(in crate::bootstrap) mod format;

use std::io;

use format::{
    BRANCH, BUCKET, ELEMENT, HEAD, IS_BUCKET, LEAF, META_LEN, sound_meta, u16_at, u32_at, u64_at,
};

/// A tree of pages that is deeper is none: 50 levels would take more keys than there are atoms.
const DEPTH: usize = 50;

/// Where the bytes of a database come from.
pub trait Source {
    /// Fills the buffer with what begins at this offset.
    ///
    /// # Errors
    /// If it cannot be read, or ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BoltError {
    /// The file cannot be read.
    #[error("cannot read the database: {0}")]
    Io(#[from] io::Error),
    /// It is no database, or a damaged one.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
}

/// A database.
#[derive(Debug)]
pub struct Database<'a, S: Source + ?Sized> {
    source: &'a S,
    page_size: u64,
    root: u64,
    /// The number of the first page that was never used.
    end: u64,
}

/// What a walk is told of: each bucket of the root, and each key and value in it, in their order.
pub trait Visitor {
    /// A bucket begins.
    fn bucket(&mut self, name: &[u8]);
    /// A key and its value in the bucket that began last.
    fn entry(&mut self, key: &[u8], value: &[u8]);
}

/// A meta page: page size, root, end, transaction.
#[derive(Clone, Copy, Debug)]
struct Meta {
    page_size: u64,
    root: u64,
    end: u64,
    transaction: u64,
}

impl Meta {
    /// Reads the meta page that begins here; none if it is not one, or its checksum does not fit.
    fn parse(page: &[u8]) -> Option<Self> {
        let meta = sound_meta(page)?;
        Some(Self {
            page_size: u64::from(u32_at(meta, 8)?),
            root: u64_at(meta, 16)?,
            end: u64_at(meta, 40)?,
            transaction: u64_at(meta, 48)?,
        })
    }
}

impl<'a, S: Source + ?Sized> Database<'a, S> {
    /// Opens a database by its newer meta page.
    ///
    /// # Errors
    /// If it cannot be read, or has no sound meta page.
    pub fn open(source: &'a S) -> Result<Self, BoltError> {
        let mut page = [0; HEAD + META_LEN];
        source.read_at(&mut page, 0)?;
        let first = Meta::parse(&page);
        // Without the first, the second lies behind a page of some usual size.
        let sizes = match first {
            Some(meta) => vec![meta.page_size],
            None => (9..=16).map(|shift| 1 << shift).collect(),
        };
        let second = sizes.into_iter().find_map(|size| {
            source.read_at(&mut page, size).ok()?;
            Meta::parse(&page).filter(|meta| meta.page_size == size)
        });
        let newer = first.into_iter().chain(second).max_by_key(|meta| meta.transaction);
        let meta = newer.ok_or(BoltError::Damaged("it has no sound meta page"))?;
        let Meta { page_size, root, end, .. } = meta;
        Ok(Self { source, page_size, root, end })
    }

    /// Goes through all buckets of the root and all that is in them.
    ///
    /// # Errors
    /// If a page cannot be read or is none. What was visited until then was there.
    pub fn walk(&self, visitor: &mut dyn Visitor) -> Result<(), BoltError> {
        let mut buckets = Vec::new();
        self.tree(self.root, 0, &mut |flags, key, value| {
            if flags & IS_BUCKET == 0 {
                return Err(BoltError::Damaged("its root holds more than buckets"));
            }
            buckets.push((key.to_vec(), value.to_vec()));
            Ok(())
        })?;
        for (name, value) in buckets {
            visitor.bucket(&name);
            let mut entry = |flags: u32, key: &[u8], value: &[u8]| {
                if flags & IS_BUCKET != 0 {
                    return Err(BoltError::Damaged("a bucket of it holds buckets"));
                }
                visitor.entry(key, value);
                Ok(())
            };
            let root =
                u64_at(&value, 0).ok_or(BoltError::Damaged("the head of a bucket is cut"))?;
            if root == 0 {
                let page = value.get(BUCKET..).unwrap_or_default();
                self.page(page, 0, &mut entry)?;
            } else {
                self.tree(root, 0, &mut entry)?;
            }
        }
        Ok(())
    }

    fn tree(&self, number: u64, depth: usize, entry: &mut Entry<'_>) -> Result<(), BoltError> {
        if depth > DEPTH {
            return Err(BoltError::Damaged("its pages lead in a circle"));
        }
        let page = self.load(number)?;
        self.page(&page, depth, entry)
    }

    /// A page with those that it overflows into.
    fn load(&self, number: u64) -> Result<Vec<u8>, BoltError> {
        let outside = BoltError::Damaged("a page lies outside of it");
        if number < 2 || number >= self.end {
            return Err(outside);
        }
        let offset = number.checked_mul(self.page_size);
        let Some(offset) = offset else { return Err(outside) };
        let mut head = [0; HEAD];
        self.source.read_at(&mut head, offset)?;
        if u64_at(&head, 0) != Some(number) {
            return Err(BoltError::Damaged("a page has another page's number"));
        }
        let overflow = u64::from(u32_at(&head, 12).unwrap_or_default());
        if overflow >= self.end - number {
            return Err(outside);
        }
        // No page is larger than etcd's largest request by much: 1 GiB is far beyond all of them.
        let len = (overflow + 1) * self.page_size;
        let len = usize::try_from(len).ok().filter(|len| *len <= 1 << 30).ok_or(outside)?;
        let mut page = vec![0; len];
        self.source.read_at(&mut page, offset)?;
        Ok(page)
    }

    fn page(&self, page: &[u8], depth: usize, entry: &mut Entry<'_>) -> Result<(), BoltError> {
        let cut = || BoltError::Damaged("a page is cut");
        let flags = u16_at(page, 8).ok_or_else(cut)?;
        let count = usize::from(u16_at(page, 10).ok_or_else(cut)?);
        for index in 0..count {
            let at = HEAD + index * ELEMENT;
            if flags & BRANCH != 0 {
                let child = u64_at(page, at + 8).ok_or_else(cut)?;
                self.tree(child, depth + 1, entry)?;
            } else if flags & LEAF != 0 {
                let field = |field: usize| u32_at(page, at + 4 * field).ok_or_else(cut);
                let (flags, start) = (field(0)?, at + field(1)? as usize);
                let (key, value) = (field(2)? as usize, field(3)? as usize);
                let bytes = page.get(start..start.saturating_add(key).saturating_add(value));
                let (key, value) = bytes.ok_or_else(cut)?.split_at(key);
                entry(flags, key, value)?;
            } else {
                return Err(BoltError::Damaged("a page of its tree is of another kind"));
            }
        }
        Ok(())
    }
}

/// What is done with an element of a leaf: its flags, key and value.
type Entry<'e> = dyn FnMut(u32, &[u8], &[u8]) -> Result<(), BoltError> + 'e;

#[cfg(test)]
pub(in crate::bootstrap) mod made {
    //! For tests: a database with one page a bucket.

    use super::format::{BRANCH, ELEMENT, HEAD, IS_BUCKET, LEAF, MAGIC, META, VERSION, fnv};

    /// The size of a page.
    pub(in crate::bootstrap) const PAGE: usize = 4096;

    fn head(number: u64, flags: u16, count: usize) -> Vec<u8> {
        let count = u16::try_from(count).unwrap().to_le_bytes();
        [&number.to_le_bytes()[..], &flags.to_le_bytes(), &count, &[0; 4]].concat()
    }

    fn whole(mut page: Vec<u8>) -> Vec<u8> {
        assert!(page.len() <= PAGE);
        page.resize(PAGE, 0);
        page
    }

    fn meta(number: u64, root: u64, end: u64) -> Vec<u8> {
        let mut meta = Vec::new();
        for word in [MAGIC, VERSION, 4096, 0] {
            meta.extend(word.to_le_bytes());
        }
        for word in [root, 0, u64::MAX, end, number] {
            meta.extend(word.to_le_bytes());
        }
        let sum = fnv(&meta);
        meta.extend(sum.to_le_bytes());
        whole([head(number, META, 0), meta].concat())
    }

    fn leaf(number: u64, flag: u32, entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut page = head(number, LEAF, entries.len());
        let mut data = Vec::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let element = HEAD + index * ELEMENT;
            let at = HEAD + entries.len() * ELEMENT + data.len() - element;
            for word in [flag as usize, at, key.len(), value.len()] {
                page.extend(u32::try_from(word).unwrap().to_le_bytes());
            }
            data.extend([key.clone(), value.clone()].concat());
        }
        page.extend(data);
        page
    }

    /// The name of a bucket, and its keys with their values.
    type Bucket<'a> = (&'a str, Vec<(Vec<u8>, Vec<u8>)>);

    /// A database of these buckets. The first has a branch above its leaf; the last lies in the root.
    pub(in crate::bootstrap) fn database(buckets: &[Bucket<'_>]) -> Vec<u8> {
        let end = 4 + buckets.len() as u64;
        let mut pages = vec![meta(0, 2, end), meta(1, 2, end), Vec::new()];
        let mut roots = Vec::new();
        for (index, (name, entries)) in buckets.iter().enumerate() {
            let number = pages.len() as u64;
            let mut root = number;
            if index + 1 == buckets.len() {
                let inline = [vec![0; 16], leaf(0, 0, entries)].concat();
                roots.push((name.as_bytes().to_vec(), inline));
                pages.push(vec![0; PAGE]);
                continue;
            }
            pages.push(whole(leaf(number, 0, entries)));
            if index == 0 {
                root = pages.len() as u64;
                let element = [&[0; 8][..], &number.to_le_bytes()].concat();
                pages.push(whole([head(root, BRANCH, 1), element].concat()));
            }
            let bucket = [root.to_le_bytes(), [0; 8]].concat();
            roots.push((name.as_bytes().to_vec(), bucket));
        }
        pages[2] = whole(leaf(2, IS_BUCKET, &roots));
        pages.concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Visitor for Seen {
        fn bucket(&mut self, name: &[u8]) {
            self.0.push(format!("[{}]", String::from_utf8_lossy(name)));
        }
        fn entry(&mut self, key: &[u8], value: &[u8]) {
            let [key, value] = [key, value].map(String::from_utf8_lossy);
            self.0.push(format!("{key}={value}"));
        }
    }

    fn sample() -> Vec<u8> {
        let entry = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        made::database(&[
            ("key", vec![entry("a", "1"), entry("b", "2")]),
            ("lease", vec![]),
            ("meta", vec![entry("term", "7")]),
        ])
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, BoltError> {
        let mut seen = Seen::default();
        Database::open(bytes)?.walk(&mut seen)?;
        Ok(seen.0)
    }

    #[test]
    fn branches_leaves_and_buckets_in_the_root_are_read() {
        let all = ["[key]", "a=1", "b=2", "[lease]", "[meta]", "term=7"];
        assert_eq!(read(&sample()).unwrap(), all);
    }

    #[test]
    fn one_sound_meta_page_suffices() {
        let mut bytes = sample();
        bytes[20] ^= 1;
        assert_eq!(read(&bytes).unwrap().len(), 6);
        bytes[made::PAGE + 20] ^= 1;
        assert!(matches!(read(&bytes), Err(BoltError::Damaged("it has no sound meta page"))));
    }

    #[test]
    fn what_is_cut_is_told() {
        let bytes = sample();
        assert!(read(&bytes[..2 * made::PAGE]).is_err());
        assert!(read(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_damage_leads_astray(changes in prop::collection::vec((0..6 * made::PAGE, any::<u8>()), 1..40)) {
            let mut bytes = sample();
            for (at, byte) in changes {
                let len = bytes.len();
                bytes[at % len] = byte;
            }
            // Whatever is found, it is found.
            let _ = read(&bytes);
        }
    }
}
