//! The backend with the fewest connections of this node; ties are broken at random, or every
//! freshly started node would go to the first one.

use super::IndexSet;

pub(super) fn choose(
    candidates: IndexSet,
    load: impl Fn(usize) -> usize,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let fewest = candidates.iter().map(&load).min()?;
    super::random::choose(candidates.retain(|index| load(index) <= fewest), rng)
        .or_else(|| super::random::choose(candidates, rng))
}
