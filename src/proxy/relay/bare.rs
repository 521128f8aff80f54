//! One direction without its I/O, for the benchmarks: what its decisions take by themselves.

use super::half::{Half, Want};

/// What one read fills of the scratch buffer, and what one splice moves at most.
const FULL: usize = 64 * 1024;
const MOST: usize = 1024 * 1024;

/// One direction that is told good results.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Bare(Half<u8>);

impl Bare {
    /// A message that one read takes and one write passes on. Returns whether it was copied.
    pub(in crate::proxy) fn message(&mut self, bytes: usize) -> bool {
        let copies = self.0.want() == Want::Copy;
        self.0.copied(bytes, false, &[]);
        self.0.source_empty().is_none() && copies
    }

    /// A transfer of so many reads: copied first, then spliced, until the source is empty. Returns
    /// how many bytes went through a pipe.
    pub(in crate::proxy) fn transfer(&mut self, reads: u32) -> usize {
        let (mut left, mut piped) = (reads, 0);
        while left > 0 || self.0.stalled() {
            match self.0.want() {
                Want::Copy => {
                    self.0.copied(FULL, true, &[]);
                    left -= 1;
                }
                Want::Pipe => self.0.lend(0),
                Want::Fill(_) => {
                    self.0.filled(MOST);
                    left -= 1;
                }
                Want::Drain(_, bytes) => {
                    self.0.drained(bytes);
                    piped += bytes;
                }
                Want::Write(_) | Want::Fin | Want::Nothing => break,
            }
        }
        let _ = self.0.source_empty();
        piped
    }
}
