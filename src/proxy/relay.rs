//! Carries bytes between a client and its backend, exactly, until both ends are done or one dies.

mod bare;
mod end;
mod half;
#[cfg(any(test, fuzzing))]
pub(super) mod model;
mod pipes;
mod pump;
mod records;

use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::Interest;

use super::table::Record;
use super::worker::Worker;
use crate::model::Direction;
use crate::net;
use half::Half;
use pipes::Pipe;

pub use pipes::PipeMemory;

pub(super) use bare::Bare;
pub(super) use end::{End, Ended, Leg};
pub(super) use pipes::Pipes;
pub(super) use records::{Records, Speech};

/// Relays until the end. The streams stay in the record; the caller closes them by dropping it.
pub(super) async fn run(worker: &Worker, record: &Rc<Record>) -> Ended {
    let mut relay = Relay {
        worker,
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
    worker: &'a Worker,
    record: &'a Rc<Record>,
    up: Half<Pipe>,
    down: Half<Pipe>,
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
                    return Poll::Ready(Some(Ended::by(Leg::Client, &error)));
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
        let Some(wish) = self.record.moving().filter(|wish| !wish.forced) else { return false };
        self.record.last_byte.get() > wish.asked
            || !self.record.between_records.get()
            || net::has_unread(&self.record.client)
            || net::has_unread(&self.record.server)
    }

    /// A leg takes no more bytes. What it said before is still passed on, if there can be any.
    fn lose(&mut self, leg: Leg, error: &io::Error) -> Option<Ended> {
        let ended = Ended::by(leg, error);
        let Ended::Died(_, end) = ended else { return Some(ended) };
        let (towards, from) = match leg {
            Leg::Server => (&mut self.up, &self.down),
            Leg::Client => (&mut self.down, &self.up),
        };
        towards.close();
        self.lost = Some((leg, end));
        from.closed().then_some(ended)
    }

    fn half(&mut self, direction: Direction) -> &mut Half<Pipe> {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}
