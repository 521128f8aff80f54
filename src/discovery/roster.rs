//! Who is wanted as a backend, and the way out for those who no longer are.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tracing::info;

use crate::config::BackendSpec;
use crate::model::{Backend, Condition, Entry, Snapshot, Standing, Writer};

/// How often backends on their way out are looked at. Longer than any data thread decides by the
/// snapshot that it holds: whoever is gone by then gets no connection more.
const LEAVING_PACE: Duration = Duration::from_secs(1);

/// The list of wanted backends, and the only one who adds entries to the store and takes them out.
#[derive(Debug)]
pub struct Roster {
    writer: Rc<Writer>,
    seeds: RefCell<Vec<BackendSpec>>,
}

impl Roster {
    /// A roster of what the store holds now.
    pub fn new(writer: Rc<Writer>, seeds: &[BackendSpec]) -> Self {
        Self { writer, seeds: RefCell::new(seeds.to_vec()) }
    }

    /// Puts another configured list in force, and makes another change to the snapshot with it. What
    /// is in both lists keeps state, counters and connections; what is in the old one alone leaves.
    pub fn set_seeds(&self, seeds: &[BackendSpec], change: impl FnOnce(&mut Snapshot)) {
        self.seeds.replace(seeds.to_vec());
        self.writer.update(|snapshot| {
            snapshot.entries = arrange(&snapshot.entries, seeds, now());
            change(snapshot);
        });
    }

    /// Takes out those whose last connection has ended, until the future is dropped.
    pub(super) async fn let_go(&self) {
        let mut changed = self.writer.reader().subscribe();
        loop {
            let is_leaving = |entry: &Entry| entry.standing == Standing::Leaving;
            let leaving: Vec<_> = {
                let snapshot = self.writer.reader().load().clone();
                let leaving = snapshot.entries.iter().filter(|entry| is_leaving(entry));
                leaving.map(|entry| entry.backend.clone()).collect()
            };
            if leaving.is_empty() {
                if changed.changed().await.is_err() {
                    return;
                }
                continue;
            }
            sleep(LEAVING_PACE).await;
            let is_done = |entry: &Entry| {
                let was_there = leaving.iter().any(|backend| Arc::ptr_eq(backend, &entry.backend));
                was_there && is_leaving(entry) && entry.backend.counters.active() == 0
            };
            if self.writer.reader().load().entries.iter().any(is_done) {
                self.writer.update(|snapshot| {
                    snapshot.entries.retain(|entry| {
                        let done = is_done(entry);
                        if done {
                            info!(backend = %entry.backend.name, "backend has left");
                        }
                        !done
                    });
                });
            }
        }
    }
}

/// The entries for a list: those that are there already stay what they are, new ones come, and those
/// that are not in the list stand last and leave.
pub(super) fn arrange(entries: &[Entry], wanted: &[BackendSpec], now: Instant) -> Vec<Entry> {
    let mut old: Vec<Option<&Entry>> = entries.iter().map(Some).collect();
    let mut arranged = Vec::with_capacity(wanted.len());
    for spec in wanted {
        let same = |entry: Option<&Entry>| entry.is_some_and(|entry| is(&entry.backend, spec));
        let entry = match old.iter_mut().find(|entry| same(**entry)).and_then(Option::take) {
            Some(entry) => {
                let standing = match entry.standing {
                    Standing::Leaving => Standing::Serving,
                    standing => standing,
                };
                Entry { standing, ..entry.clone() }
            }
            None => new_entry(spec, now),
        };
        arranged.push(entry);
    }
    let leaving = old.into_iter().flatten();
    arranged.extend(leaving.map(|entry| Entry { standing: Standing::Leaving, ..entry.clone() }));
    arranged
}

/// A backend is the same while name, address and zone are.
fn is(backend: &Backend, spec: &BackendSpec) -> bool {
    backend.name == spec.name && backend.address == spec.address && backend.zone == spec.zone
}

fn new_entry(spec: &BackendSpec, now: Instant) -> Entry {
    let backend = Backend::new(spec.name.clone(), spec.address.clone(), spec.zone.clone());
    let addresses = spec.address.socket_addr().into_iter().collect();
    Entry::new(Arc::new(backend), addresses, Condition::unknown(now))
}

/// The clock of the runtime, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendName, Policy, State, store};

    fn spec(name: &str, address: &str) -> BackendSpec {
        BackendSpec { name: BackendName::new(name), address: address.parse().unwrap(), zone: None }
    }

    fn names(entries: &[Entry]) -> Vec<(&str, Standing)> {
        entries.iter().map(|entry| (entry.backend.name.as_str(), entry.standing)).collect()
    }

    #[test]
    fn what_stays_keeps_its_identity_and_what_is_gone_leaves() {
        let now = Instant::now();
        let (a, b, c) = (spec("a", "10.0.0.1:1"), spec("b", "10.0.0.2:1"), spec("c", "10.0.0.3:1"));
        let mut first = arrange(&[], &[a.clone(), b.clone()], now);
        first[0].condition.state = State::Ready;
        first[1].standing = Standing::Drained;
        let second = arrange(&first, &[c.clone(), b.clone()], now);
        let serving = Standing::Serving;
        assert_eq!(
            names(&second),
            [("c", serving), ("b", Standing::Drained), ("a", Standing::Leaving)]
        );
        let third = arrange(&second, &[a, c], now);
        assert_eq!(names(&third), [("a", serving), ("c", serving), ("b", Standing::Leaving)]);
        assert!(Arc::ptr_eq(&first[0].backend, &third[0].backend));
        assert_eq!(third[0].condition.state, State::Ready);
    }

    #[test]
    fn another_address_is_another_backend() {
        let first = arrange(&[], &[spec("a", "10.0.0.1:1")], Instant::now());
        let second = arrange(&first, &[spec("a", "10.0.0.1:2")], Instant::now());
        assert_eq!(names(&second), [("a", Standing::Serving), ("a", Standing::Leaving)]);
        assert!(!Arc::ptr_eq(&first[0].backend, &second[0].backend));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_there_until_its_last_connection_has_ended() {
        let (a, b) = (spec("a", "10.0.0.1:1"), spec("b", "10.0.0.2:1"));
        let entries = arrange(&[], &[a.clone(), b.clone()], now());
        let held = entries[1].backend.occupy();
        let (writer, reader) =
            store(Snapshot { generation: 0, zone: None, policy: Policy::default(), entries });
        let roster = Roster::new(Rc::new(writer), &[a.clone(), b]);
        let end = async {
            roster.set_seeds(&[a], |_| {});
            sleep(Duration::from_mins(1)).await;
            assert_eq!(reader.load().entries.len(), 2);
            drop(held);
            sleep(LEAVING_PACE * 2).await;
            assert_eq!(names(&reader.load().entries), [("a", Standing::Serving)]);
        };
        tokio::select! {
            () = roster.let_go() => panic!("it ended"),
            () = end => {}
        }
    }
}
