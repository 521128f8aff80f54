//! Who stays, who comes, who leaves and when.

use super::*;
use crate::model::{BackendName, Policy, store};

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
    let roster = Roster::new(None, Rc::new(writer), &[a.clone(), b], Events::default());
    let end = async {
        roster.set_seeds(&[a], |_| {});
        sleep(Duration::from_mins(1)).await;
        assert_eq!(reader.load().entries.len(), 2);
        drop(held);
        sleep(LEAVING_PACE * 2).await;
        assert_eq!(names(&reader.load().entries), [("a", Standing::Serving)]);
    };
    tokio::select! {
        () = roster.attend() => panic!("it ended"),
        () = end => {}
    }
}

fn server(address: &str) -> Server {
    Server { address: address.parse().unwrap(), zone: None }
}

fn roster(seeds: &[BackendSpec]) -> (Roster, crate::model::Reader) {
    let entries = arrange(&[], seeds, now());
    let (writer, reader) =
        store(Snapshot { generation: 0, zone: None, policy: Policy::default(), entries });
    (Roster::new(None, Rc::new(writer), seeds, Events::default()), reader)
}

fn all_are(roster: &Roster, state: State) {
    roster.writer.update(|snapshot| {
        snapshot.entries.iter_mut().for_each(|entry| entry.condition.state = state);
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_added_and_a_seed_is_never_erased() {
    let (a, b) = (spec("a", "10.0.0.1:1"), spec("b", "cp.example.com:1"));
    let (roster, reader) = roster(&[a, b]);
    roster.writer.update(|snapshot| {
        snapshot.entries[1].addresses = ["10.0.0.2:1".parse().unwrap()].into();
    });
    let found = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(server);
    roster.found(Origin::Kubernetes, found.to_vec(), SystemTime::now());
    let shown = |reader: &crate::model::Reader| -> Vec<String> {
        reader.load().entries.iter().map(|entry| entry.backend.name.to_string()).collect()
    };
    assert_eq!(shown(&reader), ["a", "b", "10.0.0.3:1"], "two are known by other names");
    let generation = reader.load().generation;
    roster.found(Origin::File, vec![server("10.0.0.3:1")], SystemTime::now());
    roster.found(Origin::Kubernetes, vec![server("10.0.0.3:1")], SystemTime::now());
    assert_eq!(reader.load().generation, generation, "nothing differs");
    let refused = |roster: &Roster| {
        let told = roster.events.all().into_iter().map(|stamped| stamped.event);
        let is_refusal = |event: &Event| {
            matches!(event, Event::Discovery { change: Discovery::Refused { .. }, .. })
        };
        told.filter(is_refusal).count()
    };
    for _ in 0..2 {
        roster.note_problem(Origin::Kubernetes, "no answer");
        assert_eq!(refused(&roster), 1, "told once");
    }
    assert_eq!(shown(&reader).len(), 3, "a problem changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_server_lingers_while_it_lives_and_a_dead_one_does_not() {
    let (roster, reader) = roster(&[spec("a", "10.0.0.1:1")]);
    let held = RefCell::new(Vec::new());
    let (two, three) = (server("10.0.0.2:1"), server("10.0.0.3:1"));
    roster.found(Origin::Kubernetes, vec![two.clone(), three.clone()], SystemTime::now());
    all_are(&roster, State::Ready);
    let standing = |name: &str| {
        let snapshot = reader.load();
        let mut entries = snapshot.entries.iter();
        entries.find(|entry| entry.backend.name.as_str() == name).map(|entry| entry.standing)
    };
    let end = async {
        held.borrow_mut().push(reader.load().entries[1].backend.occupy());
        roster.found(Origin::Kubernetes, vec![three.clone()], SystemTime::now());
        sleep(LEAVING_PACE * 28).await;
        assert_eq!(standing("10.0.0.2:1"), Some(Standing::Serving), "it may be named again");
        sleep(LEAVING_PACE * 4).await;
        assert_eq!(standing("10.0.0.2:1"), Some(Standing::Leaving));
        sleep(Duration::from_mins(5)).await;
        assert_eq!(standing("10.0.0.2:1"), Some(Standing::Leaving), "drained, not cut");
        roster.found(Origin::Kubernetes, vec![two.clone(), three], SystemTime::now());
        assert_eq!(standing("10.0.0.2:1"), Some(Standing::Serving), "named again");
        held.borrow_mut().clear();
        all_are(&roster, State::Dead);
        roster.found(Origin::Kubernetes, vec![two], SystemTime::now());
        sleep(LEAVING_PACE * 4).await;
        assert_eq!(standing("10.0.0.3:1"), None, "dead, named no longer, without connections");
        assert_eq!(standing("a"), Some(Standing::Serving), "a seed stays, dead or not");
    };
    tokio::select! {
        () = roster.attend() => panic!("it ended"),
        () = end => {}
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_counts_until_a_live_source_answers() {
    let (roster, reader) = roster(&[spec("a", "10.0.0.1:1")]);
    let cached = ["10.0.0.2:1", "10.0.0.3:1"].map(server);
    roster.found(Origin::Cache, cached.to_vec(), SystemTime::UNIX_EPOCH);
    assert_eq!(reader.load().entries.len(), 3);
    assert_eq!(roster.to_keep(), None, "the cache is not written from itself");
    let end = async {
        roster.found(Origin::File, vec![cached[0].clone()], SystemTime::now());
        assert_eq!(roster.to_keep(), Some(vec![cached[0].clone()]));
        sleep(LEAVING_PACE * 4).await;
        assert_eq!(reader.load().entries.len(), 2);
        let sources: Vec<_> = roster.states().borrow().iter().map(|s| s.source).collect();
        assert_eq!(sources, ["static", "file"]);
    };
    tokio::select! {
        () = roster.attend() => panic!("it ended"),
        () = end => {}
    }
}
