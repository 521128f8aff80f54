//! Backends with a DNS name: their addresses, looked up off the data path.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::Own;
use crate::events::{Discovery, Event, Events};
use crate::model::{Backend, BackendAddress, Entry, Host, Reader, State, Writer};

/// How often a name is looked up again.
const REFRESH: Duration = Duration::from_secs(30);

/// The same while its backend is dead: its addresses may have changed.
const REFRESH_DEAD: Duration = Duration::from_secs(5);

/// How soon a failed look-up is tried again; doubled up to [`REFRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A resolver that does not answer is given up after this time; the last addresses stay.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the addresses of all named backends up to date, whoever they are, until the future is
/// dropped. The system's resolver does not tell how long an answer holds, so that names are looked up
/// at a pace of ours. A resolver that tells (hickory-resolver 0.26) would make the program 1.0 MiB longer
/// and take 0.8 MiB of memory more, and know nothing of what the host's own is told besides DNS.
pub(super) async fn run(writer: Rc<Writer>, events: Events, own: Own) {
    let mut changed = writer.reader().subscribe();
    let mut tasks = JoinSet::new();
    let mut followed: Vec<(Arc<Backend>, AbortHandle)> = Vec::new();
    loop {
        let snapshot = writer.reader().load().clone();
        followed.retain(|(backend, task)| {
            let stays = snapshot.entry(backend).is_some();
            if !stays {
                task.abort();
            }
            stays
        });
        for entry in &snapshot.entries {
            let known = followed.iter().any(|(backend, _)| Arc::ptr_eq(backend, &entry.backend));
            if let (Host::Name(name), false) = (entry.backend.address.host(), known) {
                let (backend, name) = (entry.backend.clone(), name.clone());
                let task = follow(writer.clone(), events.clone(), own.clone(), backend, name);
                followed.push((entry.backend.clone(), tasks.spawn_local(task)));
            }
        }
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            Some(ended) = tasks.join_next() => match ended {
                Err(error) if error.is_cancelled() => {}
                // None of them ends by itself: this is a defect, which the caller acts on.
                _ => return,
            },
        }
    }
}

async fn follow(writer: Rc<Writer>, events: Events, own: Own, backend: Arc<Backend>, name: String) {
    let mut retry = FIRST_RETRY;
    let mut warned = false;
    loop {
        let answer = look_up(&backend.address, &name).await;
        match answer.and_then(|addresses| own.others_of_name(addresses)) {
            Ok(addresses) => {
                publish(&writer, &events, &backend, &addresses);
                (retry, warned) = (FIRST_RETRY, false);
                pause(&writer.reader(), &backend).await;
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

/// Waits until a name that was found is to be looked up again.
async fn pause(reader: &Reader, backend: &Arc<Backend>) {
    let end = Instant::now() + REFRESH;
    sleep(REFRESH_DEAD).await;
    let mut changed = reader.subscribe();
    loop {
        let is_dead = |entry: &Entry| entry.condition.state == State::Dead;
        if reader.load().entry(backend).is_some_and(is_dead) {
            return;
        }
        tokio::select! {
            () = sleep_until(end) => return,
            // Without a writer nothing changes any more, and this task is about to end.
            result = changed.changed() => if result.is_err() { return },
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
    let (name, resolved) = (backend.name.clone(), addresses.to_vec());
    let change = Discovery::Resolved { backend: name, addresses: resolved };
    events.record(Event::Discovery { source: "dns".to_owned(), change });
    writer.update(|snapshot| {
        if let Some(entry) = snapshot.entries.iter_mut().find(|e| Arc::ptr_eq(&e.backend, backend))
        {
            entry.addresses = addresses.into();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendName, Condition, Policy, Snapshot, store};

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_sooner_while_its_backend_is_dead() {
        let now = Instant::now().into_std();
        let name = BackendName::new("cp1");
        let backend = Backend::new(name, "cp1.example.com:6443".parse().unwrap(), None);
        let backend = Arc::new(backend);
        let entry = Entry::new(backend.clone(), [].into(), Condition::unknown(now));
        let (writer, reader) = store(Snapshot {
            generation: 0,
            zone: None,
            policy: Policy::default(),
            entries: vec![entry],
        });
        let set = |state| writer.update(|snapshot| snapshot.entries[0].condition.state = state);
        let paused = async || {
            let start = Instant::now();
            pause(&reader, &backend).await;
            start.elapsed().as_secs()
        };
        set(State::Ready);
        assert_eq!(paused().await, 30);
        let dies = async {
            sleep(Duration::from_secs(12)).await;
            set(State::Dead);
        };
        let (time, ()) = tokio::join!(paused(), dies);
        assert_eq!(time, 12, "at once when it dies");
        assert_eq!(paused().await, 5, "and again and again");
        set(State::NotReady);
        assert_eq!(paused().await, 30, "who answers has an address that is right");
    }
}
