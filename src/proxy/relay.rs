//! Carries bytes between a client and its backend, exactly, until both ends are done or one dies.

mod half;
mod records;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::sweep::PATIENCE;
use super::table::{Record, Table, now};
use crate::model::{CloseReason, Direction};
use crate::net;
use half::{Half, Want};

pub(super) use records::{Records, Speech};

/// The scratch buffer of a thread: what one read takes at most. A stalled direction keeps at most
/// this much.
const SCRATCH: usize = 64 * 1024;

/// Reads of one direction in a row before other connections get their turn: a MiB.
const BUDGET: u32 = 16;

thread_local! {
    /// One for all connections of a thread, so that an idle connection holds no buffer.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One end of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    Client,
    Server,
}

/// How a leg died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was reset, or any other error than a timeout.
    Reset,
    /// It stopped acknowledging.
    TimedOut,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides said FIN, and both have been told.
    Finished,
    /// One leg died.
    Died(Leg, End),
    /// We ended it.
    Closed(CloseReason),
}

impl End {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Reset,
        }
    }
}

/// Relays until the end. The streams stay in the record; the caller closes them by dropping it.
pub(super) async fn run(table: &Table, record: &Rc<Record>) -> Ended {
    let mut relay = Relay {
        table,
        record,
        up: Half::default(),
        down: Half::default(),
        lost: None,
        records: [Records::default(); 2],
    };
    loop {
        match poll_fn(|cx| relay.poll(cx)).await {
            Step::Ended(ended) => return ended,
            // Boxed, because most connections never stall and end both ways at once.
            Step::Unheard => {
                if let Some(ended) = Box::pin(relay.sit_out()).await {
                    return ended;
                }
            }
        }
    }
}

/// Why the relay stops polling its two directions in the usual way.
enum Step {
    Ended(Ended),
    /// A leg is not read: what it sent waits for the other leg, or it has said FIN.
    Unheard,
}

/// Both directions of a connection. One task polls both, so that they need no lock between them.
struct Relay<'a> {
    table: &'a Table,
    record: &'a Rc<Record>,
    up: Half,
    down: Half,
    /// A leg that took no more bytes, and how it died. What it said before is still passed on.
    lost: Option<(Leg, End)>,
    /// Where each direction stands in its TLS records.
    records: [Records; 2],
}

impl Relay<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        match self.pump_both(cx) {
            Poll::Ready(ended) => Poll::Ready(Step::Ended(ended)),
            Poll::Pending if self.unheard() => Poll::Ready(Step::Unheard),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Goes on until both legs are read again. The reset of a leg that is not read would go unseen,
    /// so that its socket's error event is watched instead; a leg that is read tells by itself, and
    /// after what it said before.
    async fn sit_out(&mut self) -> Option<Ended> {
        let record = self.record.clone();
        let mut client_error = std::pin::pin!(record.client.ready(Interest::ERROR));
        let mut server_error = std::pin::pin!(record.server.ready(Interest::ERROR));
        let (mut client_seen, mut server_seen) = (false, false);
        poll_fn(|cx| {
            let (client_read, server_read) = (self.up.reads(), self.down.reads());
            if !client_read && !client_seen && client_error.as_mut().poll(cx).is_ready() {
                client_seen = true;
                if let Some(error) = net::pending_error(&record.client) {
                    return Poll::Ready(Some(Ended::Died(Leg::Client, End::of(&error))));
                }
            }
            if !server_read && !server_seen && server_error.as_mut().poll(cx).is_ready() {
                server_seen = true;
                let error = net::pending_error(&record.server);
                if let Some(ended) = error.and_then(|error| self.lose(Leg::Server, &error)) {
                    return Poll::Ready(Some(ended));
                }
            }
            match self.pump_both(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if self.unheard() => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await
    }

    fn unheard(&self) -> bool {
        !self.up.reads() || !self.down.reads()
    }

    fn pump_both(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let closing = self.record.closing(cx);
        if let Some(reason) = closing.filter(|reason| !reason.is_gentle()) {
            return Poll::Ready(Ended::Closed(reason));
        }
        for direction in Direction::ALL {
            if let Poll::Ready(ended) = self.pump(direction, cx) {
                return Poll::Ready(ended);
            }
        }
        self.record.held_back.set(self.down.stalled());
        let between = self.records.into_iter().all(Records::at_boundary);
        self.record.between_records.set(between && !self.up.stalled() && !self.down.stalled());
        if let Some(reason) = closing {
            if !self.has_news() {
                return Poll::Ready(Ended::Closed(reason));
            }
            // It was quiet when it was asked to end; it is not any more.
            self.record.reprieve();
            self.record.closing(cx);
        }
        if self.up.closed() && self.down.closed() {
            let died = self.lost.map(|(leg, end)| Ended::Died(leg, end));
            return Poll::Ready(died.unwrap_or(Ended::Finished));
        }
        Poll::Pending
    }

    /// Are there bytes that came after the wish to close it, read or not?
    fn has_news(&self) -> bool {
        let Some(wish) = self.record.moving.get().filter(|wish| !wish.forced) else { return false };
        self.record.last_byte.get() > wish.asked
            || !self.record.between_records.get()
            || net::has_unread(&self.record.client)
            || net::has_unread(&self.record.server)
    }

    /// Moves bytes one way for as long as both ends go along. Ready only when the connection ends.
    fn pump(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<Ended> {
        let record = self.record.clone();
        let (from, to, source, sink) = match direction {
            Direction::Up => (Leg::Client, Leg::Server, &record.client, &record.server),
            Direction::Down => (Leg::Server, Leg::Client, &record.server, &record.client),
        };
        let mut budget = BUDGET;
        loop {
            let half = self.half(direction);
            let result = match half.want() {
                Want::Nothing => return Poll::Pending,
                Want::Fin => {
                    half.close();
                    let now = now();
                    self.table.half_closed(self.record, now);
                    SockRef::from(sink).shutdown(Shutdown::Write)
                }
                Want::Write(left) => {
                    // An error means that the runtime ends, and every connection with it.
                    let Ok(()) = ready!(sink.poll_write_ready(cx)) else { return Poll::Pending };
                    match sink.try_write(left) {
                        Ok(count) => {
                            half.wrote(count);
                            self.note_written(direction, count);
                            Ok(())
                        }
                        Err(error) => Err(error),
                    }
                }
                Want::Read => {
                    if budget == 0 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    budget -= 1;
                    let Ok(()) = ready!(source.poll_read_ready(cx)) else { return Poll::Pending };
                    match self.copy_once(direction, source, sink) {
                        Copied::Some => Ok(()),
                        Copied::End => match self.lost {
                            Some((leg, end)) if leg == from => {
                                return Poll::Ready(Ended::Died(leg, end));
                            }
                            _ => {
                                self.half(direction).end();
                                Ok(())
                            }
                        },
                        Copied::SourceDied(error) => {
                            return Poll::Ready(Ended::Died(from, End::of(&error)));
                        }
                        Copied::SinkDied(error) => Err(error),
                    }
                }
            };
            match result {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    if let Some(ended) = self.lose(to, &error) {
                        return Poll::Ready(ended);
                    }
                }
                _ => {}
            }
        }
    }

    /// Reads once and writes at once what was read; what the sink does not take is left over.
    fn copy_once(&mut self, direction: Direction, source: &TcpStream, sink: &TcpStream) -> Copied {
        BUFFER.with_borrow_mut(|buffer| {
            let count = match source.try_read(buffer) {
                Ok(0) => return Copied::End,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Copied::Some,
                Err(error) => return Copied::SourceDied(error),
            };
            self.note_read(direction, &buffer[..count]);
            let written = match sink.try_write(&buffer[..count]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Copied::SinkDied(error),
            };
            self.half(direction).keep(&buffer[written..count]);
            self.note_written(direction, written);
            Copied::Some
        })
    }

    /// A leg takes no more bytes. What it said before is still passed on, if there can be any.
    fn lose(&mut self, leg: Leg, error: &io::Error) -> Option<Ended> {
        let (towards, from) = match leg {
            Leg::Server => (&mut self.up, &self.down),
            Leg::Client => (&mut self.down, &self.up),
        };
        towards.close();
        self.lost = Some((leg, End::of(error)));
        from.closed().then_some(Ended::Died(leg, End::of(error)))
    }

    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn note_read(&mut self, direction: Direction, bytes: &[u8]) {
        let now = now();
        let speech = self.records[direction as usize].feed(bytes);
        self.record.carried(direction, speech, now);
        match direction {
            Direction::Up => self.record.client_said(bytes),
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
                self.table.sent(self.record, now, PATIENCE);
            }
            self.record.touch_half_closed(now);
        }
    }
}

/// What came of one read and write.
enum Copied {
    /// Bytes, or none this time.
    Some,
    /// The source said FIN.
    End,
    SourceDied(io::Error),
    SinkDied(io::Error),
}
