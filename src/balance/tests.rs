//! What the policies promise, over many seeds.

use std::sync::Arc;

use super::*;
use crate::model::{Backend, BackendName, Condition, Entry, State, Zone};

const ROUNDS: u64 = 3000;

fn entry(number: usize, state: State, zone: Option<&str>, now: Instant) -> Entry {
    let address = format!("10.0.0.{number}:6443").parse().unwrap();
    let backend =
        Backend::new(BackendName::new(format!("cp{number}")), address, zone.map(Zone::from));
    let condition = Condition { state, ..Condition::unknown(now) };
    Entry::new(Arc::new(backend), [].into(), condition)
}

pub(super) fn snapshot(policy: Policy, states: &[State], now: Instant) -> Snapshot {
    let entries =
        states.iter().enumerate().map(|(number, state)| entry(number, *state, None, now)).collect();
    Snapshot { generation: 0, zone: None, policy, entries }
}

fn first_picks(snapshot: &Snapshot, now: Instant) -> Vec<u64> {
    let mut counts = vec![0; snapshot.entries.len()];
    for seed in 0..ROUNDS {
        let index = pick(snapshot, now, IndexSet::EMPTY, IndexSet::EMPTY, &mut Turn::new(seed))
            .expect("a pick");
        counts[index] += 1;
    }
    counts
}

const POLICIES: [Policy; 4] =
    [Policy::LeastConnections, Policy::RoundRobin, Policy::Random, Policy::PowerOfTwo];

#[test]
fn first_pick_of_fresh_nodes_is_spread_evenly() {
    let now = Instant::now();
    for policy in POLICIES {
        let counts = first_picks(&snapshot(policy, &[State::Ready; 3], now), now);
        for count in &counts {
            assert!((800..1200).contains(count), "{policy:?}: {counts:?}");
        }
    }
}

#[test]
fn better_tiers_come_first_and_every_backend_is_tried_once() {
    let now = Instant::now();
    let states = [State::Dead, State::NotReady, State::Drained, State::Unknown, State::Ready];
    for policy in POLICIES {
        let snapshot = snapshot(policy, &states, now);
        let mut turn = Turn::new(7);
        let mut tried = IndexSet::EMPTY;
        let mut order = Vec::new();
        while let Some(index) = pick(&snapshot, now, tried, IndexSet::EMPTY, &mut turn) {
            order.push(index);
            tried = tried.with(index);
        }
        assert_eq!(order, [4, 3, 1, 2, 0], "{policy:?}");
    }
}

#[test]
fn own_zone_first_then_spill_over() {
    let now = Instant::now();
    for policy in POLICIES {
        let mut snapshot = snapshot(policy, &[], now);
        snapshot.zone = Some("a".into());
        snapshot.entries = vec![
            entry(0, State::Ready, Some("b"), now),
            entry(1, State::Ready, Some("a"), now),
            entry(2, State::Ready, None, now),
        ];
        assert_eq!(first_picks(&snapshot, now)[1], ROUNDS, "{policy:?}");
        snapshot.entries[1].condition.state = State::NotReady;
        let counts = first_picks(&snapshot, now);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 1000 && counts[2] > 1000, "{policy:?}: {counts:?}");
    }
}

#[test]
fn least_connections_levels_the_load() {
    let now = Instant::now();
    let snapshot = snapshot(Policy::LeastConnections, &[State::Ready; 3], now);
    let mut turn = Turn::new(1);
    let mut open = Vec::new();
    for _ in 0..30 {
        let index = pick(&snapshot, now, IndexSet::EMPTY, IndexSet::EMPTY, &mut turn).unwrap();
        open.push(snapshot.entries[index].backend.occupy());
    }
    for entry in &snapshot.entries {
        assert_eq!(entry.backend.counters.active(), 10);
    }
}

#[test]
fn round_robin_takes_turns() {
    let now = Instant::now();
    let snapshot = snapshot(Policy::RoundRobin, &[State::Ready; 3], now);
    let mut turn = Turn::new(3);
    let picks: Vec<_> = (0..7)
        .map(|_| pick(&snapshot, now, IndexSet::EMPTY, IndexSet::EMPTY, &mut turn).unwrap())
        .collect();
    for pair in picks.windows(2) {
        assert_eq!(pair[1], (pair[0] + 1) % 3, "{picks:?}");
    }
}

#[test]
fn power_of_two_avoids_the_busiest() {
    let now = Instant::now();
    let snapshot = snapshot(Policy::PowerOfTwo, &[State::Ready; 3], now);
    let _busy: Vec<_> = (0..5).map(|_| snapshot.entries[0].backend.occupy()).collect();
    assert_eq!(first_picks(&snapshot, now)[0], 0);
}

#[test]
fn a_recovered_backend_gets_its_share_gradually() {
    let start = Instant::now();
    let mut snapshot = snapshot(Policy::LeastConnections, &[State::Ready; 3], start);
    snapshot.entries[0].condition.recovered_at = Some(start);
    let _others: Vec<_> = (1..3)
        .flat_map(|index| (0..5).map(move |_| index))
        .map(|index| snapshot.entries[index].backend.occupy())
        .collect();
    let at = |seconds| first_picks(&snapshot, start + Duration::from_secs(seconds))[0];
    assert!((20..110).contains(&at(0)), "{}", at(0));
    assert!((1300..1700).contains(&at(15)), "{}", at(15));
    assert_eq!(at(30), ROUNDS);
    snapshot.entries.truncate(1);
    assert_eq!(first_picks(&snapshot, start)[0], ROUNDS, "alone, it takes everything at once");
}
