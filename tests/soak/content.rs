//! What a stream has to carry, compared byte for byte as it comes in.

use apiproxy::demo::Blob;
use hyper::body::Bytes;

use super::pulse::Pulse;

/// The rest of a blob that is still to come.
pub struct Expected {
    blob: Blob,
    chunk: Bytes,
    length: u64,
    seen: u64,
}

impl Expected {
    pub fn new(seed: u64, length: u64) -> Self {
        Self { blob: Blob::new(seed, length), chunk: Bytes::new(), length, seen: 0 }
    }

    /// Compares the next bytes. `false`, and told, when they are not those of the blob.
    pub fn take(&mut self, pulse: &Pulse, mut bytes: &[u8]) -> bool {
        pulse.beat("bytes");
        while !bytes.is_empty() {
            if self.chunk.is_empty() {
                let Some(chunk) = self.blob.next() else {
                    pulse.wrong(&format!("{} bytes after the end, {}", bytes.len(), self.length));
                    return false;
                };
                self.chunk = chunk;
            }
            let count = bytes.len().min(self.chunk.len());
            if self.chunk.split_to(count) != bytes[..count] {
                pulse.wrong(&format!(
                    "other bytes from {} to {}",
                    self.seen,
                    self.seen + count as u64
                ));
                return false;
            }
            self.seen += count as u64;
            bytes = &bytes[count..];
            pulse.ledger.bytes.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        }
        true
    }

    /// Is it all there? To be asked when the stream has ended as if it were.
    pub fn end(&self, pulse: &Pulse) {
        if self.seen == self.length {
            pulse.finish();
        } else {
            pulse.wrong(&format!("ended well after {} of {} bytes", self.seen, self.length));
        }
    }

    pub fn is_whole(&self) -> bool {
        self.seen == self.length
    }
}

/// A whole blob in one piece.
pub fn blob(seed: u64, length: u64) -> Bytes {
    Blob::new(seed, length).flatten().collect()
}
