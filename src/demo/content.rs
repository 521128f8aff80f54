//! Content whose every byte can be checked at the far end: reproducible blobs and SHA-256.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use rustls::crypto::hash;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

/// What one frame of a [`Blob`] carries; a multiple of 8.
const FRAME: usize = 64 * 1024;

/// A pseudo-random body: the same seed and length give the same bytes, on either end.
#[derive(Clone, Debug)]
pub struct Blob {
    state: u64,
    left: u64,
}

impl Blob {
    /// `bytes` bytes from `seed`. A shorter blob is a prefix of a longer one of the same seed.
    pub fn new(seed: u64, bytes: u64) -> Self {
        Self { state: seed, left: bytes }
    }

    /// SHA-256 of what is left of the blob, in lower-case hexadecimal.
    pub fn sha256(self) -> String {
        let mut hash = Sha256::default();
        self.for_each(|chunk| hash.update(&chunk));
        hash.hex()
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): fast, and no chunk repeats or compresses.
    fn word(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    }
}

impl Iterator for Blob {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let length = usize::try_from(self.left).map_or(FRAME, |left| left.min(FRAME));
        let mut chunk = Vec::with_capacity(length.next_multiple_of(8));
        while chunk.len() < length {
            chunk.extend_from_slice(&self.word());
        }
        chunk.truncate(length);
        self.left -= length as u64;
        Some(chunk.into())
    }
}

impl Body for Blob {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// SHA-256 in pieces, borrowed from the TLS provider so that no further crate is needed.
pub struct Sha256(Box<dyn hash::Context>);

impl Default for Sha256 {
    fn default() -> Self {
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("its name says that it is TLS 1.3");
        Self(suite.common.hash_provider.start())
    }
}

impl Sha256 {
    /// Adds `bytes` to what is hashed.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything added, in lower-case hexadecimal.
    pub fn hex(self) -> String {
        self.0.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_that_of_fips_180() {
        let mut hash = Sha256::default();
        hash.update(b"a");
        hash.update(b"bc");
        assert_eq!(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_blob_has_its_length_and_is_reproducible() {
        for bytes in [0, 1, 7, 8, 65_535, 65_536, 65_537, 1_000_003] {
            let length: usize = Blob::new(1, bytes).map(|chunk| chunk.len()).sum();
            assert_eq!(length as u64, bytes);
            assert_eq!(Blob::new(1, bytes).sha256(), Blob::new(1, bytes).sha256());
        }
        assert_ne!(Blob::new(1, 100).sha256(), Blob::new(2, 100).sha256());
    }
}
