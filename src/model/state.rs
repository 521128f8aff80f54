//! The states of a backend and what put it there.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What a backend is good for, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Not probed yet.
    Unknown,
    /// Answers its check: takes new connections.
    Ready,
    /// Alive, but says no: new connections go elsewhere, existing ones live.
    NotReady,
    /// Refuses, resets or stays silent: its connections are reset.
    Dead,
    /// Taken out by an operator.
    Drained,
}

impl State {
    /// Every state, in the order of the metric's label values.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::Ready, Self::NotReady, Self::Dead, Self::Drained];

    /// The word used in metrics, status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ready => "ready",
            Self::NotReady => "notReady",
            Self::Dead => "dead",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a probe failed to hear a healthy answer. The label values of `apiproxy_probes_total{result}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The server's kernel refused the connection (RST to our SYN).
    Refused,
    /// The connection was reset or closed before an answer.
    Reset,
    /// No answer within the probe's timeout.
    Timeout,
    /// No route to the host or network.
    Unreachable,
    /// The TLS handshake failed for a reason other than the certificate.
    Tls,
    /// The certificate is from an unknown CA.
    UnknownCa,
    /// The certificate has expired or is not yet valid.
    Expired,
    /// The certificate is for another name.
    WrongName,
    /// The answer was not HTTP.
    Protocol,
    /// The backend's name has no address.
    Unresolved,
}

impl Failure {
    /// Every failure, for metrics.
    pub const ALL: [Self; 10] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::Tls,
        Self::UnknownCa,
        Self::Expired,
        Self::WrongName,
        Self::Protocol,
        Self::Unresolved,
    ];

    /// Did the server answer, with a certificate that will not do?
    pub const fn is_certificate(self) -> bool {
        matches!(self, Self::UnknownCa | Self::Expired | Self::WrongName)
    }

    /// The word used in metrics, status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::UnknownCa => "unknownCA",
            Self::Expired => "expired",
            Self::WrongName => "wrongName",
            Self::Protocol => "protocol",
            Self::Unresolved => "unresolved",
        }
    }
}

/// Why a backend is in its state, in words an operator can act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// One word for metrics and filters, such as `timeout` or `status500`.
    pub code: String,
    /// The whole sentence, such as `no answer within 1s`.
    pub message: String,
}

impl Reason {
    /// A reason of a code and a message.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A backend's state with the evidence for it. Written by the health component only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The state in force.
    pub state: State,
    /// When it was entered.
    pub since: Instant,
    /// What the last probe that counted said.
    pub reason: Reason,
    /// A healthy state with something an operator should mend (401/403 without a client certificate).
    pub warning: Option<Reason>,
    /// When the first probe of the current run of silent or refused ones began: the moment from
    /// which a byte from the backend spares a connection. `None` unless the state is `dead` by silence or refusal.
    pub failing_since: Option<Instant>,
    /// Connections are reset only from here on: later than `since` when a recent mass reset of the
    /// same backend doubles the evidence asked for. `None` as `failing_since`.
    pub reset_from: Option<Instant>,
    /// Doubt by the data path or a failed probe; probes run at `fastInterval` until it is settled,
    /// and new connections prefer other backends.
    pub suspect: bool,
    /// A probe has failed since the last good one, while the state is still `ready`.
    pub failing: bool,
    /// When the backend last came back from `dead` or `notReady`; its share then grows over the
    /// slow-start time. `None` after our own start.
    pub recovered_at: Option<Instant>,
}

impl Condition {
    /// Not probed yet, as at start.
    pub fn unknown(now: Instant) -> Self {
        Self {
            state: State::Unknown,
            since: now,
            reason: Reason::new("notProbed", "not probed yet"),
            warning: None,
            failing_since: None,
            reset_from: None,
            suspect: false,
            failing: false,
            recovered_at: None,
        }
    }
}
