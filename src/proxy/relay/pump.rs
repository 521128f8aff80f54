//! Moves the bytes of one direction for as long as both ends go along, by copying or by splicing, and
//! notes for the sweeper what went by.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::half::Want;
use super::{Ended, Leg, Relay, Speech, pipes};
use crate::model::Direction;
use crate::net;
use crate::proxy::sweep::PATIENCE;
use crate::proxy::table::now;

/// The scratch buffer of a thread: what one read takes at most. A direction whose sink is full holds
/// at most this much, or what a pipe holds.
const SCRATCH: usize = 64 * 1024;

/// What one direction moves before other connections get their turn. A short read counts as a full
/// buffer; splices do not pass through the runtime, which could not tell either.
const BUDGET: usize = 1024 * 1024;

thread_local! {
    /// One for all connections of a thread, so that an idle connection holds no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What came of a step.
enum Moved {
    /// So many bytes were taken from the source; none if it has none now.
    Read(usize),
    /// Nothing was read.
    Nothing,
    /// The source said FIN.
    End,
    SourceDied(io::Error),
    SinkDied(io::Error),
}

impl Relay<'_> {
    /// Moves bytes one way. Ready only when the connection ends.
    pub(super) fn pump(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Ended> {
        let record = self.record;
        let (from, to, source, sink) = match direction {
            Direction::Up => (Leg::Client, Leg::Server, &record.client, &record.server),
            Direction::Down => (Leg::Server, Leg::Client, &record.server, &record.client),
        };
        let mut budget = BUDGET;
        loop {
            // A socket's readiness is an error only when the runtime ends, and every connection with it.
            let moved = match self.half(direction).want() {
                Want::Nothing => return Poll::Pending,
                Want::Fin => self.pass_fin(direction, sink),
                Want::Write(_) | Want::Drain(..) => {
                    let Ok(()) = ready!(sink.poll_write_ready(cx)) else { return Poll::Pending };
                    self.write(direction, sink)
                }
                Want::Copy | Want::Pipe | Want::Fill(_) if budget == 0 => {
                    give_way(cx);
                    return Poll::Pending;
                }
                Want::Copy => {
                    let Ok(()) = ready!(source.poll_read_ready(cx)) else { return Poll::Pending };
                    self.copy(direction, source, sink)
                }
                Want::Pipe => {
                    let Ok(()) = ready!(source.poll_read_ready(cx)) else { return Poll::Pending };
                    self.borrow_pipe(direction)
                }
                Want::Fill(_) => self.fill(direction, source),
            };
            match moved {
                Moved::Nothing | Moved::Read(0) => {}
                Moved::Read(count) => budget = budget.saturating_sub(count.max(SCRATCH)),
                Moved::End => match self.lost {
                    Some((leg, end)) if leg == from => return Poll::Ready(Ended::Died(leg, end)),
                    _ => {
                        if let Some(pipe) = self.half(direction).end() {
                            self.worker.pipes.give_back(pipe);
                        }
                    }
                },
                Moved::SourceDied(error) => {
                    return Poll::Ready(Ended::by(from, &error));
                }
                Moved::SinkDied(error) => {
                    if let Some(ended) = self.lose(to, &error) {
                        return Poll::Ready(ended);
                    }
                }
            }
        }
    }

    fn pass_fin(&mut self, direction: Direction, sink: &TcpStream) -> Moved {
        self.half(direction).close();
        if self.up.closed() && self.down.closed() {
            // Closing the socket, which is next, says the same.
            return Moved::Nothing;
        }
        self.worker.table.half_closed(self.record, now());
        match SockRef::from(sink).shutdown(Shutdown::Write) {
            Ok(()) => Moved::Nothing,
            Err(error) => Moved::SinkDied(error),
        }
    }

    /// Reads once and writes at once what was read; what the sink does not take is left over.
    fn copy(&mut self, direction: Direction, source: &TcpStream, sink: &TcpStream) -> Moved {
        BUFFER.with_borrow_mut(|buffer| {
            let count = match source.try_read(buffer) {
                Ok(0) => return Moved::End,
                Ok(count) => count,
                Err(error) if is_would_block(&error) => {
                    self.source_empty(direction);
                    return Moved::Nothing;
                }
                Err(error) => return Moved::SourceDied(error),
            };
            let (bytes, full) = (&buffer[..count], count == buffer.len());
            let speech = self.records[direction as usize].feed(bytes);
            self.note_read(direction, speech, bytes.first().copied(), count);
            let written = match try_write(sink, bytes) {
                Ok(written) => written,
                Err(error) => return Moved::SinkDied(error),
            };
            if self.half(direction).copied(count, full, &bytes[written..]) {
                net::bound_receive_buffer(source);
            }
            self.note_written(direction, written);
            if !full {
                // The socket is drained: what comes next is a new event, unless FIN has come.
                let _ = source.try_io(Interest::READABLE, would_block);
                self.source_empty(direction);
            }
            Moved::Read(count)
        })
    }

    fn borrow_pipe(&mut self, direction: Direction) -> Moved {
        match self.worker.pipes.lend(now()) {
            Some(pipe) => self.half(direction).lend(pipe),
            None => self.half(direction).refuse(),
        }
        Moved::Nothing
    }

    fn fill(&mut self, direction: Direction, source: &TcpStream) -> Moved {
        let Want::Fill(pipe) = self.half(direction).want() else { return Moved::Nothing };
        match pipe.fill(source) {
            Ok(0) => Moved::End,
            Ok(count) => {
                self.half(direction).filled(count);
                self.records[direction as usize].skip();
                self.note_read(direction, Speech::Message, None, count);
                self.worker.shared.metrics.spliced.increment(count as u64);
                Moved::Read(count)
            }
            Err(error) if is_would_block(&error) => {
                self.source_empty(direction);
                Moved::Nothing
            }
            Err(error) if pipes::is_unsupported(&error) => {
                self.worker.pipes.hold_off(now());
                self.half(direction).refuse();
                Moved::Nothing
            }
            Err(error) => Moved::SourceDied(error),
        }
    }

    /// Writes what is under way.
    fn write(&mut self, direction: Direction, sink: &TcpStream) -> Moved {
        let result = match self.half(direction).want() {
            Want::Write(left) => {
                try_write(sink, left).inspect(|count| self.half(direction).wrote(*count))
            }
            Want::Drain(pipe, bytes) => {
                pipe.drain(sink, bytes).inspect(|count| self.half(direction).drained(*count))
            }
            _ => Ok(0),
        };
        match result {
            Ok(count) => {
                self.note_written(direction, count);
                Moved::Nothing
            }
            Err(error) if is_would_block(&error) => Moved::Nothing,
            Err(error) => Moved::SinkDied(error),
        }
    }

    fn source_empty(&mut self, direction: Direction) {
        self.records[direction as usize].source_empty();
        if let Some(pipe) = self.half(direction).source_empty() {
            self.worker.pipes.give_back(pipe);
        }
    }

    /// Notes bytes of the source: what they seem to say, and the first of them if it was seen.
    fn note_read(&self, direction: Direction, speech: Speech, first: Option<u8>, count: usize) {
        let now = now();
        self.record.carried(direction, speech, now);
        match direction {
            Direction::Up => self.record.client_said(first, count),
            Direction::Down => {
                self.record.heard.set(Some(now));
                self.record.unanswered.set(None);
            }
        }
    }

    fn note_written(&self, direction: Direction, count: usize) {
        if count == 0 {
            return;
        }
        let counters = &self.record.active.backend().counters;
        counters.relayed(direction, count as u64);
        let up = direction == Direction::Up;
        if (up && self.record.unanswered.get().is_none()) || self.record.half_closed.get().is_some()
        {
            let now = now();
            if up {
                self.worker.table.sent(self.record, now, PATIENCE);
            }
            self.record.touch_half_closed(now);
        }
    }
}

/// Comes back once all others that are ready have had their turn and sockets were looked at anew. A
/// task that only wakes itself would come back up to 61 times before that.
fn give_way(cx: &mut Context<'_>) {
    let turn = pin!(tokio::task::yield_now());
    let _ = turn.poll(cx);
}

/// How many bytes the sink took: none while it is full.
fn try_write(sink: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match sink.try_write(bytes) {
        Ok(count) => {
            if count < bytes.len() {
                // It is full; that there is room again is a new event.
                let _ = sink.try_io(Interest::WRITABLE, would_block);
            }
            Ok(count)
        }
        Err(error) if is_would_block(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Clears a socket's readiness without a system call.
fn would_block() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
