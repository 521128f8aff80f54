//! The pipes that bulk is spliced through: few, of one size, lent out only while bytes are in flight.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a pipe holds at most, and what one splice moves at most: the kernel counts a pipe in pages,
/// and one of its pages may stand for a larger piece of a socket's memory. With 256 KiB a GiB costs a
/// fifth more processor time (0.33 s against 0.28 s, medians of 5 interleaved rounds over loopback).
pub(super) const CAPACITY: usize = 1024 * 1024;

/// What all pipes of the process hold at most: the kernel's default for a user
/// (`fs.pipe-user-pages-soft`, 16,384 pages), so that as root we take no more either.
const MEMORY: usize = 64 * 1024 * 1024;

/// Empty pipes that a thread keeps at most. A pipe is mostly back before the next connection's turn;
/// only those of stalled readers are out for longer.
const KEEP: usize = 4;

/// Empty pipes that all threads keep at most: half of the memory, so that what some of them keep does
/// not leave others without.
const KEEP_IN_ALL: usize = MEMORY / CAPACITY / 2;

/// After a refusal of the kernel no pipe is lent during this time.
const HOLD_OFF: Duration = Duration::from_secs(1);

/// The pipe memory of the process that has not been given out. Clones share it.
#[derive(Clone, Debug)]
pub struct PipeMemory {
    free: Arc<AtomicUsize>,
    /// Empty pipes that each thread may keep.
    keep: usize,
}

impl PipeMemory {
    /// That of a process with so many data threads.
    pub fn new(threads: usize) -> Self {
        Self::with(MEMORY, threads)
    }

    fn with(memory: usize, threads: usize) -> Self {
        let keep = KEEP.min(KEEP_IN_ALL / threads.max(1));
        Self { free: Arc::new(AtomicUsize::new(memory)), keep }
    }

    fn take(&self) -> Option<Share> {
        let less = |free: usize| free.checked_sub(CAPACITY);
        self.free.fetch_update(Relaxed, Relaxed, less).ok()?;
        Some(Share(self.clone()))
    }
}

/// One pipe's part of the memory.
#[derive(Debug)]
struct Share(PipeMemory);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.free.fetch_add(CAPACITY, Relaxed);
    }
}

/// A pipe. Dropping closes it, with whatever it holds.
#[derive(Debug)]
pub(super) struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    _share: Share,
}

impl Pipe {
    fn new(share: Share) -> Result<Self, Errno> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Past the user's soft limit this fails, and the pipe has two pages: useless.
        fcntl_setpipe_size(&input, CAPACITY)?;
        Ok(Self { output, input, _share: share })
    }

    /// Moves what the socket has received into the pipe, which must be empty. Zero is a FIN.
    pub(super) fn fill(&self, source: &TcpStream) -> io::Result<usize> {
        source.try_io(Interest::READABLE, || {
            Ok(splice(source, None, &self.input, None, CAPACITY, FLAGS)?)
        })
    }

    /// Moves so many bytes of the pipe to the socket, or fewer.
    pub(super) fn drain(&self, sink: &TcpStream, count: usize) -> io::Result<usize> {
        sink.try_io(Interest::WRITABLE, || {
            match splice(&self.output, None, sink, None, count, FLAGS)? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                count => Ok(count),
            }
        })
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// Does this error say that these descriptors cannot be spliced, and nothing of the peer?
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| {
        matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::NOMEM)
    })
}

/// The pipes of a data thread.
#[derive(Debug)]
pub(in crate::proxy) struct Pipes {
    memory: PipeMemory,
    idle: RefCell<Vec<Pipe>>,
    again_at: Cell<Option<Instant>>,
}

impl Pipes {
    /// None yet; what is made counts against this memory.
    pub(in crate::proxy) fn new(memory: PipeMemory) -> Self {
        Self { memory, idle: RefCell::default(), again_at: Cell::default() }
    }

    /// An empty pipe, unless the memory is used up or the kernel has lately refused one.
    pub(super) fn lend(&self, now: Instant) -> Option<Pipe> {
        if self.again_at.get().is_some_and(|at| now < at) {
            return None;
        }
        if let Some(pipe) = self.idle.borrow_mut().pop() {
            return Some(pipe);
        }
        match Pipe::new(self.memory.take()?) {
            Ok(pipe) => Some(pipe),
            Err(error) => {
                tracing::debug!(%error, "no pipe; bytes are copied for a while");
                self.hold_off(now);
                None
            }
        }
    }

    /// Takes an empty pipe back.
    pub(super) fn give_back(&self, pipe: Pipe) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.memory.keep {
            idle.push(pipe);
        }
    }

    /// Lends none for a while.
    pub(super) fn hold_off(&self, now: Instant) {
        self.again_at.set(Some(now + HOLD_OFF));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_returns_with_the_pipes() {
        let memory = PipeMemory::with(2 * CAPACITY + 1, 1);
        let (one, other) = (Pipes::new(memory.clone()), Pipes::new(memory.clone()));
        let now = Instant::now();
        let Some(first) = one.lend(now) else { panic!("no pipe is to be had here") };
        let second = other.lend(now).unwrap();
        assert!(one.lend(now).is_none() && other.lend(now).is_none());
        drop(second);
        assert!(one.lend(now).is_some(), "a closed one makes room in the other thread");
        one.give_back(first);
        assert!(one.lend(now).is_some());
        drop((one, other));
        assert_eq!(memory.free.load(Relaxed), 2 * CAPACITY + 1);
    }

    #[test]
    fn few_idle_ones_are_kept() {
        let pipes = Pipes::new(PipeMemory::new(1));
        let lent: Vec<_> = (0..KEEP + 3).filter_map(|_| pipes.lend(Instant::now())).collect();
        assert_eq!(lent.len(), KEEP + 3);
        for pipe in lent {
            pipes.give_back(pipe);
        }
        assert_eq!(pipes.memory.free.load(Relaxed), MEMORY - KEEP * CAPACITY);
    }

    #[test]
    fn idle_pipes_of_many_threads_leave_memory_for_the_others() {
        for threads in [1, 2, 16, 32, 33, 64] {
            let memory = PipeMemory::new(threads);
            let all: Vec<_> = (0..threads).map(|_| Pipes::new(memory.clone())).collect();
            let now = Instant::now();
            // All that the memory has go around, and come back.
            let mut back = 0;
            for pipes in &all {
                let lent: Vec<_> = (0..KEEP).filter_map(|_| pipes.lend(now)).collect();
                back += lent.len();
                for pipe in lent {
                    pipes.give_back(pipe);
                }
            }
            assert_eq!(back, threads * KEEP, "{threads} threads");
            assert!(memory.free.load(Relaxed) >= MEMORY / 2, "{threads} threads");
        }
    }

    #[test]
    fn after_a_refusal_none_is_lent_for_a_second() {
        let pipes = Pipes::new(PipeMemory::new(1));
        let now = Instant::now();
        pipes.hold_off(now);
        assert!(pipes.lend(now + HOLD_OFF / 2).is_none());
        assert!(pipes.lend(now + HOLD_OFF).is_some());
    }
}
