//! The text of `/metrics`: the registry's, and what is kept in the snapshot and its backends.

use super::status::age;
use crate::metrics::{Metrics, Series};
use crate::model::{
    CloseReason, ConnectOutcome, Direction, Entry, Snapshot, SourceState, Standing, State,
};

/// All metrics as they are now. A backend that has left leaves no series behind.
pub(super) fn text(metrics: &Metrics, snapshot: &Snapshot, sources: &[SourceState]) -> String {
    let shown: Vec<&Entry> = snapshot.entries.iter().filter(|e| is_shown(e, snapshot)).collect();
    let is_known = |name: &str| shown.iter().any(|entry| entry.backend.name.as_str() == name);
    metrics.render(is_known) + &endpoints(sources) + &backends(&shown)
}

/// A backend on its way out gives its name up to one that has the same.
fn is_shown(entry: &Entry, snapshot: &Snapshot) -> bool {
    let is_named_so = |other: &&Entry| other.backend.name == entry.backend.name;
    let first = snapshot.entries.iter().find(is_named_so);
    entry.standing != Standing::Leaving || first.is_some_and(|first| std::ptr::eq(first, entry))
}

/// Where backends come from.
fn endpoints(sources: &[SourceState]) -> String {
    let mut series = Series::default();
    for state in sources {
        let servers = state.servers as u64;
        series.add("apiproxy_endpoints", &[("source", state.source)], servers);
    }
    for state in sources {
        if let Some(age) = age(state) {
            let labels = [("source", state.source)];
            series.add("apiproxy_endpoints_age_seconds", &labels, age.as_secs());
        }
    }
    series.into_text()
}

/// The metrics of the backends. They come from the backends themselves, so that they begin and end
/// with them.
fn backends(entries: &[&Entry]) -> String {
    let mut series = Series::default();
    for entry in entries {
        let active = entry.backend.counters.active() as u64;
        series.add("apiproxy_connections_active", &[("backend", name(entry))], active);
    }
    for entry in entries {
        for outcome in ConnectOutcome::ALL {
            let labels = [("backend", name(entry)), ("result", outcome.as_str())];
            let value = entry.backend.counters.connects(*outcome);
            series.add("apiproxy_connections_total", &labels, value);
        }
    }
    for entry in entries {
        for reason in CloseReason::ALL {
            let labels = [("backend", name(entry)), ("reason", reason.as_str())];
            let value = entry.backend.counters.closes(*reason);
            series.add("apiproxy_connections_closed_total", &labels, value);
        }
    }
    for entry in entries {
        let value = entry.backend.counters.closes(CloseReason::Rebalanced);
        series.add("apiproxy_rebalanced_total", &[("backend", name(entry))], value);
    }
    for entry in entries {
        for direction in Direction::ALL {
            let labels = [("backend", name(entry)), ("direction", direction.as_str())];
            series.add("apiproxy_bytes_total", &labels, entry.backend.counters.bytes(direction));
        }
    }
    for entry in entries {
        for state in State::ALL {
            let labels = [("backend", name(entry)), ("state", state.as_str())];
            series.add("apiproxy_backend_state", &labels, u64::from(entry.state() == state));
        }
    }
    series.into_text()
}

fn name(entry: &Entry) -> &str {
    entry.backend.name.as_str()
}
