//! Any backend, all equally likely.

use super::IndexSet;

pub(super) fn choose(candidates: IndexSet, rng: &mut fastrand::Rng) -> Option<usize> {
    if candidates.is_empty() { None } else { candidates.nth(rng.usize(..candidates.len())) }
}
