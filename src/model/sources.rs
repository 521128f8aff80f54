//! What is known of the places where backends come from, for those who show it.

use std::time::SystemTime;

/// A place where backends come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// `static`, `kubernetes`, `file` or `cache`.
    pub source: &'static str,
    /// The servers it names now.
    pub servers: usize,
    /// When it last confirmed that; for the cache, when it was written. `None` before the first answer.
    pub confirmed: Option<SystemTime>,
    /// Why its last answer was not taken, or there was none.
    pub problem: Option<String>,
}
