//! What of the configuration the data plane reads while it runs: replaced as a whole by a reload, read
//! once for each connection and each sweep.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Permits;
use crate::config::{Connect, Connections, Rebalance};

/// The settings of the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How to reach a backend.
    pub connect: Connect,
    /// Limits and timers.
    pub connections: Connections,
    /// Moving connections to a backend that is ready again.
    pub rebalance: Rebalance,
}

/// The settings in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Live {
    current: Arc<ArcSwap<Settings>>,
    permits: Permits,
}

impl Live {
    /// Puts the first settings in force.
    pub fn new(settings: Settings) -> Self {
        let permits = Permits::new(settings.connections.max.get());
        Self { current: Arc::new(ArcSwap::from_pointee(settings)), permits }
    }

    /// The settings now; connections that are open keep what they were opened with.
    pub fn load(&self) -> Settings {
        **self.current.load()
    }

    /// Puts other settings in force. A lower `connections.max` closes nothing: it lets nobody in until
    /// enough have left. Publish a snapshot afterwards: it wakes the sweepers, which follow then.
    pub fn replace(&self, settings: Settings) {
        self.permits.set_max(settings.connections.max.get());
        self.current.store(Arc::new(settings));
    }

    /// The limit on open connections.
    pub(super) fn permits(&self) -> &Permits {
        &self.permits
    }
}
