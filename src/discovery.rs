//! Where backends come from: the configured list, what is discovered besides, and the addresses behind
//! DNS names. All of it off the data path.

mod cache;
mod found;
#[cfg(fuzzing)]
pub mod fuzzing;
mod known;
mod kubernetes;
mod list;
mod names;
mod roster;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::watch;

use crate::config::{BackendSpec, Discovery};
use crate::events::Events;
use crate::model::{Entry, InForce, Writer};

pub use found::{Origin, Server};
pub use known::{Known, known};
pub use names::look_up;
pub use roster::Roster;

/// The entries of a configured list, not probed yet. Those with a DNS name have no address until
/// [`run`] has resolved it.
pub fn entries(backends: &[BackendSpec], now: Instant) -> Vec<Entry> {
    roster::arrange(&[], backends, now)
}

/// The files that the kubeconfig of `discovery.kubernetes` names, if it can be read.
pub fn files_named_by(kubeconfig: &std::path::Path) -> Vec<std::path::PathBuf> {
    kubernetes::files_named_by(kubeconfig)
}

/// Where this proxy listens itself: never a server.
#[derive(Clone, Debug)]
pub struct Own {
    /// For clients.
    pub in_force: watch::Receiver<InForce>,
    /// For metrics and status.
    pub admin: SocketAddr,
}

impl Own {
    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = self.in_force.borrow().listen.clone();
        addresses.push(self.admin);
        addresses
    }
}

/// What discovery is built from.
#[derive(Debug)]
pub struct Parts {
    /// Publishes addresses.
    pub writer: Rc<Writer>,
    /// Who is wanted.
    pub roster: Rc<Roster>,
    /// Where to look; a reload can change it.
    pub places: watch::Receiver<Discovery>,
    /// Where this proxy listens.
    pub own: Own,
    /// What has happened.
    pub events: Events,
}

/// Takes in what the last run has kept, before anything else is known.
pub fn recall(parts: &Parts) {
    if let Some(path) = &parts.places.borrow().cache_file {
        cache::load(path, &parts.roster, &parts.own);
    }
}

/// Keeps the store's backends and their addresses up to date until the future is dropped. Runs on the
/// control thread's local runtime.
pub async fn run(parts: Parts) {
    let Parts { writer, roster, places, own, events } = parts;
    let reader = writer.reader();
    let sources = async {
        let mut places = places;
        loop {
            let now = places.borrow_and_update().clone();
            let live = [
                now.kubeconfig.is_some().then_some(Origin::Kubernetes),
                now.file.is_some().then_some(Origin::File),
                now.cache_file.is_some().then_some(Origin::Cache),
            ];
            roster.keep(&live.into_iter().flatten().collect::<Vec<_>>());
            let kubernetes = async {
                match &now.kubeconfig {
                    Some(path) => {
                        kubernetes::run(path, reader.clone(), roster.clone(), own.clone()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let list = async {
                match &now.file {
                    Some(path) => list::run(path, roster.clone(), own.clone()).await,
                    None => std::future::pending().await,
                }
            };
            let cache = async {
                match &now.cache_file {
                    Some(path) => cache::run(path, roster.clone()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Without the reloader nothing changes any more.
                Ok(()) = places.changed() => {}
                () = kubernetes => return,
                () = list => return,
                () = cache => return,
                else => return,
            }
        }
    };
    tokio::select! {
        () = names::run(writer, events) => {}
        () = roster.attend() => {}
        () = sources => {}
    }
}
