//! One direction of a relayed connection as a state machine without I/O: what it wants next, told
//! what came of it.

/// What a direction wants to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// Read from its source.
    Read,
    /// Write these left-over bytes to its destination; nothing is read before they are gone.
    Write(&'a [u8]),
    /// Pass the source's FIN on.
    Fin,
    /// It is done.
    Nothing,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    left: Option<Left>,
    phase: Phase,
}

/// Bytes of a short write.
#[derive(Debug)]
struct Left {
    bytes: Box<[u8]>,
    written: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// The source said FIN; the destination has not been told.
    Ended,
    /// The destination has been told, or there is nobody to tell.
    Closed,
}

impl Half {
    /// What to do next.
    pub(super) fn want(&self) -> Want<'_> {
        match (&self.left, self.phase) {
            (_, Phase::Closed) => Want::Nothing,
            (Some(left), _) => Want::Write(&left.bytes[left.written..]),
            (None, Phase::Open) => Want::Read,
            (None, Phase::Ended) => Want::Fin,
        }
    }

    /// The destination took only a part; these bytes are left.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        debug_assert!(self.left.is_none(), "read while bytes were left over");
        if !rest.is_empty() {
            self.left = Some(Left { bytes: rest.into(), written: 0 });
        }
    }

    /// The destination took so many of the left-over bytes.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Some(left) = &mut self.left {
            left.written += count;
            if left.written >= left.bytes.len() {
                self.left = None;
            }
        }
    }

    /// The source said FIN.
    pub(super) fn end(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
        }
    }

    /// The FIN has been passed on, or the destination is gone.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.left = None;
    }

    /// Does it hold bytes that its destination does not take?
    pub(super) fn stalled(&self) -> bool {
        self.left.is_some()
    }

    /// Is its source being read?
    pub(super) fn reads(&self) -> bool {
        self.want() == Want::Read
    }

    /// Is there nothing more to do?
    pub(super) fn closed(&self) -> bool {
        self.phase == Phase::Closed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fin_waits_for_the_bytes_before_it() {
        let mut half = Half::default();
        assert_eq!(half.want(), Want::Read);
        half.keep(b"abc");
        half.end();
        assert_eq!(half.want(), Want::Write(b"abc"));
        half.wrote(2);
        assert_eq!(half.want(), Want::Write(b"c"));
        half.wrote(1);
        assert_eq!(half.want(), Want::Fin);
        half.close();
        assert_eq!(half.want(), Want::Nothing);
    }

    #[test]
    fn a_lost_destination_drops_what_was_for_it() {
        let mut half = Half::default();
        half.keep(b"abc");
        half.close();
        assert!(half.closed() && !half.stalled());
        assert_eq!(half.want(), Want::Nothing);
    }

    proptest! {
        /// Whatever the sizes of reads and writes are, the destination gets the source's bytes,
        /// all of them, in order, and then the FIN.
        #[test]
        fn bytes_are_exact(
            source in proptest::collection::vec(any::<u8>(), 0..400),
            sizes in proptest::collection::vec((1usize..50, 0usize..50), 1..50),
        ) {
            let (mut half, mut read, mut sink) = (Half::default(), 0, Vec::new());
            let mut sizes = sizes.iter().cycle();
            for _ in 0..100_000 {
                let (take, accept) = sizes.next().copied().unwrap();
                match half.want() {
                    Want::Read if read == source.len() => half.end(),
                    Want::Read => {
                        let chunk = &source[read..(read + take).min(source.len())];
                        read += chunk.len();
                        let now = accept.min(chunk.len());
                        sink.extend_from_slice(&chunk[..now]);
                        half.keep(&chunk[now..]);
                    }
                    Want::Write(left) => {
                        let now = take.min(left.len());
                        sink.extend_from_slice(&left[..now]);
                        half.wrote(now);
                    }
                    Want::Fin => half.close(),
                    Want::Nothing => break,
                }
            }
            prop_assert!(half.closed());
            prop_assert_eq!(sink, source);
        }
    }
}
