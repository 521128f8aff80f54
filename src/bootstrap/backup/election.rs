//! Who takes the backup of a slot, without a leader: every member works out the same ranks, the first
//! goes at once, and each of the others waits its turn and looks whether there is anything left to do.
//! What makes sure that it is one alone is the claim in etcd (`claim`); ranks keep it quiet.

use std::time::Duration;

use ring::digest::{Context, SHA256};

/// How long each rank waits for the one before it.
pub const TURN: Duration = Duration::from_secs(30);

/// The place of a member in the order of a slot: 0 goes first. The slot is its second since 1970. None
/// if it is not among those that vote.
pub fn rank(slot: u64, voting: &[u64], own: u64) -> Option<usize> {
    let weight = |member: u64| {
        let mut context = Context::new(&SHA256);
        context.update(&slot.to_be_bytes());
        context.update(&member.to_be_bytes());
        // The number decides between equal ones, which will never be.
        (context.finish().as_ref().to_vec(), member)
    };
    let mine = weight(own);
    let others = voting.iter().filter(|member| weight(**member) < mine);
    voting.contains(&own).then_some(others.count())
}

/// How long a rank waits before it looks.
pub fn wait(rank: usize, turn: Duration) -> Duration {
    turn * u32::try_from(rank).unwrap_or(u32::MAX).min(100)
}

/// What there is to be done for a slot, by what etcd says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has taken the backup: its name.
    Done(String),
    /// Somebody is at it: who.
    Claimed(String),
    /// Nobody is.
    Open,
}

/// What a member does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing: the backup is there.
    Leave(String),
    /// Look again after a while: its turn has not come, or somebody is at it.
    Wait(Duration),
    /// Claim the slot.
    Claim,
    /// Nobody took it in time, and there is no time left.
    TooLate(String),
}

/// How long it is waited between two looks at one that is at it.
const LOOK: Duration = Duration::from_secs(5);

/// What a member of this rank does, so long after it began.
pub fn decide(
    rank: usize,
    since: Duration,
    turn: Duration,
    limit: Duration,
    standing: &Standing,
) -> Turn {
    let own = wait(rank, turn);
    match standing {
        Standing::Done(name) => Turn::Leave(name.clone()),
        Standing::Claimed(by) if since >= limit => Turn::TooLate(by.clone()),
        Standing::Claimed(_) => Turn::Wait(LOOK.min(turn)),
        Standing::Open if since >= own => Turn::Claim,
        // In between it is looked too: when the first is done, the others need not stay.
        Standing::Open => Turn::Wait(own.saturating_sub(since).min(LOOK.min(turn))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_member_has_a_rank_of_its_own(
            slot in any::<u64>(),
            members in prop::collection::btree_set(any::<u64>(), 1..9),
        ) {
            let members: Vec<_> = members.into_iter().collect();
            let mut turned = members.clone();
            turned.reverse();
            let ranks: BTreeSet<_> = members.iter().map(|own| rank(slot, &members, *own)).collect();
            prop_assert_eq!(ranks, (0..members.len()).map(Some).collect::<BTreeSet<_>>());
            for own in &members {
                prop_assert_eq!(rank(slot, &members, *own), rank(slot, &turned, *own));
            }
        }
    }

    #[test]
    fn the_first_rank_goes_round() {
        let members = [11, 22, 33];
        let mut firsts = BTreeMap::new();
        for slot in (0..3000).map(|slot| slot * 3600) {
            let first = members.into_iter().find(|own| rank(slot, &members, *own) == Some(0));
            *firsts.entry(first.unwrap()).or_insert(0) += 1;
        }
        assert!(firsts.values().all(|count| (900..1100).contains(count)), "{firsts:?}");
        assert_eq!(rank(0, &members, 44), None, "a learner has none");
    }

    #[test]
    fn each_waits_its_turn_and_leaves_when_it_is_done() {
        let second = Duration::from_secs;
        let limit = second(1800);
        let decide = |rank, since, standing: &Standing| {
            super::decide(rank, second(since), TURN, limit, standing)
        };
        let (done, claimed) = (Standing::Done("b".into()), Standing::Claimed("e1".into()));
        assert_eq!(decide(0, 0, &Standing::Open), Turn::Claim);
        assert_eq!(decide(1, 0, &Standing::Open), Turn::Wait(second(5)));
        assert_eq!(decide(1, 28, &Standing::Open), Turn::Wait(second(2)));
        assert_eq!(decide(1, 30, &Standing::Open), Turn::Claim);
        assert_eq!(decide(2, 30, &Standing::Open), Turn::Wait(second(5)));
        assert_eq!(decide(2, 60, &claimed), Turn::Wait(second(5)));
        assert_eq!(decide(2, 60, &done), Turn::Leave("b".into()));
        assert_eq!(decide(2, 1800, &claimed), Turn::TooLate("e1".into()));
        assert_eq!(decide(2, 1800, &Standing::Open), Turn::Claim, "better late than never");
    }
}
