//! The less loaded of two different backends drawn at random.

use super::IndexSet;

pub(super) fn choose(
    candidates: IndexSet,
    load: impl Fn(usize) -> usize,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let first = super::random::choose(candidates, rng)?;
    match super::random::choose(candidates.retain(|index| index != first), rng) {
        Some(second) if load(second) < load(first) => Some(second),
        _ => Some(first),
    }
}
