//! Copies what is kept in the snapshot and its backends into the metrics registry.

use crate::metrics::Metrics;
use crate::model::{CloseReason, ConnectOutcome, Direction, Snapshot, State};

/// Brings the metrics of all backends up to date.
pub(super) fn backends(metrics: &Metrics, snapshot: &Snapshot) {
    for entry in &snapshot.entries {
        let backend = entry.backend.name.as_str();
        let counters = &entry.backend.counters;
        metrics.set(
            "apiproxy_connections_active",
            &[("backend", backend)],
            float(counters.active()),
        );
        for outcome in ConnectOutcome::ALL {
            let labels = [("backend", backend), ("result", outcome.as_str())];
            metrics.total("apiproxy_connections_total", &labels, counters.connects(*outcome));
        }
        for reason in CloseReason::ALL {
            let labels = [("backend", backend), ("reason", reason.as_str())];
            metrics.total("apiproxy_connections_closed_total", &labels, counters.closes(*reason));
        }
        let rebalanced = counters.closes(CloseReason::Rebalanced);
        metrics.total("apiproxy_rebalanced_total", &[("backend", backend)], rebalanced);
        for direction in Direction::ALL {
            let labels = [("backend", backend), ("direction", direction.as_str())];
            metrics.total("apiproxy_bytes_total", &labels, counters.bytes(direction));
        }
        for state in State::ALL {
            let labels = [("backend", backend), ("state", state.as_str())];
            let value = if entry.state() == state { 1.0 } else { 0.0 };
            metrics.set("apiproxy_backend_state", &labels, value);
        }
    }
    metrics.set("apiproxy_endpoints", &[("source", "static")], float(snapshot.entries.len()));
}

/// Exact up to 2^53, which no count of connections reaches.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}
