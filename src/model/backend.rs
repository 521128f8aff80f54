//! A backend's identity and its counters, which outlive every snapshot.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{BackendAddress, ClusterName, ProbeTimes};

/// The name of a backend in status, logs and commands; its address unless configured. Where the process
/// serves several clusters, that of its cluster stands before it: `east/cp1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName {
    text: String,
    /// Where the name within the cluster begins; 0 without a cluster.
    own: usize,
}

impl BackendName {
    /// A name. It is validated where it is parsed: 1 to 253 printable characters, no blanks.
    pub fn new(name: impl Into<String>) -> Self {
        Self { text: name.into(), own: 0 }
    }

    /// The same name in a cluster, if there is one.
    #[must_use]
    pub fn within(self, cluster: Option<&ClusterName>) -> Self {
        match cluster {
            Some(cluster) => {
                let own = cluster.as_str().len() + 1;
                Self { text: format!("{cluster}/{}", self.own()), own }
            }
            None => self,
        }
    }

    /// The text, unique in the process.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name within its cluster.
    pub fn own(&self) -> &str {
        &self.text[self.own..]
    }

    /// The cluster, if the process serves several.
    pub fn cluster(&self) -> Option<&str> {
        self.own.checked_sub(1).map(|end| &self.text[..end])
    }

    /// The labels that its metrics have, and one more.
    pub fn labels<'a>(
        &'a self,
        more: Option<(&'static str, &'a str)>,
    ) -> Vec<(&'static str, &'a str)> {
        let cluster = self.cluster().map(|cluster| ("cluster", cluster));
        cluster.into_iter().chain([("backend", self.own())]).chain(more).collect()
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Which way bytes flow: the `direction` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

impl Direction {
    /// Both, in label order.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in label order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

labels! {
    /// How an attempt to connect to a backend ended: `apiproxy_connections_total{result}`.
    ConnectOutcome {
        /// The connection carries a client.
        Connected = "connected",
        /// The backend refused it.
        Refused = "refused",
        /// No answer within `connect.timeout`.
        Timeout = "timeout",
        /// No route, or another network error.
        Unreachable = "unreachable",
        /// The backend's name has no address.
        Unresolved = "unresolved",
        /// This host had no socket, port or memory for it; says nothing of the backend.
        Local = "local",
        /// Given up because a parallel attempt was faster, or the client went away.
        Abandoned = "abandoned",
    }
}

labels! {
    /// Why a relayed connection ended: `apiproxy_connections_closed_total{reason}`.
    CloseReason {
        /// Both ends said FIN.
        Finished = "finished",
        /// The client reset it.
        ClientReset = "clientReset",
        /// The backend reset it.
        BackendReset = "backendReset",
        /// The client stopped acknowledging (`userTimeout` or keepalive).
        ClientTimeout = "clientTimeout",
        /// The backend stopped acknowledging (`userTimeout` or keepalive).
        BackendTimeout = "backendTimeout",
        /// One end said FIN, the other stayed silent for a minute: both have been told FIN.
        HalfClosed = "halfClosed",
        /// We reset it, because the backend is dead.
        BackendDead = "backendDead",
        /// We closed it at a quiet moment, to move its client to a backend that is ready again.
        Rebalanced = "rebalanced",
        /// We closed it because the backend says that it is not ready: at a quiet moment, or at the
        /// end of `drainTimeout`.
        Drained = "drained",
        /// We closed it while shutting down.
        Shutdown = "shutdown",
        /// An error of this host.
        Local = "local",
    }
}

impl CloseReason {
    /// Is it put off when the connection turns out to be busy after all?
    pub fn is_gentle(self) -> bool {
        matches!(self, Self::Rebalanced | Self::Drained)
    }
}

/// What a backend has carried, as relaxed atomics: written by data threads, read by `/metrics` and
/// `/status`, and (`active` only) by the balancer.
#[derive(Debug, Default)]
pub struct Counters {
    active: AtomicUsize,
    connects: [AtomicU64; ConnectOutcome::ALL.len()],
    closes: [AtomicU64; CloseReason::ALL.len()],
    bytes: [Lane; LANES],
}

/// The bytes that some threads have carried, by direction; on a cache line of its own, so that data
/// threads do not wait for each other at every message.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane([AtomicU64; 2]);

/// Data threads share lanes only when there are more of them.
const LANES: usize = 4;

thread_local! {
    /// The lane of this thread, given out in turn to those that count bytes.
    static LANE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % LANES
    };
}

impl Counters {
    /// Connections open now.
    pub fn active(&self) -> usize {
        self.active.load(Relaxed)
    }

    /// Counts an attempt to connect.
    pub fn connect(&self, outcome: ConnectOutcome) {
        self.connects[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Attempts so far that ended so.
    pub fn connects(&self, outcome: ConnectOutcome) -> u64 {
        self.connects[outcome as usize].load(Relaxed)
    }

    /// Counts the end of a connection.
    pub fn close(&self, reason: CloseReason) {
        self.closes[reason as usize].fetch_add(1, Relaxed);
    }

    /// Connections so far that ended so.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        self.closes[reason as usize].load(Relaxed)
    }

    /// Counts relayed bytes.
    pub fn relayed(&self, direction: Direction, bytes: u64) {
        let lane = LANE.with(|lane| *lane);
        self.bytes[lane].0[direction as usize].fetch_add(bytes, Relaxed);
    }

    /// Bytes relayed so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.bytes.iter().map(|lane| lane.0[direction as usize].load(Relaxed)).sum()
    }
}

/// One apiserver. Shared by all snapshots it appears in; `Arc` identity is backend identity.
#[derive(Debug)]
pub struct Backend {
    /// Unique among the backends of the process.
    pub name: BackendName,
    /// As configured.
    pub address: BackendAddress,
    /// Failure domain, if configured.
    pub zone: Option<super::Zone>,
    /// What it has carried.
    pub counters: Counters,
    /// How long its last probes took.
    pub probe_times: ProbeTimes,
}

impl Backend {
    /// A backend that has carried nothing yet.
    pub fn new(name: BackendName, address: BackendAddress, zone: Option<super::Zone>) -> Self {
        let (counters, probe_times) = (Counters::default(), ProbeTimes::default());
        Self { name, address, zone, counters, probe_times }
    }

    /// Counts a connection as active until the guard is dropped.
    pub fn occupy(self: &std::sync::Arc<Self>) -> Active {
        self.counters.active.fetch_add(1, Relaxed);
        Active(self.clone())
    }
}

/// Counts one active connection of a backend for as long as it lives.
#[derive(Debug)]
pub struct Active(std::sync::Arc<Backend>);

impl Active {
    /// The backend that is occupied.
    pub fn backend(&self) -> &std::sync::Arc<Backend> {
        &self.0
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.counters.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_threads_are_counted() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..3 * LANES {
                scope.spawn(|| {
                    counters.relayed(Direction::Up, 1);
                    counters.relayed(Direction::Down, 10);
                });
            }
        });
        assert_eq!(counters.bytes(Direction::Up), 3 * LANES as u64);
        assert_eq!(counters.bytes(Direction::Down), 30 * LANES as u64);
    }
}
