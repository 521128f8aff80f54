//! The status document: what `/status` answers and `apiproxy status` shows.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::{ConnectOutcome, Direction, Entry, Policy, Reason, Snapshot, State};

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where clients are accepted.
    pub listen: Vec<SocketAddr>,
    /// When the process began to serve.
    pub started: Instant,
}

/// A running proxy, as it sees itself. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it began to serve.
    pub uptime_seconds: u64,
    /// Where clients are accepted.
    pub listen: Vec<SocketAddr>,
    /// This node's zone.
    pub zone: Option<String>,
    /// The balancing policy.
    pub balance: Policy,
    /// Grows with every change of a backend.
    pub generation: u64,
    /// Is a backend ready?
    pub usable: bool,
    /// Has the process been told to end?
    pub draining: bool,
    /// The backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Its name.
    pub name: String,
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
    /// Describes a snapshot.
    pub fn new(identity: &Identity, snapshot: &Snapshot, draining: bool) -> Self {
        let now = Instant::now();
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now.saturating_duration_since(identity.started).as_secs(),
            listen: identity.listen.clone(),
            zone: snapshot.zone.as_deref().map(str::to_owned),
            balance: snapshot.policy,
            generation: snapshot.generation,
            usable: snapshot.usable(),
            draining,
            backends: snapshot.entries.iter().map(|entry| backend(entry, now)).collect(),
        }
    }
}

fn backend(entry: &Entry, now: Instant) -> BackendStatus {
    let Entry { backend, addresses, condition, .. } = entry;
    let counters = &backend.counters;
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
        address: backend.address.to_string(),
        resolved: addresses.to_vec(),
        zone: backend.zone.as_deref().map(str::to_owned),
        state: entry.state(),
        suspect: condition.suspect,
        since: humantime::format_rfc3339_seconds(since).to_string(),
        since_seconds: age.as_secs(),
        reason: reason(&entry.reason()),
        warning: condition.warning.as_ref().map(reason),
        connections: counters.active(),
        connections_total: counters.connects(ConnectOutcome::Connected),
        connect_failures_total: failures.iter().map(|outcome| counters.connects(*outcome)).sum(),
        bytes_up: counters.bytes(Direction::Up),
        bytes_down: counters.bytes(Direction::Down),
    }
}

fn reason(reason: &Reason) -> ReasonStatus {
    ReasonStatus { code: reason.code.clone(), message: reason.message.clone() }
}
