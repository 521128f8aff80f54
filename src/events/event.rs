//! The kinds of events, and the words for them.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{BackendName, Doubt, Reason, State};

/// Something that happened on the control thread, or that it noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The proxy serves.
    Started {
        /// The program's version.
        version: String,
        /// Backends of its configuration.
        backends: usize,
    },
    /// The proxy was told to end.
    ShuttingDown {
        /// How long open connections may go on.
        within: Duration,
    },
    /// A backend is in another state.
    State {
        /// Which.
        backend: BackendName,
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// What put it there.
        reason: Reason,
    },
    /// A backend is ready, but something about it should be mended.
    Reservation {
        /// Which.
        backend: BackendName,
        /// What.
        reason: Reason,
    },
    /// Traffic made us doubt a backend.
    Doubt {
        /// Which.
        backend: BackendName,
        /// What was noticed.
        doubt: Doubt,
    },
    /// The connections of a dead backend were reset, so that their clients come back through another.
    Failover {
        /// The dead one.
        backend: BackendName,
        /// How many were reset.
        connections: u64,
        /// How many it still has: a byte came on them, or its death is over.
        left: usize,
        /// Why it is dead.
        reason: Reason,
    },
    /// Connections begin to move at quiet moments.
    MovesBegun {
        /// Away from this one, or onto it: see the cause.
        backend: BackendName,
        /// Why they move.
        cause: Cause,
        /// How many are to, about.
        connections: u64,
        /// Over which time.
        within: Duration,
    },
    /// No more of them move.
    MovesEnded {
        /// As at the beginning.
        backend: BackendName,
        /// As at the beginning.
        cause: Cause,
        /// How many did.
        moved: u64,
        /// How many are left on a backend that was to lose all.
        left: usize,
    },
    /// The configuration was read again.
    Reload(Reload),
    /// Discovery learned something.
    Discovery {
        /// `dns`, `file`, `kubernetes`, `cache`: as in `apiproxy_endpoints{source}`.
        source: String,
        /// What.
        change: Discovery,
    },
    /// Listening sockets go from one process to another.
    Handover(Handover),
}

/// Why connections move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Onto a backend that is ready again.
    Rebalance,
    /// Away from a backend that says no, or was taken out.
    Drain,
}

/// How reading the configuration again ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied {
        /// Its number: 2 for the first reload.
        generation: u64,
        /// What changed, in words.
        changes: String,
    },
    /// It is wrong; the last good one stays in force.
    Refused {
        /// What is wrong with it.
        faults: String,
    },
}

/// What discovery learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// The set of servers.
    Changed {
        /// New ones.
        added: Vec<String>,
        /// Those that are named no longer.
        removed: Vec<String>,
    },
    /// The addresses of a backend's name.
    Resolved {
        /// Which backend.
        backend: BackendName,
        /// Its addresses now.
        addresses: Vec<SocketAddr>,
    },
    /// An answer that changes nothing: it failed, is empty or absurd.
    Refused {
        /// Why.
        why: String,
    },
}

/// How far a handover has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handover {
    /// We took the sockets over.
    Taken {
        /// From this process.
        from: u32,
    },
    /// We gave them away, and drain.
    Given {
        /// To this process.
        to: u32,
    },
    /// It did not come about; everything stays as it was.
    Failed {
        /// Why.
        why: String,
    },
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Part of many good days.
    Detail,
    /// Good to know.
    Info,
    /// Something is not as it should be.
    Warning,
}

impl Event {
    /// One word for filters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::ShuttingDown { .. } => "shuttingDown",
            Self::State { .. } => "state",
            Self::Reservation { .. } => "reservation",
            Self::Doubt { .. } => "doubt",
            Self::Failover { .. } => "failover",
            Self::MovesBegun { cause: Cause::Rebalance, .. } => "rebalanceBegun",
            Self::MovesBegun { cause: Cause::Drain, .. } => "drainBegun",
            Self::MovesEnded { cause: Cause::Rebalance, .. } => "rebalanceEnded",
            Self::MovesEnded { cause: Cause::Drain, .. } => "drainEnded",
            Self::Reload(_) => "reload",
            Self::Discovery { .. } => "discovery",
            Self::Handover(_) => "handover",
        }
    }

    /// The backend that it is about.
    pub fn backend(&self) -> Option<&BackendName> {
        match self {
            Self::State { backend, .. }
            | Self::Reservation { backend, .. }
            | Self::Doubt { backend, .. }
            | Self::Failover { backend, .. }
            | Self::MovesBegun { backend, .. }
            | Self::MovesEnded { backend, .. }
            | Self::Discovery { change: Discovery::Resolved { backend, .. }, .. } => Some(backend),
            _ => None,
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Doubt { .. } => Severity::Detail,
            Self::State { to: State::Ready | State::Drained, .. } => Severity::Info,
            Self::State { .. }
            | Self::Reservation { .. }
            | Self::Failover { .. }
            | Self::Reload(Reload::Refused { .. })
            | Self::Discovery { change: Discovery::Refused { .. }, .. }
            | Self::Handover(Handover::Failed { .. }) => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// Can it come again and again without anything new?
    pub(super) fn repeats(&self) -> bool {
        matches!(
            self,
            Self::Doubt { .. }
                | Self::Reservation { .. }
                | Self::Reload(Reload::Refused { .. })
                | Self::Discovery { change: Discovery::Refused { .. }, .. }
        )
    }

    /// The reason's code, where there is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::State { reason, .. }
            | Self::Reservation { reason, .. }
            | Self::Failover { reason, .. } => Some(&reason.code),
            Self::Doubt { doubt, .. } => Some(doubt.as_str()),
            _ => None,
        }
    }

    /// What happened, as a sentence without the backend's name.
    pub fn message(&self) -> String {
        match self {
            Self::Started { version, backends } => {
                format!("apiproxy {version} serves, {}", count(*backends as u64, "backend"))
            }
            Self::ShuttingDown { within } => {
                // What is left of it by the time this is said, a moment less.
                let seconds = within.as_secs_f64();
                format!("told to end; connections may go on for {seconds:.0} s")
            }
            Self::State { from, to, reason, .. } => format!("{from} -> {to}: {reason}"),
            Self::Reservation { reason, .. } => format!("ready, but {reason}"),
            Self::Doubt { doubt, .. } => doubt.describe().to_owned(),
            Self::Failover { connections, left, reason, .. } => {
                let reset = count(*connections, "connection");
                let left = if *left == 0 { String::new() } else { format!(", {left} left") };
                format!("{reset} reset{left}: {reason}")
            }
            Self::MovesBegun { cause, connections, within, .. } => {
                let some = count(*connections, "connection");
                match cause {
                    Cause::Rebalance => format!("about {some} to move here within {within:?}"),
                    Cause::Drain => format!("{some} to leave within {within:?}"),
                }
            }
            Self::MovesEnded { cause: Cause::Rebalance, moved, .. } => {
                format!("{} moved", count(*moved, "connection"))
            }
            Self::MovesEnded { cause: Cause::Drain, moved, left, .. } => {
                format!("{} moved away, {left} left", count(*moved, "connection"))
            }
            Self::Reload(Reload::Applied { generation, changes }) => {
                format!("configuration {generation} is in force: {changes}")
            }
            Self::Reload(Reload::Refused { faults }) => {
                format!("refused, the last good configuration stays: {faults}")
            }
            Self::Discovery { source, change } => format!("{source}: {}", change.message()),
            Self::Handover(Handover::Taken { from }) => {
                format!("listening sockets taken over from process {from}")
            }
            Self::Handover(Handover::Given { to }) => {
                format!("listening sockets given to process {to}; this one drains")
            }
            Self::Handover(Handover::Failed { why }) => format!("failed, nothing changes: {why}"),
        }
    }
}

impl Discovery {
    fn message(&self) -> String {
        match self {
            Self::Changed { added, removed } => {
                let part = |word: &str, names: &[String]| match names {
                    [] => None,
                    names => Some(format!("{word} {}", names.join(", "))),
                };
                let parts = [part("added", added), part("no longer named", removed)];
                parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
            }
            Self::Resolved { addresses, .. } => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("resolved to {}", addresses.join(", "))
            }
            Self::Refused { why } => format!("{why}; the last known servers stay"),
        }
    }
}

/// `1 connection`, `2 connections`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
