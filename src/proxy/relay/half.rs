//! One direction of a relayed connection as a state machine without I/O: what it wants next, told
//! what came of it. It copies while messages are small and splices through a pipe while they are not.

/// Reads in a row that fill the scratch buffer before the direction is spliced: fewer would pay for
/// a pipe that the rest of a message does not need.
const FULL_READS: u8 = 2;

/// A wake that moves less than this is cheaper to copy: one splice in, one out and one more that
/// finds the socket empty cost more than to copy these bytes twice.
const LITTLE: u32 = 64 * 1024;

/// What a direction wants to do next. `P` is a pipe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Want<'a, P> {
    /// Read from its source and write at once what was read.
    Copy,
    /// Write these left-over bytes to its destination; nothing is read before they are gone.
    Write(&'a [u8]),
    /// A pipe, once its source has something.
    Pipe,
    /// Splice from its source into this pipe, which is empty: so that "would block" can only mean
    /// that the source is.
    Fill(&'a P),
    /// Splice so many bytes, all that this pipe holds, to its destination; nothing is read before
    /// they are gone.
    Drain(&'a P, usize),
    /// Pass the source's FIN on.
    Fin,
    /// It is done.
    Nothing,
}

/// One direction. A pipe that it drops may hold bytes; one that it hands out is empty.
#[derive(Debug)]
pub(super) struct Half<P> {
    cargo: Cargo<P>,
    /// Bytes read since the source was last empty.
    moved: u32,
    pace: Pace,
    phase: Phase,
}

/// What is under way.
#[derive(Debug)]
enum Cargo<P> {
    None,
    /// Bytes of a short write.
    Left {
        bytes: Box<[u8]>,
        written: u32,
    },
    /// A pipe and how many bytes it holds.
    Piped {
        pipe: P,
        bytes: u32,
    },
}

/// How the next bytes are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Copied; so many reads in a row have filled the scratch buffer.
    Copy {
        full: u8,
    },
    Splice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The source said FIN; the destination has not been told.
    Ended,
    /// The destination has been told, or there is nobody to tell.
    Closed,
}

impl<P> Default for Half<P> {
    fn default() -> Self {
        Self { cargo: Cargo::None, moved: 0, pace: Pace::Copy { full: 0 }, phase: Phase::Open }
    }
}

impl<P> Half<P> {
    /// What to do next.
    pub(super) fn want(&self) -> Want<'_, P> {
        match (&self.cargo, self.phase, self.pace) {
            (_, Phase::Closed, _) => Want::Nothing,
            (Cargo::Left { bytes, written }, ..) => Want::Write(&bytes[*written as usize..]),
            (Cargo::Piped { pipe, bytes: 1.. }, ..) => Want::Drain(pipe, self.piped()),
            (_, Phase::Ended, _) => Want::Fin,
            (Cargo::Piped { pipe, .. }, ..) => Want::Fill(pipe),
            (Cargo::None, Phase::Open, Pace::Copy { .. }) => Want::Copy,
            (Cargo::None, Phase::Open, Pace::Splice) => Want::Pipe,
        }
    }

    /// So many bytes were read, `full` if they filled the scratch buffer, and the destination has
    /// not taken these. Returns whether it splices from now on.
    pub(super) fn copied(&mut self, count: usize, full: bool, rest: &[u8]) -> bool {
        debug_assert!(matches!(self.cargo, Cargo::None), "read while bytes were under way");
        self.count(count);
        if !rest.is_empty() {
            self.cargo = Cargo::Left { bytes: rest.into(), written: 0 };
        }
        self.pace = match self.pace {
            Pace::Copy { full: before } if full && before + 1 >= FULL_READS => Pace::Splice,
            Pace::Copy { full: before } if full => Pace::Copy { full: before + 1 },
            Pace::Copy { .. } | Pace::Splice => Pace::Copy { full: 0 },
        };
        self.pace == Pace::Splice
    }

    /// The destination took so many of the left-over bytes.
    pub(super) fn wrote(&mut self, count: usize) {
        if let Cargo::Left { bytes, written } = &mut self.cargo {
            *written = written.saturating_add(narrow(count));
            if *written as usize >= bytes.len() {
                self.cargo = Cargo::None;
            }
        }
    }

    /// Here is the pipe that it wanted. It is empty.
    pub(super) fn lend(&mut self, pipe: P) {
        debug_assert!(matches!(self.cargo, Cargo::None), "a pipe while bytes were under way");
        self.cargo = Cargo::Piped { pipe, bytes: 0 };
    }

    /// No pipe is to be had, or the kernel does not splice these sockets: the next bytes are copied.
    pub(super) fn refuse(&mut self) {
        self.pace = Pace::Copy { full: 0 };
        if self.piped() == 0 {
            self.take_pipe();
        }
    }

    /// So many bytes went from the source into the pipe.
    pub(super) fn filled(&mut self, count: usize) {
        self.count(count);
        if let Cargo::Piped { bytes, .. } = &mut self.cargo {
            *bytes = narrow(count);
        }
    }

    /// So many bytes went from the pipe to the destination.
    pub(super) fn drained(&mut self, count: usize) {
        if let Cargo::Piped { bytes, .. } = &mut self.cargo {
            *bytes = bytes.saturating_sub(narrow(count));
        }
    }

    /// The source has no more for now. Gives the pipe back, if it has one.
    #[must_use]
    pub(super) fn source_empty(&mut self) -> Option<P> {
        if self.pace == Pace::Splice && self.moved < LITTLE {
            self.pace = Pace::Copy { full: 0 };
        }
        self.moved = 0;
        self.take_pipe()
    }

    /// The source said FIN. Gives the pipe back, if it has one.
    #[must_use]
    pub(super) fn end(&mut self) -> Option<P> {
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
        }
        self.take_pipe()
    }

    /// The FIN has been passed on, or the destination is gone.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.cargo = Cargo::None;
    }

    /// Does it hold bytes that its destination does not take?
    pub(super) fn stalled(&self) -> bool {
        matches!(self.want(), Want::Write(_) | Want::Drain(..))
    }

    /// Is its source being read?
    pub(super) fn reads(&self) -> bool {
        matches!(self.want(), Want::Copy | Want::Pipe | Want::Fill(_))
    }

    /// Is there nothing more to do?
    pub(super) fn closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    fn count(&mut self, count: usize) {
        self.moved = self.moved.saturating_add(narrow(count));
    }

    /// How many bytes its pipe holds.
    fn piped(&self) -> usize {
        match self.cargo {
            Cargo::Piped { bytes, .. } => bytes as usize,
            Cargo::None | Cargo::Left { .. } => 0,
        }
    }

    /// Its pipe, unless there are bytes in it.
    fn take_pipe(&mut self) -> Option<P> {
        if !matches!(self.cargo, Cargo::Piped { bytes: 0, .. }) {
            return None;
        }
        match std::mem::replace(&mut self.cargo, Cargo::None) {
            Cargo::Piped { pipe, .. } => Some(pipe),
            Cargo::None | Cargo::Left { .. } => None,
        }
    }
}

/// One read or splice moves a MiB at most. In 32 bits, because every connection holds two halves.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk() -> Half<u8> {
        let mut half = Half::default();
        assert!(!half.copied(65536, true, b""));
        assert_eq!(half.want(), Want::Copy, "one full read may be the end of a message");
        assert!(half.copied(65536, true, b""));
        half
    }

    #[test]
    fn a_fin_waits_for_the_bytes_before_it() {
        let mut half = Half::<u8>::default();
        assert_eq!(half.want(), Want::Copy);
        half.copied(3, false, b"abc");
        assert_eq!(half.end(), None);
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
        let mut half = Half::<u8>::default();
        half.copied(3, false, b"abc");
        half.close();
        assert!(half.closed() && !half.stalled());
        assert_eq!(half.want(), Want::Nothing);
    }

    #[test]
    fn two_full_reads_make_it_splice_and_a_wake_with_little_makes_it_copy() {
        let mut half = bulk();
        assert_eq!(half.want(), Want::Pipe);
        half.lend(7);
        assert_eq!(half.want(), Want::Fill(&7));
        half.filled(100_000);
        assert_eq!(half.want(), Want::Drain(&7, 100_000));
        assert!(half.stalled() && !half.reads());
        half.drained(99_999);
        assert_eq!(half.want(), Want::Drain(&7, 1));
        half.drained(1);
        assert_eq!(half.want(), Want::Fill(&7));
        assert_eq!(half.source_empty(), Some(7));
        assert_eq!(half.want(), Want::Pipe, "it moved much");
        half.lend(7);
        half.filled(1000);
        half.drained(1000);
        assert_eq!(half.source_empty(), Some(7));
        assert_eq!(half.want(), Want::Copy, "it moved little");
    }

    #[test]
    fn full_reads_count_only_in_a_row() {
        let mut half = Half::<u8>::default();
        for _ in 0..5 {
            half.copied(65536, true, b"");
            half.copied(65535, false, b"");
            assert_eq!(half.want(), Want::Copy);
        }
    }

    #[test]
    fn without_a_pipe_it_copies() {
        let mut half = bulk();
        half.refuse();
        assert_eq!(half.want(), Want::Copy);
        let mut half = bulk();
        half.lend(7);
        half.refuse();
        assert_eq!(half.want(), Want::Copy);
    }

    #[test]
    fn a_fin_in_bulk_gives_the_pipe_back() {
        let mut half = bulk();
        half.lend(7);
        half.filled(5);
        half.drained(5);
        assert_eq!(half.end(), Some(7));
        assert_eq!(half.want(), Want::Fin);
    }
}
