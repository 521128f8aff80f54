//! Publishes snapshots: one writer, any number of readers, no lock on the reading side.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Snapshot;

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<u64>,
}

/// Makes the pair that shares `first`.
pub fn store(first: Snapshot) -> (Writer, Reader) {
    let changed = watch::Sender::new(first.generation);
    let shared = Arc::new(Shared { current: ArcSwap::from_pointee(first), changed });
    (Writer { shared: shared.clone(), one_thread: PhantomData }, Reader { shared })
}

/// The only one who can change the snapshot. It is not `Clone` and not `Sync`, so that two changes
/// cannot race and the later one never loses the earlier.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    one_thread: PhantomData<Cell<()>>,
}

impl Writer {
    /// Publishes a changed copy of the current snapshot, with the next generation.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = Snapshot::clone(&self.shared.current.load());
        change(&mut next);
        next.generation += 1;
        let generation = next.generation;
        self.shared.current.store(Arc::new(next));
        self.shared.changed.send_replace(generation);
    }

    /// A reader of what this publishes.
    pub fn reader(&self) -> Reader {
        Reader { shared: self.shared.clone() }
    }
}

/// Reads the current snapshot from any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    /// The current snapshot; hold it for one decision, not across waits.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.shared.current.load()
    }

    /// Wakes whenever a newer snapshot is published. Missed generations are merged into one wake.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }
}
