//! The text of `/metrics`: the registry's, and what is kept in the snapshot and its backends.

use super::Cluster;
use super::status::age;
use crate::metrics::{Metrics, Series};
use crate::model::{
    CloseReason, ClusterName, ConnectOutcome, Direction, Entry, Reader, SourceState, Standing,
    State,
};

/// All metrics as they are now. A backend that has left leaves no series behind, nor does a cluster.
pub(super) fn text(metrics: &Metrics, clusters: &[Cluster]) -> String {
    let snapshots: Vec<_> =
        clusters.iter().map(|cluster| Reader::load(&cluster.snapshot)).collect();
    let entries: Vec<&Entry> = snapshots.iter().flat_map(|snapshot| &snapshot.entries).collect();
    let shown: Vec<&Entry> = entries.iter().filter(|e| is_shown(e, &entries)).copied().collect();
    let name = |cluster: &'_ Cluster| cluster.name.as_ref().map(|name| name.as_str().to_owned());
    let names: Vec<_> = clusters.iter().map(name).collect();
    let is_known = |cluster: Option<&str>, backend: Option<&str>| match backend {
        Some(backend) => shown.iter().any(|entry| {
            let name = &entry.backend.name;
            name.own() == backend && name.cluster() == cluster
        }),
        None => names.iter().any(|name| name.as_deref() == cluster),
    };
    metrics.render(is_known) + &endpoints(clusters) + &backends(&shown)
}

/// A backend on its way out gives its name up to one that has the same.
fn is_shown(entry: &Entry, all: &[&Entry]) -> bool {
    let first = all.iter().find(|other| other.backend.name == entry.backend.name);
    entry.standing != Standing::Leaving || first.is_some_and(|first| std::ptr::eq(*first, entry))
}

/// Where backends come from.
fn endpoints(clusters: &[Cluster]) -> String {
    let mut series = Series::default();
    let states: Vec<(Option<ClusterName>, Vec<SourceState>)> = clusters
        .iter()
        .filter(|cluster| !cluster.leaving.get())
        .map(|cluster| (cluster.name.clone(), cluster.sources.borrow().clone()))
        .collect();
    let all = || states.iter().flat_map(|(name, states)| states.iter().map(move |s| (name, s)));
    for (name, state) in all() {
        series.add("apiproxy_endpoints", &of(name.as_ref(), state), state.servers as u64);
    }
    for (name, state) in all() {
        if let Some(age) = age(state) {
            series.add("apiproxy_endpoints_age_seconds", &of(name.as_ref(), state), age.as_secs());
        }
    }
    series.into_text()
}

/// The labels of a source.
fn of<'a>(name: Option<&'a ClusterName>, state: &SourceState) -> Vec<(&'static str, &'a str)> {
    let cluster = name.map(|name| ("cluster", name.as_str()));
    cluster.into_iter().chain([("source", state.source)]).collect()
}

/// The metrics of the backends. They come from the backends themselves, so that they begin and end
/// with them.
fn backends(entries: &[&Entry]) -> String {
    let mut series = Series::default();
    for entry in entries {
        let active = entry.backend.counters.active() as u64;
        series.add("apiproxy_connections_active", &labels(entry, None), active);
    }
    for entry in entries {
        for outcome in ConnectOutcome::ALL {
            let labels = labels(entry, Some(("result", outcome.as_str())));
            let value = entry.backend.counters.connects(*outcome);
            series.add("apiproxy_connections_total", &labels, value);
        }
    }
    for entry in entries {
        for reason in CloseReason::ALL {
            let labels = labels(entry, Some(("reason", reason.as_str())));
            let value = entry.backend.counters.closes(*reason);
            series.add("apiproxy_connections_closed_total", &labels, value);
        }
    }
    for entry in entries {
        let value = entry.backend.counters.closes(CloseReason::Rebalanced);
        series.add("apiproxy_rebalanced_total", &labels(entry, None), value);
    }
    for entry in entries {
        for direction in Direction::ALL {
            let labels = labels(entry, Some(("direction", direction.as_str())));
            series.add("apiproxy_bytes_total", &labels, entry.backend.counters.bytes(direction));
        }
    }
    for entry in entries {
        for state in State::ALL {
            let labels = labels(entry, Some(("state", state.as_str())));
            series.add("apiproxy_backend_state", &labels, u64::from(entry.state() == state));
        }
    }
    series.into_text()
}

fn labels<'a>(
    entry: &'a Entry,
    more: Option<(&'static str, &'a str)>,
) -> Vec<(&'static str, &'a str)> {
    entry.backend.name.labels(more)
}
