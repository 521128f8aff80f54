//! The arithmetic of quorums against a plain count of what could happen.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::members::{Member, Members, View};
use super::super::quorum::{Quorum, may_be_removed, may_go_down};

/// Members 1, 2, ..: each votes or learns, and answers or not.
fn view(members: &[(bool, bool)]) -> View {
    let member = |(at, (learner, _)): (usize, &(bool, bool))| Member {
        id: at as u64 + 1,
        name: format!("e{}", at + 1),
        peer_urls: vec![format!("https://10.0.0.{}:2380", at + 1)],
        client_urls: vec![format!("https://10.0.0.{}:2379", at + 1)],
        learner: *learner,
    };
    let list: Vec<_> = members.iter().enumerate().map(member).collect();
    let healthy = list.iter().zip(members).filter(|(_, (_, healthy))| *healthy);
    let healthy = healthy.map(|(member, _)| member.id).collect();
    View { members: Members { cluster: 1, list }, healthy, status: BTreeMap::default() }
}

const VOTER: (bool, bool) = (false, true);
const DEAD: (bool, bool) = (false, false);
const LEARNER: (bool, bool) = (true, true);

#[test]
fn the_numbers_of_usual_clusters() {
    for (voting, needed, tolerated) in
        [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2), (7, 4, 3)]
    {
        let quorum = Quorum { voting, healthy: voting };
        assert_eq!((quorum.needed(), quorum.tolerated()), (needed, tolerated), "{voting}");
    }
}

#[test]
fn a_refusal_says_the_numbers() {
    let two_of_three = view(&[VOTER, VOTER, DEAD]);
    let refusal = may_go_down(&two_of_three, 1).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "e1 must not go down now: 1 of 3 voting members would answer, and 2 are needed for a quorum"
    );
    let refusal = may_be_removed(&two_of_three, 1).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "e1 must not be removed now: 1 of 2 voting members would answer, and 2 are needed for a \
         quorum"
    );
    let refusal = may_be_removed(&view(&[VOTER, DEAD, DEAD]), 3).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "e3 must not be removed now: 1 of 3 voting members answer, and 2 are needed for a quorum"
    );
}

#[test]
fn who_may_go() {
    let two_of_three = view(&[VOTER, VOTER, DEAD]);
    assert!(may_be_removed(&two_of_three, 3).is_ok(), "the dead one");
    assert!(may_go_down(&two_of_three, 3).is_ok(), "it is down already");
    assert!(may_go_down(&view(&[VOTER, VOTER, VOTER]), 2).is_ok());
    assert!(may_be_removed(&view(&[VOTER]), 1).is_err(), "nobody would be left");
    assert!(may_go_down(&view(&[VOTER]), 1).is_ok(), "it can never be spared");
    let learning = view(&[VOTER, VOTER, DEAD, LEARNER]);
    assert!(may_be_removed(&learning, 4).is_ok());
    assert!(may_go_down(&learning, 4).is_ok());
    assert!(may_go_down(&learning, 1).is_err(), "a learner has no vote");
    assert!(may_be_removed(&learning, 9).is_ok(), "it is no member");
}

/// Would most of those that vote answer?
fn holds(members: &[(bool, bool)]) -> bool {
    let voting = members.iter().filter(|(learner, _)| !learner);
    let answering = voting.clone().filter(|(_, healthy)| *healthy).count();
    answering * 2 > voting.count()
}

proptest! {
    #[test]
    fn what_is_allowed_leaves_a_quorum(
        members in prop::collection::vec((prop::bool::weighted(0.2), any::<bool>()), 1..10),
        at in 0_usize..10,
    ) {
        let at = at % members.len();
        let id = at as u64 + 1;
        let view = view(&members);
        let quorum = Quorum::of(&view);
        prop_assert_eq!(quorum.holds(), holds(&members));

        let mut without = members.clone();
        without.remove(at);
        let allowed = may_be_removed(&view, id).is_ok();
        prop_assert_eq!(allowed, holds(&members) && holds(&without));

        let mut down = members.clone();
        down[at].1 = false;
        let voting = members.iter().filter(|(learner, _)| !learner).count();
        let spared = holds(&down) || down == members || members[at].0 || voting < 3;
        prop_assert_eq!(may_go_down(&view, id).is_ok(), spared);

        if holds(&members) {
            // So many may still fail, and not one more.
            let answering = quorum.healthy - quorum.tolerated();
            prop_assert!(answering * 2 > quorum.voting);
            prop_assert!((answering - 1) * 2 <= quorum.voting);
        }
        prop_assert_eq!(quorum.promoted().voting, quorum.voting + 1);
    }
}
