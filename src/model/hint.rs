//! What the data path noticed about a backend and tells the health component.

use std::sync::Arc;
use std::time::Instant;

use super::Backend;

/// Why the data path doubts a backend: `apiproxy_suspicions_total{reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// A connection could not be made.
    Connect,
    /// A connection was reset, or closed before the backend said anything.
    Reset,
    /// A client broke its TLS handshake off after the backend's first word, as one does that does not
    /// trust the certificate.
    Handshake,
    /// Client bytes have waited about a second for an answer.
    Silence,
    /// Sent bytes stay unacknowledged.
    Unacknowledged,
}

impl Doubt {
    /// Every doubt, in label order.
    pub const ALL: [Self; 5] =
        [Self::Connect, Self::Reset, Self::Handshake, Self::Silence, Self::Unacknowledged];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Handshake => "handshake",
            Self::Silence => "silence",
            Self::Unacknowledged => "unacknowledged",
        }
    }

    /// What was noticed, in words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Connect => "a connection could not be made",
            Self::Reset => "a connection was reset, or closed before its first byte",
            Self::Handshake => "a client broke its TLS handshake off",
            Self::Silence => "client bytes wait for an answer",
            Self::Unacknowledged => "sent bytes stay unacknowledged",
        }
    }
}

/// A hint. It never decides anything: it starts probes.
#[derive(Clone, Debug)]
pub enum Hint {
    /// Something looks wrong.
    Doubt {
        /// The backend.
        backend: Arc<Backend>,
        /// What looks wrong.
        doubt: Doubt,
        /// When it began.
        since: Instant,
    },
    /// A backend that is not ready took a connection.
    Connected {
        /// The backend.
        backend: Arc<Backend>,
    },
}

/// Where data threads drop their hints. When the health component lags behind, hints are lost
/// rather than waited for: it has plenty to act on then.
#[derive(Clone, Debug)]
pub struct Hints(tokio::sync::mpsc::Sender<Hint>);

impl Hints {
    /// A sending side and what it sends to. 256 hints fit.
    pub fn channel() -> (Self, tokio::sync::mpsc::Receiver<Hint>) {
        let (sender, receiver) = tokio::sync::mpsc::channel(256);
        (Self(sender), receiver)
    }

    /// Tells the health component, if it has room.
    pub fn give(&self, hint: Hint) {
        // Both failures are meant: a full channel loses the hint, a closed one is the end.
        let _ = self.0.try_send(hint);
    }
}
