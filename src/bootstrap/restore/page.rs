//! Pages of a database of bbolt, taken apart and put together (bbolt: page.go, db.go).

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::bootstrap::backup::bolt::BoltError;
use crate::bootstrap::backup::bolt::format::{
    self, BRANCH, ELEMENT, HEAD, LEAF, META, META_LEN, fnv, sound_meta,
};

/// A page that is longer is none: 1 GiB is far beyond etcd's largest request.
const LONGEST: u64 = 1 << 30;

fn damaged(what: &'static str) -> BoltError {
    BoltError::Damaged(what)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, BoltError> {
    format::u16_at(bytes, at).ok_or(damaged("a page is cut"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BoltError> {
    format::u32_at(bytes, at).ok_or(damaged("a page is cut"))
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, BoltError> {
    format::u64_at(bytes, at).ok_or(damaged("a page is cut"))
}

/// The newer of the two meta pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta(Vec<u8>);

impl Meta {
    fn parse(page: &[u8]) -> Option<Self> {
        sound_meta(page).map(|meta| Self(meta.to_vec()))
    }

    /// Reads it. Both have to be sound, as they are where nobody was cut off.
    pub(super) fn newest(file: &File) -> Result<Self, BoltError> {
        let mut page = [0; HEAD + META_LEN];
        file.read_exact_at(&mut page, 0)?;
        let first = Self::parse(&page).ok_or(damaged("it has no sound meta page"))?;
        file.read_exact_at(&mut page, first.page_size())?;
        let second = Self::parse(&page).ok_or(damaged("it has no sound meta page"))?;
        Ok(if second.number(48) > first.number(48) { second } else { first })
    }

    fn number(&self, at: usize) -> u64 {
        u64_at(&self.0, at).unwrap_or_default()
    }

    pub(super) fn page_size(&self) -> u64 {
        u64::from(u32_at(&self.0, 8).unwrap_or_default())
    }

    pub(super) fn root(&self) -> u64 {
        self.number(16)
    }

    /// The number of the first page that was never used.
    pub(super) fn end(&self) -> u64 {
        self.number(40)
    }

    /// The one that follows it, with this root and this end.
    pub(super) fn next(&self, root: u64, end: u64) -> Self {
        let mut meta = self.clone();
        let transaction = self.number(48) + 1;
        for (at, number) in [(16, root), (40, end), (48, transaction)] {
            meta.0[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = fnv(&meta.0[..56]);
        meta.0[56..64].copy_from_slice(&sum.to_le_bytes());
        meta
    }

    /// Writes it where the older one is.
    pub(super) fn write(&self, file: &File) -> std::io::Result<()> {
        let slot = self.number(48) % 2;
        let head = [&slot.to_le_bytes()[..], &META.to_le_bytes(), &[0; 6]].concat();
        file.write_all_at(&[&head[..], &self.0].concat(), slot * self.page_size())
    }
}

/// An entry of a page: of a leaf with flags and a value, of a branch with a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) flags: u32,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) child: u64,
}

/// A page of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    kind: u16,
    pub(super) entries: Vec<Entry>,
}

impl Page {
    /// Reads the page of this number, with those that it overflows into.
    pub(super) fn read(file: &File, size: u64, end: u64, number: u64) -> Result<Self, BoltError> {
        let outside = || damaged("a page lies outside of it");
        if number < 2 || number >= end {
            return Err(outside());
        }
        let offset = number.checked_mul(size).ok_or_else(outside)?;
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, offset)?;
        let overflow = u64::from(u32_at(&head, 12)?);
        if u64_at(&head, 0)? != number || overflow >= end - number {
            return Err(outside());
        }
        let length = (overflow + 1) * size;
        let length = usize::try_from(length).ok().filter(|_| length <= LONGEST);
        let mut page = vec![0; length.ok_or_else(outside)?];
        file.read_exact_at(&mut page, offset)?;
        Self::parse(&page)
    }

    /// Takes a page apart.
    pub(super) fn parse(page: &[u8]) -> Result<Self, BoltError> {
        let (kind, count) = (u16_at(page, 8)?, usize::from(u16_at(page, 10)?));
        let part = |start: usize, length: usize| {
            let part = page.get(start..start.saturating_add(length));
            part.map(<[u8]>::to_vec).ok_or(damaged("a page is cut"))
        };
        let mut entries = Vec::with_capacity(count);
        for at in (0..count).map(|index| HEAD + index * ELEMENT) {
            let field = |field: usize| u32_at(page, at + 4 * field).map(|value| value as usize);
            entries.push(match kind {
                BRANCH => Entry {
                    key: part(at + field(0)?, field(1)?)?,
                    child: u64_at(page, at + 8)?,
                    ..Entry::default()
                },
                LEAF => {
                    let (start, key) = (at + field(1)?, field(2)?);
                    let value = part(start + key, field(3)?)?;
                    Entry { flags: u32_at(page, at)?, key: part(start, key)?, value, child: 0 }
                }
                _ => return Err(damaged("a page of its tree is of another kind")),
            });
        }
        if kind == BRANCH || kind == LEAF {
            Ok(Self { kind, entries })
        } else {
            Err(damaged("a page of its tree is of another kind"))
        }
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.kind == LEAF
    }

    /// Puts it together as the page of this number: whole pages of this size.
    pub(super) fn to_bytes(&self, number: u64, size: u64) -> Result<Vec<u8>, BoltError> {
        let long = |_| damaged("a page is too long");
        let count = u16::try_from(self.entries.len()).map_err(long)?;
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (index, entry) in self.entries.iter().enumerate() {
            let from = HEAD + index * ELEMENT;
            let start = HEAD + self.entries.len() * ELEMENT + data.len() - from;
            let word = |number: usize| u32::try_from(number).map_err(long);
            let (start, key, value) =
                (word(start)?, word(entry.key.len())?, word(entry.value.len())?);
            let words = [entry.flags, start, key, value].map(u32::to_le_bytes);
            if self.kind == LEAF {
                elements.extend(words.concat());
            } else {
                elements.extend([words[1], words[2]].concat());
                elements.extend(entry.child.to_le_bytes());
            }
            data.extend_from_slice(&entry.key);
            data.extend_from_slice(&entry.value);
        }
        let length = (HEAD + elements.len() + data.len()) as u64;
        let pages = length.div_ceil(size);
        let overflow = u32::try_from(pages - 1).map_err(long)?.to_le_bytes();
        let head =
            [&number.to_le_bytes()[..], &self.kind.to_le_bytes(), &count.to_le_bytes(), &overflow];
        let mut bytes = [head.concat(), elements, data].concat();
        bytes.resize(usize::try_from(pages * size).map_err(|_| damaged("a page is too long"))?, 0);
        Ok(bytes)
    }
}
