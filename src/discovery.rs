//! Where backends come from: the configured list, with its DNS names resolved off the data path.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::config::BackendSpec;
use crate::events::{Discovery, Event, Events};
use crate::model::{Backend, BackendAddress, Condition, Entry, Host, Writer};

/// How often a name is looked up again.
const REFRESH: Duration = Duration::from_secs(30);

/// How soon a failed look-up is tried again; doubled up to [`REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A resolver that does not answer is given up after this time; the last addresses stay.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The entries of a configured list, not probed yet. Those with a DNS name have no address until
/// [`run`] has resolved it.
pub fn entries(backends: &[BackendSpec], now: Instant) -> Vec<Entry> {
    let entry = |spec: &BackendSpec| {
        let backend = Backend::new(spec.name.clone(), spec.address.clone(), spec.zone.clone());
        let addresses = spec.address.socket_addr().into_iter().collect();
        Entry::new(Arc::new(backend), addresses, Condition::unknown(now))
    };
    backends.iter().map(entry).collect()
}

/// Keeps the addresses of all named backends up to date until the future is dropped.
pub async fn run(writer: Rc<Writer>, events: Events) {
    let snapshot = writer.reader().load().clone();
    let mut tasks = tokio::task::JoinSet::new();
    for entry in &snapshot.entries {
        if let Host::Name(name) = entry.backend.address.host() {
            tasks.spawn_local(follow(
                writer.clone(),
                events.clone(),
                entry.backend.clone(),
                name.clone(),
            ));
        }
    }
    match tasks.join_next().await {
        // None of them ends by itself: this is a defect, which the caller acts on.
        Some(_) => {}
        None => std::future::pending().await,
    }
}

async fn follow(writer: Rc<Writer>, events: Events, backend: Arc<Backend>, name: String) {
    let mut retry = FIRST_RETRY;
    let mut warned = false;
    loop {
        match look_up(&backend.address, &name).await {
            Ok(addresses) => {
                publish(&writer, &events, &backend, &addresses);
                (retry, warned) = (FIRST_RETRY, false);
                sleep(REFRESH).await;
            }
            Err(problem) => {
                if !warned {
                    warn!(backend = %backend.name, %problem, "cannot resolve; the last addresses stay");
                    warned = true;
                }
                sleep(retry).await;
                retry = (retry * 2).min(REFRESH);
            }
        }
    }
}

/// Looks a backend's name up once. Sorted, so that an unchanged answer in another order is seen as
/// unchanged.
///
/// # Errors
/// What the resolver says, in words; an empty answer is an error too.
pub async fn look_up(address: &BackendAddress, name: &str) -> Result<Vec<SocketAddr>, String> {
    let answer = timeout(LOOK_UP_TIMEOUT, tokio::net::lookup_host((name, address.port()))).await;
    let mut addresses: Vec<_> = match answer {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {LOOK_UP_TIMEOUT:?}")),
    };
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

fn publish(writer: &Writer, events: &Events, backend: &Arc<Backend>, addresses: &[SocketAddr]) {
    let reader = writer.reader();
    let unchanged = reader.load().entry(backend).is_none_or(|entry| *entry.addresses == *addresses);
    if unchanged {
        return;
    }
    let (name, addresses_now) = (backend.name.clone(), addresses.to_vec());
    let change = Discovery::Resolved { backend: name, addresses: addresses_now };
    events.record(Event::Discovery { source: "dns".to_owned(), change });
    writer.update(|snapshot| {
        if let Some(entry) = snapshot.entries.iter_mut().find(|e| Arc::ptr_eq(&e.backend, backend))
        {
            entry.addresses = addresses.into();
        }
    });
}
