//! Plays a script of I/O results to one direction and holds what it does against a byte-exact model.
//! For tests and the fuzz target.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::LazyLock;

use super::half::{Half, Want};

/// What one read takes at most, as in the relay.
const SCRATCH: u64 = 64 * 1024;

/// What a pipe holds at most, as in the relay.
const CAPACITY: u64 = 1024 * 1024;

/// The byte at a position of the stream is the position modulo this.
const PERIOD: u64 = 251;

/// The stream from its start, for one scratch buffer and a period.
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..SCRATCH + PERIOD).map(|at| u8::try_from(at % PERIOD).unwrap_or(0)).collect()
});

/// What a script has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Played {
    /// Bytes that reached the sink.
    pub(in crate::proxy) given: u64,
    /// How many of them through a pipe.
    pub(in crate::proxy) piped: u64,
    /// The sink was told FIN.
    pub(in crate::proxy) finished: bool,
}

/// Results of I/O, read from arbitrary bytes.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        self.0.next().copied()
    }

    /// 1 to `most`: often all, often few.
    fn size(&mut self, most: u64) -> u64 {
        let [kind, high, low] = [(); 3].map(|()| self.next().unwrap_or(0));
        let limit = match kind % 4 {
            0 => return most,
            1 => 16,
            2 => 2048,
            _ => CAPACITY,
        };
        let raw = u64::from(u16::from_be_bytes([high, low])) * limit / 0x1_0000;
        1 + raw % most
    }
}

/// A pipe that knows which bytes of the stream it holds.
struct Tube {
    holds: RefCell<Range<u64>>,
    out: Rc<Cell<usize>>,
}

impl Tube {
    fn new(out: &Rc<Cell<usize>>) -> Self {
        out.set(out.get() + 1);
        Self { holds: RefCell::new(0..0), out: out.clone() }
    }

    fn is_empty(&self) -> bool {
        self.holds.borrow().is_empty()
    }
}

impl Drop for Tube {
    fn drop(&mut self) {
        self.out.set(self.out.get() - 1);
    }
}

/// The two ends of a direction, and what it should do.
struct Model<'a> {
    script: Script<'a>,
    half: Half<Tube>,
    /// Bytes that the source has given and that the sink has taken.
    taken: u64,
    played: Played,
    /// Full reads in a row, while it copies.
    full: u32,
    /// Is it to splice?
    bulk: bool,
    /// Bytes since the source was last empty.
    wake: u64,
    source_ended: bool,
    pipes_out: Rc<Cell<usize>>,
}

/// Plays one script. Panics where the direction is wrong.
pub(in crate::proxy) fn play(script: &[u8]) -> Played {
    let pipes_out = Rc::new(Cell::new(0));
    let mut model = Model {
        script: Script(script.iter()),
        half: Half::default(),
        taken: 0,
        played: Played::default(),
        full: 0,
        bulk: false,
        wake: 0,
        source_ended: false,
        pipes_out: pipes_out.clone(),
    };
    while model.step() {
        model.check();
    }
    let played = model.played;
    drop(model);
    assert_eq!(pipes_out.get(), 0, "a pipe is left behind");
    played
}

impl Model<'_> {
    /// One result of I/O; false at the end.
    fn step(&mut self) -> bool {
        let Some(choice) = self.script.next() else { return false };
        // Ends are rare, so that most scripts get far.
        let (is_rare, choice) = (choice < 8, choice % 8);
        match self.half.want() {
            Want::Copy | Want::Pipe | Want::Fill(_) if is_rare && choice < 2 => self.source_ends(),
            Want::Copy | Want::Pipe | Want::Fill(_) if is_rare && choice < 4 => return false,
            Want::Write(_) | Want::Drain(..) if is_rare => self.half.close(),
            // The sink is full.
            Want::Write(_) | Want::Drain(..) if choice == 0 => {}
            Want::Copy | Want::Fill(_) if choice < 2 => self.source_empty(),
            Want::Copy => self.copy(),
            Want::Write(_) => self.write(),
            Want::Pipe if choice == 0 => {
                self.half.refuse();
                (self.full, self.bulk) = (0, false);
            }
            Want::Pipe => self.half.lend(Tube::new(&self.pipes_out)),
            // The kernel does not splice.
            Want::Fill(_) if choice == 2 => {
                self.half.refuse();
                (self.full, self.bulk) = (0, false);
            }
            Want::Fill(_) => self.fill(),
            Want::Drain(..) => self.drain(),
            Want::Fin => {
                assert!(self.source_ended, "a FIN that the source never said");
                assert_eq!(self.played.given, self.taken, "a FIN before the last byte");
                self.played.finished = true;
                self.half.close();
            }
            Want::Nothing => return false,
        }
        true
    }

    /// What holds after every step.
    fn check(&self) {
        let held = self.taken - self.played.given;
        let limit = if self.pipes_out.get() > 0 { CAPACITY } else { SCRATCH };
        match self.half.want() {
            Want::Write(rest) => assert_eq!(rest, self.bytes(rest.len() as u64)),
            Want::Drain(tube, count) => {
                assert_eq!(*tube.holds.borrow(), self.played.given..self.taken);
                assert_eq!(count as u64, held);
            }
            Want::Fill(tube) => assert!(self.bulk && tube.is_empty()),
            Want::Copy => assert!(!self.bulk, "bulk is spliced"),
            Want::Pipe => assert!(self.bulk, "small messages are copied"),
            Want::Fin | Want::Nothing => {}
        }
        let waits = matches!(self.half.want(), Want::Copy | Want::Pipe | Want::Fin | Want::Nothing);
        assert!(!waits || self.pipes_out.get() == 0, "a pipe is held for nothing");
        if !self.half.closed() {
            assert!(held <= limit, "{held} bytes are held");
            assert_eq!(self.half.stalled(), held > 0);
            assert!(self.half.reads() != (self.half.stalled() || self.source_ended));
        }
    }

    /// The stream's next bytes for the sink.
    fn bytes(&self, count: u64) -> &'static [u8] {
        let from = usize::try_from(self.played.given % PERIOD).unwrap_or(0);
        &STREAM[from..from + usize::try_from(count).unwrap_or(0)]
    }

    fn copy(&mut self) {
        let count = self.script.size(SCRATCH);
        let written = if self.script.next().is_some_and(|choice| choice % 4 == 0) {
            self.script.size(count + 1) - 1
        } else {
            count
        };
        self.taken += count;
        self.played.given += written;
        self.wake += count;
        let is_full = count == SCRATCH;
        self.full = if is_full { self.full + 1 } else { 0 };
        self.bulk = self.full >= 2;
        let rest = self.bytes(count - written);
        self.half.copied(usize::try_from(count).unwrap_or(0), is_full, rest);
        if !is_full {
            self.source_empty();
        }
    }

    fn write(&mut self) {
        let count = self.script.size(self.taken - self.played.given);
        self.played.given += count;
        self.half.wrote(usize::try_from(count).unwrap_or(0));
    }

    fn fill(&mut self) {
        let count = self.script.size(CAPACITY);
        let Want::Fill(tube) = self.half.want() else { return };
        tube.holds.replace(self.taken..self.taken + count);
        self.taken += count;
        self.wake += count;
        self.half.filled(usize::try_from(count).unwrap_or(0));
    }

    fn drain(&mut self) {
        let count = self.script.size(self.taken - self.played.given);
        let Want::Drain(tube, _) = self.half.want() else { return };
        tube.holds.borrow_mut().start += count;
        self.played.given += count;
        self.played.piped += count;
        self.half.drained(usize::try_from(count).unwrap_or(0));
    }

    fn source_empty(&mut self) {
        if self.bulk && self.wake < SCRATCH {
            (self.full, self.bulk) = (0, false);
        }
        self.wake = 0;
        let back = self.half.source_empty();
        assert!(back.is_none_or(|tube| tube.is_empty()), "a pipe came back with bytes in it");
    }

    fn source_ends(&mut self) {
        self.source_ended = true;
        let back = self.half.end();
        assert!(back.is_none_or(|tube| tube.is_empty()), "a pipe came back with bytes in it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50,000 scripts: short reads and writes, full sinks, empty sources, FIN, RST, lost sinks,
    /// pipes lent and refused.
    #[test]
    fn bytes_are_exact_and_pipes_come_back_whatever_io_brings() {
        let (mut finished, mut spliced, mut copied) = (0, 0, 0);
        for seed in 0..50_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let script: Vec<u8> = (0..random.usize(..300)).map(|_| random.u8(..)).collect();
            let played = play(&script);
            finished += u32::from(played.finished);
            spliced += u32::from(played.piped > 0);
            copied += u32::from(played.given > played.piped);
        }
        assert!(
            finished > 1000 && spliced > 1000 && copied > 1000,
            "{finished} {spliced} {copied}"
        );
    }
}
