//! Where backends come from: the configured list, what is discovered besides, and the addresses behind
//! DNS names. All of it off the data path.

mod names;
mod roster;

use std::rc::Rc;
use std::time::Instant;

use crate::config::BackendSpec;
use crate::model::{Entry, Writer};

pub use names::look_up;
pub use roster::Roster;

/// The entries of a configured list, not probed yet. Those with a DNS name have no address until
/// [`run`] has resolved it.
pub fn entries(backends: &[BackendSpec], now: Instant) -> Vec<Entry> {
    roster::arrange(&[], backends, now)
}

/// What discovery is built from.
#[derive(Debug)]
pub struct Parts {
    /// Publishes addresses.
    pub writer: Rc<Writer>,
    /// Who is wanted.
    pub roster: Rc<Roster>,
}

/// Keeps the store's backends and their addresses up to date until the future is dropped. Runs on the
/// control thread's local runtime.
pub async fn run(parts: Parts) {
    let Parts { writer, roster } = parts;
    tokio::select! {
        () = names::run(writer) => {}
        () = roster.let_go() => {}
    }
}
