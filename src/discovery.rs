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

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::watch;
use tracing::warn;

use crate::config::{BackendSpec, Discovery};
use crate::events::Events;
use crate::model::{BackendAddress, Entry, InForce, Writer};
use crate::net;
use found::Sane;

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
    in_force: watch::Receiver<InForce>,
    /// For metrics and status.
    admin: SocketAddr,
    /// The servers that were left out for it: each is told once.
    told: Rc<RefCell<HashSet<BackendAddress>>>,
}

impl Own {
    /// What listens for clients, and for metrics and status.
    pub fn new(in_force: watch::Receiver<InForce>, admin: SocketAddr) -> Self {
        Self { in_force, admin, told: Rc::default() }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = self.in_force.borrow().listen.clone();
        addresses.push(self.admin);
        addresses
    }

    /// The servers of an answer; tells who is left out.
    fn others(&self, origin: Origin, answer: Sane) -> Vec<Server> {
        for server in answer.own {
            self.tell(origin.as_str(), &server);
        }
        answer.servers
    }

    /// What a name stands for besides this proxy; tells what is left out.
    ///
    /// # Errors
    /// Nothing, in words.
    fn others_of_name(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        let own = self.addresses();
        let is_own = |target: &SocketAddr| {
            own.iter().any(|own| net::meets(*own, *target, net::is_of_this_host))
        };
        let (mine, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_own);
        if let (Some(own), true) = (mine.first(), others.is_empty()) {
            return Err(format!("it leads back to this proxy, at {own}"));
        }
        for own in mine {
            self.tell("dns", &own.into());
        }
        Ok(others)
    }

    fn tell(&self, source: &str, server: &BackendAddress) {
        if self.told.borrow_mut().insert(server.clone()) {
            warn!(source, %server, "this proxy itself listens there: the server is left out");
        }
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
        () = names::run(writer, events, own.clone()) => {}
        () = roster.attend() => {}
        () = sources => {}
    }
}
