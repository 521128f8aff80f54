//! The status document: what `/status` answers and `apiproxy status` shows.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::Cluster;
use super::history::{self, EventStatus};
use crate::events::Events;
use crate::model::{
    CloseReason, ClusterName, ConnectOutcome, Direction, Entry, InForce, Policy, Reason, Snapshot,
    SourceState, State,
};

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// See [`Status::instance`].
    pub(super) instance: String,
    started: Instant,
    handover_generation: Option<u32>,
}

impl Identity {
    /// Of a process that begins to serve now, and which of several that take over from each other it
    /// is.
    pub fn new(started: Instant, handover_generation: Option<u32>) -> Self {
        let instance = format!("{:016x}", fastrand::u64(..));
        Self { instance, started, handover_generation }
    }
}

/// A running proxy, as it sees itself. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// A word that no other process has. The process id is no such word: in a container it is 1.
    #[serde(default)]
    pub instance: String,
    /// `run --generation`: which of several processes that take over from each other serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover_generation: Option<u32>,
    /// Seconds since it began to serve.
    pub uptime_seconds: u64,
    /// Where clients are accepted, of all clusters.
    pub listen: Vec<SocketAddr>,
    /// This node's zone; of several clusters, that of the first.
    pub zone: Option<String>,
    /// The balancing policy; of several clusters, that of the first.
    pub balance: Policy,
    /// Grows with every change of a backend.
    pub generation: u64,
    /// Is a backend ready, of any cluster?
    pub usable: bool,
    /// The clusters, where the configuration lists several by name, in its order; last those that are on
    /// their way out. Empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ClusterStatus>,
    /// Has the process been told to end?
    pub draining: bool,
    /// The configuration in force.
    pub config: ConfigStatus,
    /// Where backends come from.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
    /// The backends, in the order of the configuration; last those that are on their way out.
    pub backends: Vec<BackendStatus>,
    /// The last eight failovers, the oldest first.
    #[serde(default)]
    pub failovers: Vec<EventStatus>,
    /// The number of the latest event: `/events` has news when it has grown.
    #[serde(default)]
    pub latest_event: u64,
}

/// One of several clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Its name, which stands before those of its backends.
    pub name: String,
    /// Where its clients are accepted.
    pub listen: Vec<SocketAddr>,
    /// This node's zone in it.
    pub zone: Option<String>,
    /// The balancing policy.
    pub balance: Policy,
    /// Is a backend ready?
    pub usable: bool,
    /// It is no longer in the configuration, and its last connections end.
    pub leaving: bool,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStatus {
    /// 1 at start; grows with every change that is put in force.
    pub generation: u64,
    /// When it was put in force, RFC 3339 in UTC.
    pub loaded_at: String,
    /// The file it was read from, if one was.
    pub file: Option<PathBuf>,
    /// What is wrong with what was read last, one line a fault; empty when it is in force.
    pub refusal: Vec<String>,
    /// What the file says and only a restart can bring about.
    pub needs_restart: Vec<String>,
}

/// A place where backends come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The cluster whose servers it names, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// `static`, `kubernetes`, `file` or `cache`.
    pub source: String,
    /// The servers it names now.
    pub servers: usize,
    /// Seconds since it last confirmed that; absent for `static`, and before the first answer.
    pub age_seconds: Option<u64>,
    /// Why its last answer was not taken, or there was none.
    pub problem: Option<String>,
}

impl SourceStatus {
    /// Describes the state of a source.
    pub fn new(cluster: Option<&ClusterName>, state: &SourceState) -> Self {
        Self {
            cluster: cluster.map(|cluster| cluster.as_str().to_owned()),
            source: state.source.to_owned(),
            servers: state.servers,
            age_seconds: age(state).map(|age| age.as_secs()),
            problem: state.problem.clone(),
        }
    }
}

/// The time since a source last confirmed what it says.
pub(super) fn age(state: &SourceState) -> Option<Duration> {
    Some(SystemTime::now().duration_since(state.confirmed?).unwrap_or_default())
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Its name, as commands want it: with that of its cluster (`east/cp1`), if there are several.
    pub name: String,
    /// Its cluster, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// As configured.
    pub address: String,
    /// What the address stands for now.
    pub resolved: Vec<SocketAddr>,
    /// Its zone.
    pub zone: Option<String>,
    /// Its state.
    pub state: State,
    /// Is it in doubt at this moment?
    pub suspect: bool,
    /// When it entered the state, RFC 3339 in UTC.
    pub since: String,
    /// Seconds since then.
    pub since_seconds: u64,
    /// Why it is in the state.
    pub reason: ReasonStatus,
    /// Something to mend although it is ready.
    pub warning: Option<ReasonStatus>,
    /// Connections open now.
    pub connections: usize,
    /// Connections made so far.
    pub connections_total: u64,
    /// Attempts to connect that failed for the backend's sake.
    pub connect_failures_total: u64,
    /// Bytes relayed from clients to it.
    pub bytes_up: u64,
    /// Bytes relayed from it to clients.
    pub bytes_down: u64,
    /// Connections reset so far because it was dead.
    #[serde(default)]
    pub resets_total: u64,
    /// How long its last 60 probes took, the oldest first; none where it was not found ready.
    #[serde(default)]
    pub probe_milliseconds: Vec<Option<f64>>,
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonStatus {
    /// One word.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl Status {
    /// Describes the clusters.
    pub(super) fn new(
        identity: &Identity,
        clusters: &[Cluster],
        in_force: &InForce,
        draining: bool,
        events: &Events,
    ) -> Self {
        let now = Instant::now();
        let snapshots: Vec<_> = clusters.iter().map(|cluster| cluster.snapshot.load()).collect();
        let each = || clusters.iter().zip(&snapshots);
        let wanted = || each().filter(|(cluster, _)| !cluster.leaving.get());
        let first = snapshots.first();
        let entries = snapshots.iter().flat_map(|snapshot| &snapshot.entries);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            instance: identity.instance.clone(),
            handover_generation: identity.handover_generation,
            uptime_seconds: now.saturating_duration_since(identity.started).as_secs(),
            listen: in_force.listen.clone(),
            zone: first.and_then(|first| first.zone.as_deref()).map(str::to_owned),
            balance: first.map(|first| first.policy).unwrap_or_default(),
            generation: snapshots.iter().map(|snapshot| snapshot.generation).sum(),
            usable: wanted().any(|(_, snapshot)| snapshot.usable()),
            clusters: each()
                .filter_map(|(one, snapshot)| ClusterStatus::new(one, snapshot))
                .collect(),
            draining,
            config: config(in_force),
            sources: wanted().flat_map(|(cluster, _)| sources(cluster)).collect(),
            backends: entries.map(|entry| backend(entry, now)).collect(),
            failovers: events.failovers().iter().map(EventStatus::new).collect(),
            latest_event: events.latest(),
        }
    }
}

impl ClusterStatus {
    fn new(cluster: &Cluster, snapshot: &Snapshot) -> Option<Self> {
        Some(Self {
            name: cluster.name.as_ref()?.as_str().to_owned(),
            listen: cluster.listen.borrow().clone(),
            zone: snapshot.zone.as_deref().map(str::to_owned),
            balance: snapshot.policy,
            usable: snapshot.usable(),
            leaving: cluster.leaving.get(),
        })
    }
}

fn sources(cluster: &Cluster) -> Vec<SourceStatus> {
    let name = cluster.name.as_ref();
    cluster.sources.borrow().iter().map(|state| SourceStatus::new(name, state)).collect()
}

fn config(in_force: &InForce) -> ConfigStatus {
    ConfigStatus {
        generation: in_force.generation,
        loaded_at: history::seconds(in_force.loaded_at),
        file: in_force.file.clone(),
        refusal: in_force.refusal.clone(),
        needs_restart: in_force.needs_restart.clone(),
    }
}

fn backend(entry: &Entry, now: Instant) -> BackendStatus {
    let Entry { backend, addresses, condition, .. } = entry;
    let (counters, probe_times) = (&backend.counters, &backend.probe_times);
    let age = now.saturating_duration_since(entry.since());
    let since = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let failures = [
        ConnectOutcome::Refused,
        ConnectOutcome::Timeout,
        ConnectOutcome::Unreachable,
        ConnectOutcome::Unresolved,
    ];
    BackendStatus {
        name: backend.name.as_str().to_owned(),
        cluster: backend.name.cluster().map(str::to_owned),
        address: backend.address.to_string(),
        resolved: addresses.to_vec(),
        zone: backend.zone.as_deref().map(str::to_owned),
        state: entry.state(),
        suspect: condition.suspect,
        since: history::seconds(since),
        since_seconds: age.as_secs(),
        reason: reason(&entry.reason()),
        warning: condition.warning.as_ref().map(reason),
        connections: counters.active(),
        connections_total: counters.connects(ConnectOutcome::Connected),
        connect_failures_total: failures.iter().map(|outcome| counters.connects(*outcome)).sum(),
        bytes_up: counters.bytes(Direction::Up),
        bytes_down: counters.bytes(Direction::Down),
        resets_total: counters.closes(CloseReason::BackendDead),
        probe_milliseconds: probe_times.all().into_iter().map(|time| time.map(millis)).collect(),
    }
}

/// Milliseconds with two decimals: what a chart can show.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

fn reason(reason: &Reason) -> ReasonStatus {
    ReasonStatus { code: reason.code.clone(), message: reason.message.clone() }
}
