//! The snapshots and counters that data threads share with the control thread, under stress: real
//! threads for some seconds, as many changes as they can make.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::balance::{IndexSet, Turn, pick};
use apiproxy::model::{
    Backend, BackendName, CloseReason, Condition, ConnectOutcome, Direction, Entry, Policy, Reason,
    Snapshot, State, store,
};

const READERS: u64 = 4;
const BACKENDS: usize = 3;
const FOR: Duration = Duration::from_secs(3);

/// How many connections a thread holds at a time.
const HELD: usize = 16;

fn entry(number: usize, now: Instant) -> Entry {
    let address = format!("10.0.0.{number}:6443").parse().unwrap();
    let backend = Arc::new(Backend::new(BackendName::new(format!("cp{number}")), address, None));
    Entry::new(backend, [].into(), Condition::unknown(now))
}

/// Every part of a snapshot says which one it is part of: a reader that finds two numbers has a torn
/// one.
fn stamp(snapshot: &mut Snapshot, number: u64) {
    let zone = number.to_string();
    snapshot.zone = Some(zone.as_str().into());
    // Backends come and go.
    let first = usize::try_from(number).unwrap() % BACKENDS;
    snapshot.entries.rotate_left(1);
    for (index, entry) in snapshot.entries.iter_mut().enumerate() {
        entry.condition.reason = Reason::new("stamp", zone.clone());
        entry.condition.state = if index == first { State::NotReady } else { State::Ready };
    }
}

/// Ends the threads, also at the end of a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn check(snapshot: &Snapshot) {
    let number = snapshot.generation.to_string();
    assert_eq!(snapshot.zone.as_deref(), Some(number.as_str()), "torn");
    for entry in &snapshot.entries {
        assert_eq!(entry.condition.reason.message, number, "torn");
    }
    assert_eq!(snapshot.entries.iter().filter(|entry| !entry.is_ready()).count(), 1, "torn");
}

#[test]
fn snapshots_are_whole_and_in_order_and_counters_come_back_to_zero() {
    let now = Instant::now();
    let entries: Vec<_> = (0..BACKENDS).map(|number| entry(number, now)).collect();
    let backends: Vec<_> = entries.iter().map(|entry| entry.backend.clone()).collect();
    let policy = Policy::LeastConnections;
    let mut first = Snapshot { generation: 0, zone: None, policy, entries };
    stamp(&mut first, 0);
    let (writer, reader) = store(first);
    let end = AtomicBool::new(false);
    let (made, seen) = (AtomicU64::new(0), AtomicU64::new(0));

    let updates = thread::scope(|scope| {
        for seed in 0..READERS {
            let (reader, backends) = (reader.clone(), &backends);
            let (end, made, seen) = (&end, &made, &seen);
            scope.spawn(move || {
                let mut turn = Turn::new(seed);
                let (mut last, mut held) = (0, Vec::new());
                while !end.load(Relaxed) {
                    let snapshot = reader.load();
                    check(&snapshot);
                    assert!(snapshot.generation >= last, "back from {last}");
                    seen.fetch_add(u64::from(snapshot.generation > last), Relaxed);
                    last = snapshot.generation;
                    let none = IndexSet::EMPTY;
                    let chosen = pick(&snapshot, now, none, none, &mut turn).unwrap();
                    let backend = snapshot.entries[chosen].backend.clone();
                    backend.counters.connect(ConnectOutcome::Connected);
                    backend.counters.relayed(Direction::Up, 3);
                    held.push(backend.occupy());
                    made.fetch_add(1, Relaxed);
                    let active: usize = backends.iter().map(|b| b.counters.active()).sum();
                    assert!(active <= HELD * usize::try_from(READERS).unwrap(), "{active} active");
                    if held.len() >= HELD {
                        for active in held.drain(..) {
                            active.backend().counters.close(CloseReason::Finished);
                        }
                    }
                }
                for active in held {
                    active.backend().counters.close(CloseReason::Finished);
                }
            });
        }
        // A waker of its own: generations may be merged, but not lost, and never go back.
        let mut changed = reader.subscribe();
        let (watched, ended) = (reader.clone(), &end);
        let waiter = scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (mut last, mut wakes) = (0, 0_u64);
                while !ended.load(Relaxed) {
                    let next = tokio::time::timeout(Duration::from_millis(100), changed.changed());
                    if next.await.is_ok_and(|changed| changed.is_ok()) {
                        let generation = *changed.borrow_and_update();
                        assert!(generation > last, "{generation} after {last}");
                        assert!(watched.load().generation >= generation, "told too early");
                        (last, wakes) = (generation, wakes + 1);
                    }
                }
                wakes
            })
        });
        let ending = End(&end);
        let mut updates = 0_u64;
        let start = Instant::now();
        while start.elapsed() < FOR {
            writer.update(|snapshot| stamp(snapshot, snapshot.generation + 1));
            updates += 1;
            assert_eq!(reader.load().generation, updates, "the writer sees its own change");
            if updates.is_multiple_of(64) {
                thread::yield_now();
            }
        }
        drop(ending);
        assert!(waiter.join().unwrap() > 0, "nobody was woken");
        updates
    });

    let sum =
        |count: fn(&Backend) -> u64| backends.iter().map(|backend| count(backend)).sum::<u64>();
    let made = made.load(Relaxed);
    for backend in &backends {
        assert_eq!(backend.counters.active(), 0, "{}", backend.name);
    }
    assert_eq!(sum(|backend| backend.counters.connects(ConnectOutcome::Connected)), made);
    assert_eq!(sum(|backend| backend.counters.closes(CloseReason::Finished)), made);
    assert_eq!(sum(|backend| backend.counters.bytes(Direction::Up)), 3 * made);
    // Otherwise this was no stress.
    let seen = seen.load(Relaxed);
    assert!(
        updates > 1000 && made > 1000 && seen > 100,
        "{updates} changes, {made} connections, {seen} seen"
    );
    drop(reader);
    let references = backends.iter().map(Arc::strong_count).collect::<Vec<_>>();
    drop(writer);
    assert_eq!(references, [2; BACKENDS], "an old snapshot is still held");
    assert!(backends.iter().all(|backend| Arc::strong_count(backend) == 1));
}
