//! The life of one client connection: connect, relay, close, count.

use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::net::TcpStream;
use tracing::debug;

use super::connect::{ConnectError, Connected};
use super::relay::{End, Ended, Leg};
use super::table::Record;
use super::worker::Worker;
use crate::model::{CloseReason, Doubt, Hint};
use crate::net;

/// A client that no backend carries yet. Whatever becomes of it, also when its thread ends, it is told
/// RST: a FIN would look like a server that hung up.
pub(super) struct Unserved<S: AsFd>(Option<S>);

impl<S: AsFd> Unserved<S> {
    pub(super) fn new(stream: S) -> Self {
        Self(Some(stream))
    }

    /// It is carried from now on. `None` only when this was asked before.
    pub(super) fn served(mut self) -> Option<S> {
        self.0.take()
    }
}

impl<S: AsFd> Drop for Unserved<S> {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            net::reset_on_close(stream);
        }
    }
}

/// Joins the client to the backend that takes it, or lets it be reset when none does.
///
/// Not asynchronous, like most of what is here: what a future has been given it keeps room for, and
/// an idle connection would carry that for life.
pub(super) fn open(
    worker: &Worker,
    client: Unserved<TcpStream>,
    connected: Result<Connected, ConnectError>,
) -> Option<Rc<Record>> {
    match connected {
        Ok(Connected { stream: server, active }) => {
            let client = client.served()?;
            Some(Rc::new(Record::new(client, server, active)))
        }
        Err(error) => {
            worker.shared.metrics.unserved.increment(1);
            debug!(%error, "no backend for a client");
            None
        }
    }
}

/// Relays until the end, and counts it.
pub(super) async fn carry(worker: &Worker, record: &Rc<Record>) {
    let entered = worker.table.enter(record);
    let ended = super::relay::run(worker, record).await;
    drop(entered);
    finish(worker, record, ended);
}

/// Passes the kind of the end on and counts it.
fn finish(worker: &Worker, record: &Record, ended: Ended) {
    let backend = record.active.backend();
    let reason = match ended {
        Ended::Finished => CloseReason::Finished,
        Ended::Closed(reason) => reason,
        Ended::Died(Leg::Client, End::Reset) => CloseReason::ClientReset,
        Ended::Died(Leg::Client, End::TimedOut) => CloseReason::ClientTimeout,
        Ended::Died(Leg::Server, End::Reset) => CloseReason::BackendReset,
        Ended::Died(Leg::Server, End::TimedOut) => CloseReason::BackendTimeout,
    };
    backend.counters.close(reason);
    let orderly = matches!(reason, CloseReason::Finished | CloseReason::HalfClosed);
    if !orderly && !reason.is_gentle() {
        net::reset_on_close(&record.client);
        net::reset_on_close(&record.server);
    }
    let unheard = record.heard.get().is_none() && record.unanswered.get().is_some();
    let hung_up = reason == CloseReason::Finished && unheard;
    let broken_off = matches!(reason, CloseReason::Finished | CloseReason::ClientReset)
        && record.handshake_unfinished();
    let doubt = match reason {
        _ if hung_up => Some(Doubt::Reset),
        CloseReason::BackendReset => Some(Doubt::Reset),
        _ => broken_off.then_some(Doubt::Handshake),
    };
    if let Some(doubt) = doubt {
        worker.shared.hints.give(Hint::Doubt {
            backend: backend.clone(),
            doubt,
            since: tokio::time::Instant::now().into_std(),
        });
    }
    debug!(backend = %backend.name, reason = reason.as_str(), "a connection ended");
}
