//! So many handshakes at once and no more, the next a little after the last.

use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Between two handshakes' starts: jump hosts and agents meet them one by one.
const STAGGER: Duration = Duration::from_millis(10);

/// What handshakes pass.
#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    next: Mutex<Instant>,
}

impl Gate {
    pub(super) fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places.max(1)), next: Mutex::new(Instant::now()) }
    }

    /// Waits for a place, which is held until the permit is dropped. None if the gate was closed,
    /// which nobody does.
    pub(super) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.acquire().await.ok();
        let turn = {
            let mut next = self.next.lock().await;
            let turn = Instant::now().max(*next);
            *next = turn + STAGGER;
            turn
        };
        sleep_until(turn).await;
        place
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_hundred_hosts_are_no_stampede() {
        let gate = Gate::new(16);
        let (now, most) = (Cell::new(0_usize), Cell::new(0));
        let starts = join_all((0..200).map(|_| async {
            let _place = gate.enter().await;
            let start = Instant::now();
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
            tokio::time::sleep(Duration::from_millis(400)).await;
            now.set(now.get() - 1);
            start
        }));
        let mut starts = starts.await;
        starts.sort();
        assert_eq!(most.get(), 16);
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= STAGGER));
        // As fast as 16 at once can be: 13 rounds.
        let whole = starts[199] - starts[0];
        assert!(whole < Duration::from_millis(13 * 400 + 500), "{whole:?}");
    }
}
