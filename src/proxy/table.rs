//! The connections of one data thread: what is known of each, and how to end one from outside.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::relay::Speech;
use super::sweep::Evidence;
use crate::model::{Active, CloseReason, Direction};
use crate::rebalance::{Move, Traffic};

/// One relayed connection. Written by its relay, read by the sweeper of the same thread; it lives
/// until the relay is done.
pub(super) struct Record {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    pub(super) active: Active,
    /// When the backend was last heard; `None` before its first byte.
    pub(super) heard: Cell<Option<Instant>>,
    /// When the first client byte was sent that the backend has not answered by any byte since.
    pub(super) unanswered: Cell<Option<Instant>>,
    /// The client takes no bytes, so that the backend is not read: its silence proves nothing.
    pub(super) held_back: Cell<bool>,
    /// The last byte either way.
    pub(super) last_byte: Cell<Instant>,
    /// Both directions are between two TLS records (or are not TLS) and hold no left-over bytes.
    pub(super) between_records: Cell<bool>,
    /// Whether a request has no answer yet, as far as record sizes tell.
    asked: Cell<Asked>,
    /// How far the client's TLS handshake has come, as far as sizes tell.
    handshake: Cell<Handshake>,
    /// When it is to move, if it is. Boxed, because most never are.
    moving: Cell<Option<Box<Move>>>,
    /// When one end said FIN, while the other has not.
    pub(super) half_closed: Cell<Option<Instant>>,
    /// Has its server's leg keepalive? The client's has the listener's options.
    kept_alive: Cell<bool>,
    /// Is it in the queue of connections that wait for an answer?
    watched: Cell<bool>,
    /// How long its reset is put off within the spread, as a fraction of 2^16.
    turn: u16,
    closing: Cell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

impl Record {
    pub(super) fn new(client: TcpStream, server: TcpStream, active: Active) -> Self {
        Self {
            client,
            server,
            active,
            heard: Cell::new(None),
            unanswered: Cell::new(None),
            held_back: Cell::new(false),
            last_byte: Cell::new(now()),
            between_records: Cell::new(true),
            asked: Cell::new(Asked::No),
            handshake: Cell::new(Handshake::None),
            moving: Cell::new(None),
            half_closed: Cell::new(None),
            kept_alive: Cell::new(false),
            watched: Cell::new(false),
            turn: fastrand::u16(..),
            closing: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// Asks the relay to end the connection for this reason; the first one counts, except that one
    /// which can wait gives way to one which cannot.
    pub(super) fn close(&self, reason: CloseReason) {
        let before = self.closing.get();
        if before.is_none_or(|before| before.is_gentle() && !reason.is_gentle()) {
            self.closing.set(Some(reason));
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Withdraws a wish for its end that can wait.
    pub(super) fn reprieve(&self) {
        if self.closing.get().is_some_and(CloseReason::is_gentle) {
            self.closing.set(None);
        }
    }

    /// When it is to move, if it is.
    pub(super) fn moving(&self) -> Option<Move> {
        let moving = self.moving.take();
        let wish = moving.as_deref().copied();
        self.moving.set(moving);
        wish
    }

    /// Sets when it is to move, or that it is not.
    pub(super) fn set_moving(&self, wish: Option<Move>) {
        self.moving.set(wish.map(Box::new));
    }

    /// Notes bytes either way.
    pub(super) fn carried(&self, direction: Direction, speech: Speech, now: Instant) {
        self.last_byte.set(now);
        match (direction, speech, self.asked.get()) {
            (Direction::Up, Speech::Message, _) => self.asked.set(Asked::Yes),
            (Direction::Up, Speech::Control, Asked::No) => self.asked.set(Asked::Perhaps(now)),
            (Direction::Down, Speech::Message, _) => self.asked.set(Asked::No),
            _ => {}
        }
    }

    /// Notes so many bytes of the client, before they are passed on, and the first of them if it
    /// was seen.
    pub(super) fn client_said(&self, first: Option<u8>, count: usize) {
        let next = match self.handshake.get() {
            Handshake::None if first == Some(HANDSHAKE_RECORD) => Handshake::Begun,
            Handshake::None => Handshake::Done,
            Handshake::Begun if self.heard.get().is_some() && count > LONGEST_ALERT => {
                Handshake::Done
            }
            Handshake::Begun | Handshake::Done => return,
        };
        self.handshake.set(next);
    }

    /// Has the backend answered the client's hello, and the client not gone on?
    pub(super) fn handshake_unfinished(&self) -> bool {
        self.handshake.get() == Handshake::Begun && self.heard.get().is_some()
    }

    /// What decides whether this is a quiet moment.
    pub(super) fn traffic(&self, now: Instant) -> Traffic {
        let awaits_answer = match self.asked.get() {
            Asked::No => false,
            Asked::Perhaps(since) => now < since + PERHAPS_FOR,
            Asked::Yes => true,
        };
        Traffic {
            last_byte: self.last_byte.get(),
            between_records: self.between_records.get(),
            awaits_answer,
        }
    }

    /// Has somebody asked for its end? Otherwise the relay is woken when somebody does.
    pub(super) fn closing(&self, cx: &Context<'_>) -> Option<CloseReason> {
        if self.closing.get().is_none() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.closing.get()
    }

    /// What the sweeper judges it by.
    pub(super) fn evidence(&self) -> Evidence {
        Evidence {
            heard: self.heard.get(),
            unanswered: self.unanswered.get(),
            held_back: self.held_back.get(),
            turn: self.turn,
        }
    }

    /// Notes a byte while one end is closed.
    pub(super) fn touch_half_closed(&self, now: Instant) {
        if self.half_closed.get().is_some() {
            self.half_closed.set(Some(now));
        }
    }
}

/// The clock of the runtime, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Does a request wait for its answer?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    No,
    /// The client sent no more than a control frame, by its size; but a request that repeats the
    /// last one is as short (all of its headers are references to earlier ones).
    Perhaps(Instant),
    Yes,
}

/// A control frame has no answer, or a quick one: after this time it was no request.
const PERHAPS_FOR: Duration = Duration::from_secs(5);

/// A client's TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    /// The client has said nothing.
    None,
    /// It has said hello.
    Begun,
    /// It has gone on after the backend's answer, or does not speak TLS.
    Done,
}

/// The type of the record that a TLS connection begins with (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What a client says that breaks its handshake off: a change of cipher (6 bytes) and an alert (24 in
/// TLS 1.3, 7 in TLS 1.2). One that goes on says 58 bytes at least.
const LONGEST_ALERT: usize = 40;

/// A connection that is to be looked at again. Ordered so that a heap gives the earliest first.
struct Due {
    at: Instant,
    record: Weak<Record>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

/// All connections of a data thread, and those that wait for something in the order of their time.
#[derive(Default)]
pub(super) struct Table {
    records: RefCell<Slab<Rc<Record>>>,
    waiting: RefCell<BinaryHeap<Due>>,
    /// May there be a half-closed connection?
    some_half_closed: Cell<bool>,
    /// May there be a connection without keepalive?
    some_new: Cell<bool>,
    /// Set at the end of the process: who comes later ends at once.
    closed: Cell<Option<CloseReason>>,
    /// Wakes the sweeper when there is something to look at earlier than before.
    pub(super) news: Notify,
}

/// Keeps a connection in the table for as long as it lives.
pub(super) struct Entered<'a> {
    table: &'a Table,
    key: usize,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.table.records.borrow_mut().remove(self.key);
    }
}

impl Table {
    pub(super) fn enter(&self, record: &Rc<Record>) -> Entered<'_> {
        if let Some(reason) = self.closed.get() {
            record.close(reason);
        }
        let key = self.records.borrow_mut().insert(record.clone());
        // As with half-closed ones, only the first one in a while need wake anybody.
        if !self.some_new.replace(true) {
            self.news.notify_one();
        }
        Entered { table: self, key }
    }

    /// May there be a connection that has not been looked at since it came?
    pub(super) fn has_new(&self) -> bool {
        self.some_new.get()
    }

    /// Calls `look` once with every connection.
    pub(super) fn each_new(&self, mut look: impl FnMut(&Record)) {
        self.some_new.set(false);
        self.each(|record| {
            if !record.kept_alive.replace(true) {
                look(record);
            }
        });
    }

    /// Calls `look` with every connection.
    pub(super) fn each(&self, mut look: impl FnMut(&Record)) {
        for (_, record) in self.records.borrow().iter() {
            look(record);
        }
    }

    /// Ends all connections, also those that come later.
    pub(super) fn close_all(&self, reason: CloseReason) {
        self.closed.set(Some(reason));
        self.each(|record| record.close(reason));
    }

    /// Notes that client bytes went to the backend.
    pub(super) fn sent(&self, record: &Rc<Record>, now: Instant, patience: Duration) {
        if record.unanswered.get().is_some() {
            return;
        }
        record.unanswered.set(Some(now));
        if !record.watched.replace(true) {
            self.wait(now + patience, record);
        }
    }

    /// Notes that one end said FIN and the other has not.
    pub(super) fn half_closed(&self, record: &Rc<Record>, now: Instant) {
        record.half_closed.set(Some(now));
        // Every orderly end passes through here: only the first one in a while need wake anybody.
        if !self.some_half_closed.replace(true) {
            self.news.notify_one();
        }
    }

    /// May there be a half-closed connection?
    pub(super) fn has_half_closed(&self) -> bool {
        self.some_half_closed.get()
    }

    /// Calls `look` with every half-closed connection.
    pub(super) fn each_half_closed(&self, mut look: impl FnMut(&Record, Instant)) {
        let mut some = false;
        self.each(|record| {
            if let Some(silent_since) = record.half_closed.get() {
                some = true;
                look(record, silent_since);
            }
        });
        self.some_half_closed.set(some);
    }

    fn wait(&self, at: Instant, record: &Rc<Record>) {
        let mut queue = self.waiting.borrow_mut();
        if queue.peek().is_none_or(|first| at < first.at) {
            self.news.notify_one();
        }
        queue.push(Due { at, record: Rc::downgrade(record) });
    }

    /// The next moment at which a waiting connection is to be looked at.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.borrow().peek().map(|due| due.at)
    }

    /// Looks at each connection whose time to be answered is over. `look` returns when to look
    /// again; `None` takes it out of the queue.
    pub(super) fn sweep_waiting(
        &self,
        now: Instant,
        mut look: impl FnMut(&Record) -> Option<Instant>,
    ) {
        loop {
            let due = match self.waiting.borrow_mut().peek_mut() {
                Some(first) if first.at <= now => PeekMut::pop(first),
                _ => return,
            };
            let Some(record) = due.record.upgrade() else { continue };
            match look(&record) {
                Some(at) => {
                    let at = at.max(now + Duration::from_millis(1));
                    self.waiting.borrow_mut().push(Due { at, record: due.record });
                }
                None => record.watched.set(false),
            }
        }
    }
}
