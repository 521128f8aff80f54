//! What a server's thread and its handle share: what it counts, and how it is to answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::watch;

use super::slices::Said;

/// What a server has counted since it was first started; restarts do not reset it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// TCP connections accepted.
    pub connections: u64,
    /// TCP connections accepted and not yet closed.
    pub active: u64,
    /// Requests whose answer was handed to HTTP, whatever its status.
    pub requests: u64,
    /// Watch streams open now.
    pub watches: u64,
    /// TLS handshakes completed in full.
    pub full_handshakes: u64,
    /// TLS handshakes that resumed a session.
    pub resumed_handshakes: u64,
}

/// How requests are answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) readyz: StatusCode,
    pub(super) delay: Duration,
    pub(super) bookmarks: Duration,
    pub(super) client_cert_required: bool,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) counters: watch::Sender<Counters>,
    pub(super) slices: watch::Sender<Said>,
    /// The client certificate that was shown last, DER.
    last_client: Mutex<Option<Vec<u8>>>,
    behaviour: Mutex<Behaviour>,
}

impl Shared {
    pub(super) fn new(name: &str) -> Arc<Self> {
        let behaviour = Behaviour {
            readyz: StatusCode::OK,
            delay: Duration::ZERO,
            bookmarks: Duration::from_secs(1),
            client_cert_required: false,
        };
        Arc::new(Self {
            name: name.to_owned(),
            counters: watch::Sender::default(),
            slices: watch::Sender::default(),
            last_client: Mutex::default(),
            behaviour: Mutex::new(behaviour),
        })
    }

    pub(super) fn last_client(&self) -> Option<Vec<u8>> {
        self.last_client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_client(&self, certificate: &[u8]) {
        let mut last = self.last_client.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(certificate.to_vec());
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.counters.send_modify(change);
    }

    /// Counts one more in `gauge` until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, gauge: fn(&mut Counters) -> &mut u64) -> Held {
        self.count(|counters| *gauge(counters) += 1);
        Held { shared: Arc::clone(self), gauge }
    }
}

/// One of what a gauge counts, for as long as it lives.
pub(super) struct Held {
    shared: Arc<Shared>,
    gauge: fn(&mut Counters) -> &mut u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.count(|counters| *(self.gauge)(counters) -= 1);
    }
}
