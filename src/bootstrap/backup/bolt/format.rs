//! The format of bbolt's pages (bbolt: page.go, db.go), for whoever reads or writes them.

/// The head of a page: number, flags, count and overflow.
pub(in crate::bootstrap) const HEAD: usize = 16;
/// The head of an element of a branch or a leaf.
pub(in crate::bootstrap) const ELEMENT: usize = 16;
/// The head of a bucket: its root page and a counter.
pub(in crate::bootstrap) const BUCKET: usize = 16;
/// A meta page without its head.
pub(in crate::bootstrap) const META_LEN: usize = 64;

pub(in crate::bootstrap) const BRANCH: u16 = 0x01;
pub(in crate::bootstrap) const LEAF: u16 = 0x02;
pub(in crate::bootstrap) const META: u16 = 0x04;

/// An element of a leaf with this flag is a bucket.
pub(in crate::bootstrap) const IS_BUCKET: u32 = 1;

/// bbolt's magic number and the version of its format.
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

pub(in crate::bootstrap) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

pub(in crate::bootstrap) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

pub(in crate::bootstrap) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// FNV-1a of 64 bits, the checksum of a meta page.
pub(in crate::bootstrap) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What is behind the head of the meta page that begins here; none if it is not one, or its checksum
/// does not fit.
pub(in crate::bootstrap) fn sound_meta(page: &[u8]) -> Option<&[u8]> {
    let meta = page.get(HEAD..HEAD + META_LEN)?;
    let fits = u16_at(page, 8)? & META != 0
        && u32_at(meta, 0)? == MAGIC
        && u32_at(meta, 4)? == VERSION
        && u64_at(meta, 56)? == fnv(&meta[..56]);
    let size = u32_at(meta, 8)?;
    let sound = (512..=1 << 20).contains(&size) && size.is_power_of_two();
    (fits && sound).then_some(meta)
}
