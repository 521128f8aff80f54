//! One backend after another, from a random start.

use super::{IndexSet, Turn};

pub(super) fn choose(candidates: IndexSet, turn: &mut Turn) -> Option<usize> {
    match turn.last {
        None => super::random::choose(candidates, &mut turn.rng),
        Some(last) => candidates.iter().find(|index| *index > last).or_else(|| candidates.nth(0)),
    }
}
