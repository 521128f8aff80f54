//! How many client connections may be open at once, over all data threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The limit, shared by all who accept.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    open: AtomicUsize,
    max: AtomicUsize,
}

/// The right to have one connection open; dropped with it.
#[derive(Debug)]
pub struct Permit(Arc<Counter>);

impl Permits {
    /// At most `max` at a time.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Counter { open: AtomicUsize::new(0), max: AtomicUsize::new(max) }))
    }

    /// Changes the limit, for those who come from now on.
    pub(super) fn set_max(&self, max: usize) {
        self.0.max.store(max, Relaxed);
    }

    /// One more, unless the limit is reached.
    pub fn take(&self) -> Option<Permit> {
        let max = self.0.max.load(Relaxed);
        let more = |open: usize| (open < max).then_some(open + 1);
        self.0.open.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Permit(self.0.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_a_dropped_permit_returns() {
        let permits = Permits::new(2);
        let first = permits.take().unwrap();
        let _second = permits.take().unwrap();
        assert!(permits.take().is_none());
        drop(first);
        let third = permits.take().unwrap();
        permits.set_max(1);
        drop(third);
        assert!(permits.take().is_none(), "one is open still");
        permits.set_max(3);
        assert!(permits.take().is_some());
    }
}
