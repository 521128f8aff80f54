//! What every stream tells while it runs: that it moves, what it has done, and what is wrong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What all streams tell together.
pub struct Ledger {
    start: Instant,
    /// Bytes compared with what they had to be.
    pub bytes: AtomicU64,
    /// Streams and requests that came to their right end.
    pub finished: AtomicU64,
    /// Streams and requests that were cut: by a fault, or by the proxy because of one.
    pub cut: AtomicU64,
    wrong: Mutex<Vec<String>>,
    pulses: Mutex<Vec<Arc<Pulse>>>,
}

/// What one stream tells.
pub struct Pulse {
    pub ledger: Arc<Ledger>,
    kind: &'static str,
    number: usize,
    /// Milliseconds from the start to the last sign of life, or to the end of a rest.
    moved: AtomicU64,
    /// What it waits for.
    doing: Mutex<&'static str>,
    /// What it has finished, whether or not it was cut before.
    done: AtomicU64,
}

impl Ledger {
    pub fn new(start: Instant) -> Arc<Self> {
        Arc::new(Self {
            start,
            bytes: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            wrong: Mutex::default(),
            pulses: Mutex::default(),
        })
    }

    /// A new stream.
    pub fn pulse(self: &Arc<Self>, kind: &'static str, number: usize) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            ledger: self.clone(),
            kind,
            number,
            moved: AtomicU64::new(self.now()),
            doing: Mutex::new("start"),
            done: AtomicU64::new(0),
        });
        self.pulses.lock().unwrap().push(pulse.clone());
        pulse
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// Something that must not be.
    pub fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// All that must not be, so far.
    pub fn faults(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// The longest that any stream has stood still since `from`, and which one.
    pub fn stillest(&self, from: Instant) -> (Duration, String) {
        let from = u64::try_from(from.saturating_duration_since(self.start).as_millis()).unwrap();
        let now = self.now();
        let pulses = self.pulses.lock().unwrap();
        let still =
            |pulse: &Pulse| now.saturating_sub(pulse.moved.load(Ordering::Relaxed).max(from));
        let stillest = pulses.iter().max_by_key(|pulse| still(pulse)).unwrap();
        let doing = *stillest.doing.lock().unwrap();
        let name = format!("{} {} waits for {doing}", stillest.kind, stillest.number);
        (Duration::from_millis(still(stillest)), name)
    }

    /// The kinds of streams of which none ever came to its right end.
    pub fn idle_kinds(&self) -> Vec<&'static str> {
        let pulses = self.pulses.lock().unwrap();
        let moved = |kind: &str| {
            pulses.iter().any(|pulse| pulse.kind == kind && pulse.done.load(Ordering::Relaxed) > 0)
        };
        let mut kinds: Vec<_> = pulses.iter().map(|pulse| pulse.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.retain(|kind| !moved(kind));
        kinds
    }
}

impl Pulse {
    /// It moves, and waits for `what` next.
    pub fn beat(&self, what: &'static str) {
        self.moved.fetch_max(self.ledger.now(), Ordering::Relaxed);
        *self.doing.lock().unwrap() = what;
    }

    /// Does nothing for a while, on purpose.
    pub async fn rest(&self, time: Duration) {
        let until = self.ledger.now() + u64::try_from(time.as_millis()).unwrap();
        self.moved.fetch_max(until, Ordering::Relaxed);
        tokio::time::sleep(time).await;
    }

    /// One thing came to its right end.
    pub fn finish(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.ledger.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Something that must not be.
    pub fn wrong(&self, what: &str) {
        self.ledger.wrong(format!("{} {}: {what}", self.kind, self.number));
    }
}
