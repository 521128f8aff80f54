//! The clusters that the process serves, as they are shown.

use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::watch;

use crate::model::{ClusterName, Entry, Reader, SourceState, State};
use crate::proxy::WorkerHandle;

/// A cluster that is served.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name; `None` for the only one of a configuration without `clusters`.
    pub name: Option<ClusterName>,
    /// Its current snapshot.
    pub snapshot: Reader,
    /// Where its backends come from.
    pub sources: watch::Receiver<Vec<SourceState>>,
    /// Where its clients are accepted; a reload changes it.
    pub listen: Rc<RefCell<Vec<SocketAddr>>>,
    /// Its data threads.
    pub workers: Rc<Vec<WorkerHandle>>,
    /// It is no longer in the configuration, and its last connections end.
    pub leaving: Rc<Cell<bool>>,
}

impl Cluster {
    /// Is a backend ready?
    pub fn usable(&self) -> bool {
        self.snapshot.load().usable()
    }

    /// Is it known of each backend whether it is ready, or of one that it is?
    pub(super) fn is_judged(&self) -> bool {
        let snapshot = self.snapshot.load();
        let unknown = |entry: &Entry| entry.condition.state == State::Unknown;
        snapshot.usable() || !snapshot.entries.iter().any(unknown)
    }
}

/// All of them, in the order of the configuration; last those that are leaving. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Clusters(Rc<RefCell<Vec<Cluster>>>);

impl Clusters {
    /// Adds one before those that are leaving.
    pub fn add(&self, cluster: Cluster) {
        let mut all = self.0.borrow_mut();
        let place = all.iter().position(|other| other.leaving.get()).unwrap_or(all.len());
        all.insert(place, cluster);
    }

    /// This one is leaving.
    pub fn leave(&self, cluster: &Rc<Cell<bool>>) {
        cluster.set(true);
        self.0.borrow_mut().sort_by_key(|cluster| cluster.leaving.get());
    }

    /// This one has left.
    pub fn remove(&self, cluster: &Rc<Cell<bool>>) {
        self.0.borrow_mut().retain(|other| !Rc::ptr_eq(&other.leaving, cluster));
    }

    /// All of them.
    pub fn all(&self) -> Ref<'_, [Cluster]> {
        Ref::map(self.0.borrow(), Vec::as_slice)
    }

    /// Those that take clients.
    pub(super) fn wanted(&self) -> Vec<Cluster> {
        self.all().iter().filter(|cluster| !cluster.leaving.get()).cloned().collect()
    }
}
