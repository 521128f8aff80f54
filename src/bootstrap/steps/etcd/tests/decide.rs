//! What is done about a member in each situation that can be found.

use super::super::decide::{Move, Others, decide};
use super::super::members::{Member, Members, Status};
use super::super::probe::Probe;
use super::cluster;
use crate::bootstrap::spec::Version;

fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("e{id}"),
        peer_urls: vec![format!("https://10.0.0.{}:2380", 20 + id)],
        client_urls: vec![format!("https://10.0.0.{}:2379", 20 + id)],
        learner: false,
    }
}

fn status(id: u64) -> Status {
    Status {
        id,
        cluster: 1,
        version: "3.4.23".to_owned(),
        leader: 2,
        revision: 1,
        index: 1,
        applied: 1,
        learner: false,
        size: 1,
        errors: Vec::new(),
    }
}

fn quorum(list: impl IntoIterator<Item = Member>) -> Others {
    Others::Quorum(Members { cluster: 1, list: list.into_iter().collect() })
}

fn all() -> Vec<Member> {
    (1..=3).map(member).collect()
}

/// A member that has all it should have.
fn well() -> Probe {
    Probe {
        program: Some("/usr/bin/etcd".to_owned()),
        version: Some(Version::new(3, 4, 23)),
        certificates: true,
        data: true,
        running: true,
        enabled: true,
        members: Some(Members { cluster: 1, list: all() }),
        status: Some(status(1)),
        ..Probe::default()
    }
}

fn bare() -> Probe {
    let well = well();
    Probe { program: well.program, version: well.version, certificates: true, ..Probe::default() }
}

fn decided(probe: &Probe, files_match: bool, others: &Others) -> Move {
    decide(&cluster(3).hosts[0], probe, files_match, others).unwrap()
}

fn none(formed: &[&str], silent: &[&str]) -> Others {
    let owned = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
    Others::NoQuorum { formed: owned(formed), silent: owned(silent) }
}

#[test]
fn a_member_that_is_well_is_left_alone() {
    assert_eq!(decided(&well(), true, &quorum(all())), Move::Nothing);
}

#[test]
fn a_new_cluster_is_founded_once_and_by_all() {
    assert_eq!(decided(&bare(), false, &none(&[], &[])), Move::Found);
    let started = Probe { initial: true, running: true, enabled: true, data: true, ..bare() };
    assert_eq!(decided(&started, true, &none(&[], &[])), Move::Nothing, "it waits for nobody");
    let killed = Probe { running: false, ..started.clone() };
    assert_eq!(decided(&killed, true, &none(&[], &[])), Move::Found);
    assert_eq!(decided(&started, false, &none(&[], &[])), Move::Found);
}

#[test]
fn no_second_cluster_is_made_beside_one_that_is_down() {
    let host = &cluster(3).hosts[0];
    let error = decide(host, &bare(), false, &none(&["e2", "e3"], &[])).unwrap_err().to_string();
    assert!(error.starts_with("e1 has no data of etcd and cannot be added"), "{error}");
    assert!(error.contains("e2, e3") && error.contains("etcd restore"), "{error}");
    let error =
        decide(host, &bare(), false, &none(&[], &["e3: no route"])).unwrap_err().to_string();
    assert!(error.contains("one may be there (e3: no route)"), "{error}");
}

#[test]
fn members_of_a_cluster_that_was_switched_off_start_without_waiting() {
    let off = Probe { running: false, members: None, status: None, ..well() };
    assert_eq!(decided(&off, true, &none(&["e1", "e2", "e3"], &[])), Move::Start);
    let waiting = Probe { running: true, ..off.clone() };
    assert_eq!(decided(&waiting, true, &none(&["e1"], &["e2", "e3"])), Move::Nothing);
    assert_eq!(decided(&waiting, false, &none(&["e1"], &[])), Move::Start, "drift may be why");
}

#[test]
fn a_last_founder_joins_its_cluster_as_the_member_that_it_is() {
    let mut members = all();
    members[0].client_urls.clear();
    let late = decided(&bare(), false, &quorum(members.clone()));
    assert_eq!(late, Move::Finish { id: 1, aside: false });
    let starting = Probe { initial: true, members: None, status: None, ..well() };
    assert_eq!(decided(&starting, true, &quorum(members)), Move::Nothing, "any moment now");
}

#[test]
fn a_host_that_is_no_member_joins() {
    let others = || (2..=3).map(member);
    assert_eq!(decided(&bare(), false, &quorum(others())), Move::Join { stale: vec![] });
    // Its machine has another address now.
    let moved = Member { name: "e1".to_owned(), ..member(9) };
    let known = quorum(others().chain([moved]));
    assert_eq!(decided(&bare(), false, &known), Move::Join { stale: vec![9] });
}

#[test]
fn lost_data_never_come_back_as_the_same_member() {
    let lost = Probe { data: false, running: false, members: None, status: None, ..well() };
    assert_eq!(decided(&lost, true, &quorum(all())), Move::Join { stale: vec![1] });
    let under_its_feet = Probe { data: false, ..well() };
    assert_eq!(decided(&under_its_feet, true, &quorum(all())), Move::Join { stale: vec![1] });
}

#[test]
fn a_join_that_was_cut_short_goes_on() {
    let mut members = all();
    members[0] = Member { name: String::new(), client_urls: vec![], learner: true, ..member(1) };
    let finish = |aside| Move::Finish { id: 1, aside };
    assert_eq!(decided(&bare(), false, &quorum(members.clone())), finish(false));
    let old_data = Probe { data: true, ..bare() };
    let of_old_life = decided(&old_data, false, &quorum(members.clone()));
    assert_eq!(of_old_life, finish(true), "data of another member");
    let started = Probe { initial: true, data: true, running: true, ..bare() };
    assert_eq!(decided(&started, true, &quorum(members.clone())), finish(false));
    members[0] = Member { learner: true, ..member(1) };
    assert_eq!(decided(&started, true, &quorum(members)), finish(false), "it learns");
}

#[test]
fn drift_and_halts_are_put_right() {
    let others = quorum(all());
    let restart = Move::Restart { id: 1 };
    assert_eq!(decided(&well(), false, &others), restart);
    assert_eq!(decided(&Probe { pending: true, ..well() }, true, &others), restart);
    assert_eq!(decided(&Probe { reload: true, ..well() }, true, &others), restart);
    assert_eq!(decided(&Probe { enabled: false, ..well() }, true, &others), restart);
    let upgraded = Probe { version: Some(Version::new(3, 5, 26)), ..well() };
    assert_eq!(decided(&upgraded, true, &others), restart);
    let revive = Move::Revive { id: 1 };
    assert_eq!(decided(&Probe { running: false, ..well() }, true, &others), revive);
    assert_eq!(decided(&Probe { members: None, ..well() }, true, &others), revive);
    let other = Probe { status: Some(status(7)), ..well() };
    assert_eq!(decided(&other, true, &others), revive, "somebody else answers");
    assert_eq!(decided(&Probe { initial: true, ..well() }, true, &others), Move::Seal);
}
