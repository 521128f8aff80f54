//! Which backups of a folder may go: never the last good one.

use super::name::BackupName;

/// A backup of a folder, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// Its name.
    pub name: BackupName,
    /// Is it intact and whole? One that is not stands in nobody's place.
    pub good: bool,
    /// Seconds since it came into this folder, by this host's clock.
    pub here: u64,
}

/// The rules of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many good backups are kept.
    pub keep: usize,
    /// Seconds for which everything is kept, whatever came after it: so that no flood of new ones drives
    /// the old ones out. 0 where only the host itself writes.
    pub at_least: u64,
}

/// The backups that may go: what is older than the newest `keep` good ones. What is not good goes when
/// it is older than they are as well; until then it may tell what happened. Others' backups are not
/// ours to remove.
pub(super) fn superfluous(cluster: &str, all: &[Kept], rules: Rules) -> Vec<BackupName> {
    let mut ours: Vec<_> = all.iter().filter(|one| one.name.cluster == cluster).collect();
    ours.sort_by(|a, b| b.name.cmp(&a.name));
    let mut good = 0;
    let mut gone = Vec::new();
    for one in ours {
        let enough = good >= rules.keep.max(1);
        if enough && one.here >= rules.at_least {
            gone.push(one.name.clone());
        }
        good += usize::from(one.good);
    }
    gone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(seconds: u64, good: bool, here: u64) -> Kept {
        let name = BackupName { cluster: "prod".to_owned(), seconds, revision: 1 };
        Kept { name, good, here }
    }

    fn gone(all: &[Kept], keep: usize, at_least: u64) -> Vec<u64> {
        let gone = superfluous("prod", all, Rules { keep, at_least });
        gone.into_iter().map(|name| name.seconds).collect()
    }

    #[test]
    fn the_newest_good_ones_stay() {
        let all: Vec<_> = (1..=5).map(|day| kept(day, day != 4, 9)).collect();
        assert_eq!(gone(&all, 2, 0), [2, 1], "4 is damaged, and stands in nobody's place");
        assert_eq!(gone(&all, 1, 0), [4, 3, 2, 1]);
        assert_eq!(gone(&all, 0, 0), [4, 3, 2, 1], "one always stays");
        assert_eq!(gone(&all, 9, 0), [0; 0]);
    }

    #[test]
    fn a_flood_drives_nothing_out() {
        let all: Vec<_> = (1..=5).map(|day| kept(day, true, 60)).collect();
        assert_eq!(gone(&all, 2, 61), [0; 0]);
        assert_eq!(gone(&all, 2, 60), [3, 2, 1]);
    }

    #[test]
    fn another_clusters_are_left_alone() {
        let mut all: Vec<_> = (1..=3).map(|day| kept(day, true, 9)).collect();
        all[0].name.cluster = "test".to_owned();
        assert_eq!(gone(&all, 1, 0), [2]);
    }

    proptest! {
        #[test]
        fn the_last_good_one_never_goes(
            good in prop::collection::vec(any::<bool>(), 1..40), keep in 0_usize..10,
        ) {
            let all: Vec<_> = (0..).zip(&good).map(|(day, good)| kept(day, *good, 9)).collect();
            let gone = gone(&all, keep, 0);
            let last = all.iter().rev().find(|one| one.good).map(|one| one.name.seconds);
            prop_assert!(last.is_none_or(|last| !gone.contains(&last)), "{gone:?}");
            let left = all.iter().filter(|one| one.good && !gone.contains(&one.name.seconds));
            let there = good.iter().filter(|good| **good).count();
            prop_assert_eq!(left.count(), there.min(keep.max(1)));
        }
    }
}
