//! What was seen on a host a moment ago: several steps of a host look once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a look counts. The checks of one host follow each other in milliseconds; what others
/// change in the meantime is seen by the next look.
const FRESH: Duration = Duration::from_secs(2);

type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Arc<T>)>>>;

/// The latest looks at hosts, by name.
#[derive(Debug)]
pub struct Recent<T>(Mutex<BTreeMap<String, Slot<T>>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Recent<T> {
    /// What was seen a moment ago, or else what this look finds. Whoever asks meanwhile waits for it.
    ///
    /// # Errors
    /// Those of the look, which are not kept.
    pub async fn get<E>(
        &self,
        host: &str,
        look: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let slot = {
            let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(host.to_owned()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some((at, seen)) = &*slot
            && at.elapsed() < FRESH
        {
            return Ok(seen.clone());
        }
        let seen = Arc::new(look.await?);
        *slot = Some((Instant::now(), seen.clone()));
        Ok(seen)
    }

    /// The host is being changed: what was seen, or is being seen now, counts no more.
    pub fn forget(&self, host: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_look_serves_the_steps_of_a_moment() {
        let recent = Recent::default();
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            Ok::<_, ()>(looks.get())
        };
        let (first, second) = tokio::join!(recent.get("w1", look()), recent.get("w1", look()));
        assert_eq!((first.as_deref(), second.as_deref()), (Ok(&1), Ok(&1)));
        assert_eq!(recent.get("w2", look()).await.as_deref(), Ok(&2), "another host");
        recent.forget("w1");
        assert_eq!(recent.get("w1", look()).await.as_deref(), Ok(&3));
        tokio::time::advance(FRESH).await;
        assert_eq!(recent.get("w1", look()).await.as_deref(), Ok(&4), "too old");
        assert_eq!(recent.get("w3", async { Err::<i32, _>(()) }).await, Err(()));
        assert_eq!(recent.get("w3", look()).await.as_deref(), Ok(&5), "a fault is not kept");
    }
}
