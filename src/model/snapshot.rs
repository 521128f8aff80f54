//! One consistent view of all backends: what the data path decides by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Backend, Condition, Reason, State};

/// The most backends a snapshot may have: a set of them fits a register. Kubernetes clusters have
/// one to nine apiservers.
pub const MAX_BACKENDS: usize = 64;

/// A failure domain, such as a rack or an availability zone.
pub type Zone = Arc<str>;

/// How a backend is chosen among equals: `balance` in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// The fewest connections of this node; ties are broken at random.
    #[default]
    LeastConnections,
    /// One after another, from a random start.
    RoundRobin,
    /// Any.
    Random,
    /// The less loaded of two drawn at random.
    PowerOfTwo,
}

/// How good a choice a backend is; better first. Lower tiers are used only when no better one has
/// a backend left to try: never worse than no check at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Ready, in this node's zone (or no zones are configured).
    Local,
    /// Ready, elsewhere.
    Remote,
    /// Ready so far, but something makes us doubt it: settled within a probe or two.
    Suspect,
    /// Not probed yet.
    Unproven,
    /// Alive, but says no.
    NotReady,
    /// Taken out by an operator; still better than a dead one.
    Drained,
    /// Believed dead; tried all the same when there is nothing better.
    Dead,
}

/// Whether a backend is wanted at all, whatever its health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It takes part.
    #[default]
    Serving,
    /// Taken out by an operator, until it is put back.
    Drained,
    /// No longer named by the configuration or by discovery: it goes when its last connection has. When
    /// that is true of all, this process has handed over: who dials again reaches another one.
    Leaving,
}

/// A backend in a snapshot.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Identity and counters.
    pub backend: Arc<Backend>,
    /// Where to connect: one for an IP address, what the resolver said for a name, possibly none.
    pub addresses: Arc<[SocketAddr]>,
    /// State and evidence. Written by the health component only.
    pub condition: Condition,
    /// Is it wanted? Written by operators' commands, reloads and discovery.
    pub standing: Standing,
    /// When an operator last took it out or put it back; `None` when none has.
    pub stood_since: Option<Instant>,
}

impl Entry {
    /// A backend that takes part.
    pub fn new(backend: Arc<Backend>, addresses: Arc<[SocketAddr]>, condition: Condition) -> Self {
        Self { backend, addresses, condition, standing: Standing::Serving, stood_since: None }
    }

    /// Takes it out, or puts it back.
    pub fn stand(&mut self, standing: Standing, now: Instant) {
        self.standing = standing;
        self.stood_since = Some(now);
    }

    /// When it last began to take connections again, because it has recovered or was put back: its
    /// share then grows slowly, and others' connections move to it.
    pub fn recovered_at(&self) -> Option<Instant> {
        let put_back = self.stood_since.filter(|_| self.standing == Standing::Serving);
        self.condition.recovered_at.max(put_back)
    }

    /// When it entered the state that is shown.
    pub fn since(&self) -> Instant {
        match (self.standing, self.stood_since) {
            (Standing::Serving, Some(put_back)) => put_back.max(self.condition.since),
            (Standing::Drained | Standing::Leaving, Some(taken_out)) => taken_out,
            (_, None) => self.condition.since,
        }
    }

    /// Why it is in the state that is shown. Of one that is drained, the health is told too.
    pub fn reason(&self) -> Reason {
        let why = match self.standing {
            Standing::Serving => return self.condition.reason.clone(),
            Standing::Drained => "taken out by an operator",
            Standing::Leaving => "no longer wanted",
        };
        let Condition { state, reason, .. } = &self.condition;
        Reason::new("drained", format!("{why}; its health: {state} ({reason})"))
    }

    /// The state to show: that of its health, unless it has been taken out.
    pub fn state(&self) -> State {
        match self.standing {
            Standing::Serving => self.condition.state,
            Standing::Drained | Standing::Leaving => State::Drained,
        }
    }

    /// Takes new connections without reservations.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Its connections are to go elsewhere at quiet moments: it says no, or has been taken out. Those
    /// of a dead one are not moved, but judged.
    pub fn sheds(&self) -> bool {
        matches!(self.state(), State::NotReady | State::Drained)
    }
}

/// Everything the data path needs to know, replaced as a whole.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows by one with every change.
    pub generation: u64,
    /// This node's own zone.
    pub zone: Option<Zone>,
    /// The balancing policy.
    pub policy: Policy,
    /// All backends, in the order of the configuration.
    pub entries: Vec<Entry>,
}

impl Snapshot {
    /// How good a choice this entry is for this node.
    pub fn tier(&self, entry: &Entry) -> Tier {
        if entry.condition.state == State::Dead {
            return Tier::Dead;
        }
        match entry.state() {
            State::Ready if entry.condition.suspect => Tier::Suspect,
            State::Ready if self.zone.is_none() || entry.backend.zone == self.zone => Tier::Local,
            State::Ready => Tier::Remote,
            State::Unknown => Tier::Unproven,
            State::NotReady => Tier::NotReady,
            State::Drained => Tier::Drained,
            State::Dead => Tier::Dead,
        }
    }

    /// Is there a backend that takes connections without reservations?
    pub fn usable(&self) -> bool {
        self.entries.iter().any(Entry::is_ready)
    }

    /// Is there a backend that clients of a dead one can be sent to in good conscience? One whose
    /// probes have begun to fail may be about to die of the same cause. Doubt by traffic alone does
    /// not count: it comes and goes, and must not hold up the others.
    pub fn has_haven(&self) -> bool {
        let handed_over = self.entries.iter().all(|entry| entry.standing == Standing::Leaving);
        handed_over || self.entries.iter().any(|entry| entry.is_ready() && !entry.condition.failing)
    }

    /// The entry of a backend, by identity.
    pub fn entry(&self, backend: &Arc<Backend>) -> Option<&Entry> {
        self.entries.iter().find(|entry| Arc::ptr_eq(&entry.backend, backend))
    }
}
