//! The log line of an event, with the fields that a collector filters by.

use tracing::{debug, info, warn};

use super::event::{Cause, Discovery, Event, Handover, Reload, Severity};

impl Event {
    /// Writes the line. `left_out`: how many like it had none.
    pub(super) fn log(&self, left_out: u64) {
        let event = self.kind();
        match self {
            // Where it serves is told by the line of the one who bound the sockets.
            Self::Started { version, backends } => debug!(event, version, backends, "started"),
            Self::ShuttingDown { within } => {
                info!(event, for_at_most = ?within, "draining: no new clients; open connections may end");
            }
            Self::State { backend, from, to, reason } => {
                if self.severity() == Severity::Info {
                    info!(event, backend = backend.as_str(), %from, %to, code = reason.code, %reason, "backend state");
                } else {
                    warn!(event, backend = backend.as_str(), %from, %to, code = reason.code, %reason, "backend state");
                }
            }
            Self::Reservation { backend, reason } => {
                warn!(event, backend = backend.as_str(), warning = %reason, left_out, "backend is ready, with a reservation");
            }
            Self::Doubt { backend, doubt } => {
                debug!(
                    event,
                    backend = backend.as_str(),
                    reason = doubt.as_str(),
                    left_out,
                    "suspicious"
                );
            }
            Self::Failover { backend, connections, left, reason } => {
                warn!(event, backend = backend.as_str(), connections, left, %reason, "failover: connections of a dead backend were reset");
            }
            Self::MovesBegun { backend, cause, connections, within } => match cause {
                Cause::Rebalance => {
                    info!(
                        event,
                        backend = backend.as_str(),
                        connections,
                        ?within,
                        "connections begin to move to it"
                    );
                }
                Cause::Drain => {
                    info!(
                        event,
                        backend = backend.as_str(),
                        connections,
                        ?within,
                        "connections begin to leave it"
                    );
                }
            },
            Self::MovesEnded { backend, moved, left, .. } => {
                info!(event, backend = backend.as_str(), moved, left, "no more connections move");
            }
            Self::Reload(Reload::Applied { generation, changes }) => {
                info!(event, generation, changes, "the configuration was reloaded");
            }
            Self::Reload(Reload::Refused { faults }) => {
                warn!(
                    event,
                    faults,
                    left_out,
                    "the new configuration is refused; the last good one stays in force"
                );
            }
            Self::Discovery { source, change } => match change {
                Discovery::Changed { added, removed } => {
                    info!(event, source, ?added, ?removed, "servers have changed");
                }
                Discovery::Resolved { backend, addresses } => {
                    info!(event, source, backend = backend.as_str(), ?addresses, "resolved");
                }
                Discovery::Refused { why } => {
                    warn!(
                        event,
                        source, why, left_out, "discovery failed; the last known servers stay"
                    );
                }
            },
            Self::Handover(Handover::Taken { from }) => {
                info!(event, from, "listening sockets were taken over");
            }
            Self::Handover(Handover::Given { to }) => {
                info!(event, to, "listening sockets were given away");
            }
            Self::Handover(Handover::Failed { why }) => {
                warn!(event, why, "the handover failed; this process goes on");
            }
        }
    }
}
