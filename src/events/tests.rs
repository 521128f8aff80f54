//! The ring, the words, and what is found out from counters.

use std::sync::Arc;

use super::*;
use crate::model::{
    Active, Backend, BackendName, CloseReason, Condition, Doubt, Entry, Policy, Reason, Snapshot,
    State,
};

const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules =
    Rules { rebalance: Some((SECOND, SECOND.saturating_mul(10))), drain_timeout: SECOND };

fn name(text: &str) -> BackendName {
    BackendName::new(text)
}

fn state(to: State) -> Event {
    let reason = Reason::new("timeout", "no answer");
    Event::State { backend: name("cp1"), from: State::Unknown, to, reason }
}

fn doubt(backend: &str) -> Event {
    Event::Doubt { backend: name(backend), doubt: Doubt::Silence }
}

#[tokio::test(start_paused = true)]
async fn the_last_events_are_kept_in_order() {
    let events = Events::default();
    assert_eq!((events.latest(), events.all()), (0, vec![]));
    for _ in 0..KEPT + 10 {
        events.record(state(State::Dead));
    }
    let all = events.all();
    let numbers: Vec<_> = all.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (11..=KEPT as u64 + 10).collect::<Vec<_>>());
    assert_eq!(events.latest(), KEPT as u64 + 10);
    assert!(all.iter().all(|event| event.times == 1), "changes of state are never merged");
}

#[tokio::test(start_paused = true)]
async fn doubts_that_repeat_are_one_entry_a_minute() {
    let events = Events::default();
    for _ in 0..3 {
        events.record(doubt("cp1"));
        events.record(doubt("cp2"));
        tokio::time::advance(SECOND).await;
    }
    let times =
        |events: &Events| events.all().iter().map(|e| (e.number, e.times)).collect::<Vec<_>>();
    assert_eq!(times(&events), [(5, 3), (6, 3)]);
    tokio::time::advance(SAME_WITHIN).await;
    events.record(doubt("cp1"));
    assert_eq!(times(&events), [(5, 3), (6, 3), (7, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_does_not_push_failovers_out() {
    let events = Events::default();
    let reason = Reason::new("timeout", "no answer");
    let failover = Event::Failover { backend: name("cp1"), connections: 3, left: 0, reason };
    events.record(failover.clone());
    for number in 0..2 * KEPT {
        events.record(doubt(&format!("cp{number}")));
    }
    assert!(events.all().iter().all(|event| event.event != failover));
    let failovers: Vec<_> = events.failovers().into_iter().map(|kept| kept.event).collect();
    assert_eq!(failovers, [failover]);
}

#[test]
fn every_event_says_what_happened_and_why() {
    let reason = || Reason::new("status500", "answers 500");
    let backend = || name("cp2");
    let within = Duration::from_mins(1);
    let moves = |cause| Event::MovesBegun { backend: backend(), cause, connections: 2, within };
    let ended = |cause| Event::MovesEnded { backend: backend(), cause, moved: 1, left: 0 };
    let discovery = |change| Event::Discovery { source: "dns".to_owned(), change };
    let servers = Discovery::Changed { added: vec!["a".to_owned()], removed: vec!["b".to_owned()] };
    let addresses = vec!["10.0.0.1:6443".parse().unwrap()];
    let why = || "no answer".to_owned();
    let cases = [
        (
            Event::Started { version: "1.2".to_owned(), backends: 1 },
            "started",
            "apiproxy 1.2 serves, 1 backend",
        ),
        (
            Event::ShuttingDown { within },
            "shuttingDown",
            "told to end; connections may go on for 60 s",
        ),
        (state(State::Dead), "state", "unknown -> dead: no answer"),
        (
            Event::Reservation { backend: backend(), reason: reason() },
            "reservation",
            "ready, but answers 500",
        ),
        (doubt("cp2"), "doubt", "client bytes wait for an answer"),
        (
            Event::Failover { backend: backend(), connections: 9, left: 1, reason: reason() },
            "failover",
            "9 connections reset, 1 left: answers 500",
        ),
        (moves(Cause::Rebalance), "rebalanceBegun", "about 2 connections to move here within 60s"),
        (moves(Cause::Drain), "drainBegun", "2 connections to leave within 60s"),
        (ended(Cause::Rebalance), "rebalanceEnded", "1 connection moved"),
        (ended(Cause::Drain), "drainEnded", "1 connection moved away, 0 left"),
        (
            Event::Reload(Reload::Applied { generation: 2, changes: "cp4 added".to_owned() }),
            "reload",
            "configuration 2 is in force: cp4 added",
        ),
        (
            Event::Reload(Reload::Refused { faults: why() }),
            "reload",
            "refused, the last good configuration stays: no answer",
        ),
        (discovery(servers), "discovery", "dns: added a; no longer named b"),
        (
            discovery(Discovery::Resolved { backend: backend(), addresses }),
            "discovery",
            "dns: resolved to 10.0.0.1:6443",
        ),
        (
            discovery(Discovery::Refused { why: why() }),
            "discovery",
            "dns: no answer; the last known servers stay",
        ),
        (
            Event::Handover(Handover::Taken { from: 7 }),
            "handover",
            "listening sockets taken over from process 7",
        ),
        (
            Event::Handover(Handover::Given { to: 8 }),
            "handover",
            "listening sockets given to process 8; this one drains",
        ),
        (
            Event::Handover(Handover::Failed { why: why() }),
            "handover",
            "failed, nothing changes: no answer",
        ),
    ];
    for (event, kind, message) in cases {
        assert_eq!((event.kind(), event.message().as_str()), (kind, message));
    }
}

/// Two backends: the first in the given state, with so many connections, the second ready.
struct Scene {
    snapshot: Snapshot,
    held: Vec<Active>,
    start: std::time::Instant,
}

impl Scene {
    fn new(state: State, connections: usize) -> Self {
        let start = std::time::Instant::now();
        let entry = |name: &str, state| {
            let address = "10.0.0.1:6443".parse().unwrap();
            let backend = Arc::new(Backend::new(self::name(name), address, None));
            let condition = Condition { state, ..Condition::unknown(start) };
            Entry::new(backend, [].into(), condition)
        };
        let entries = vec![entry("cp1", state), entry("cp2", State::Ready)];
        let held = (0..connections).map(|_| entries[0].backend.occupy()).collect();
        let snapshot = Snapshot { generation: 0, zone: None, policy: Policy::default(), entries };
        Self { snapshot, held, start }
    }

    /// So many connections of the first backend end for this reason.
    fn end(&mut self, connections: usize, reason: CloseReason) {
        for active in self.held.drain(..connections) {
            active.backend().counters.close(reason);
        }
    }

    fn set(&mut self, state: State) {
        self.snapshot.entries[0].condition.state = state;
    }

    fn messages(&self, episodes: &mut Episodes, seconds: u64) -> Vec<String> {
        let news =
            episodes.step(&self.snapshot, self.start + SECOND * u32::try_from(seconds).unwrap());
        news.iter().map(|event| format!("{}: {}", event.kind(), event.message())).collect()
    }
}

#[test]
fn a_failover_is_told_once_with_all_its_resets() {
    let mut scene = Scene::new(State::Dead, 5);
    let mut episodes = Episodes::new(RULES);
    assert!(scene.messages(&mut episodes, 0).is_empty());
    assert!(episodes.next(&scene.snapshot, scene.start).is_some(), "it may be reset any moment");
    scene.end(3, CloseReason::BackendDead);
    assert!(scene.messages(&mut episodes, 1).is_empty(), "the silent ones go later");
    scene.end(2, CloseReason::BackendDead);
    let told = ["failover: 5 connections reset: not probed yet"];
    assert_eq!(scene.messages(&mut episodes, 7), told);
    assert!(scene.messages(&mut episodes, 8).is_empty());
    assert_eq!(episodes.next(&scene.snapshot, scene.start), None, "nothing is going on");
}

#[test]
fn a_failover_that_spares_some_ends_too() {
    let mut scene = Scene::new(State::Dead, 2);
    let mut episodes = Episodes::new(RULES);
    assert!(scene.messages(&mut episodes, 0).is_empty());
    scene.end(1, CloseReason::BackendDead);
    assert!(scene.messages(&mut episodes, 1).is_empty());
    assert!(scene.messages(&mut episodes, 11).is_empty());
    let told = ["failover: 1 connection reset, 1 left: not probed yet"];
    assert_eq!(scene.messages(&mut episodes, 12), told);
    scene.end(1, CloseReason::BackendReset);
    assert!(scene.messages(&mut episodes, 13).is_empty(), "that one was not ours");
}

#[test]
fn a_drain_has_a_beginning_and_an_end() {
    let mut scene = Scene::new(State::NotReady, 3);
    let mut episodes = Episodes::new(RULES);
    assert_eq!(scene.messages(&mut episodes, 0), ["drainBegun: 3 connections to leave within 1s"]);
    scene.end(2, CloseReason::Drained);
    assert!(scene.messages(&mut episodes, 1).is_empty());
    scene.set(State::Ready);
    assert_eq!(scene.messages(&mut episodes, 2), ["drainEnded: 2 connections moved away, 1 left"]);
    scene.snapshot.entries[1].condition.state = State::Dead;
    scene.set(State::NotReady);
    assert!(scene.messages(&mut episodes, 3).is_empty(), "there is nowhere to go");
}

#[test]
fn a_rebalance_has_a_beginning_and_an_end() {
    let mut scene = Scene::new(State::Ready, 6);
    let mut episodes = Episodes::new(RULES);
    assert!(scene.messages(&mut episodes, 0).is_empty());
    scene.snapshot.entries[1].condition.recovered_at = Some(scene.start);
    let opens = episodes.next(&scene.snapshot, scene.start);
    assert_eq!(opens, Some(scene.start + SECOND));
    let begun = ["rebalanceBegun: about 3 connections to move here within 10s"];
    assert_eq!(scene.messages(&mut episodes, 1), begun);
    scene.end(2, CloseReason::Rebalanced);
    assert!(scene.messages(&mut episodes, 10).is_empty());
    assert_eq!(scene.messages(&mut episodes, 11), ["rebalanceEnded: 2 connections moved"]);
    assert_eq!(episodes.next(&scene.snapshot, scene.start), None);
    let off = Rules { rebalance: None, ..RULES };
    assert!(scene.messages(&mut Episodes::new(off), 1).is_empty());
}
