//! A set of backend indices that fits a register, so that a pick allocates nothing.

use crate::model::MAX_BACKENDS;

/// Indices from 0 to [`MAX_BACKENDS`] - 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSet(u64);

impl IndexSet {
    /// No index.
    pub const EMPTY: Self = Self(0);

    /// The set and one index more. An index out of range is ignored.
    #[must_use]
    pub fn with(self, index: usize) -> Self {
        if index < MAX_BACKENDS { Self(self.0 | 1 << index) } else { self }
    }

    /// Is the index in the set?
    pub fn contains(self, index: usize) -> bool {
        index < MAX_BACKENDS && self.0 & (1 << index) != 0
    }

    /// Is there no index in it?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many indices it has.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The indices, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_BACKENDS).filter(move |index| self.contains(*index))
    }

    /// The indices for which `keep` is true.
    #[must_use]
    pub fn retain(self, mut keep: impl FnMut(usize) -> bool) -> Self {
        self.iter().filter(|index| keep(*index)).fold(Self::EMPTY, Self::with)
    }

    /// The `nth` index from below, counted from 0.
    pub fn nth(self, nth: usize) -> Option<usize> {
        self.iter().nth(nth)
    }
}
