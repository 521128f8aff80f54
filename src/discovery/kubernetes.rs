//! The EndpointSlices of `default/kubernetes`, listed and watched through the proxy's own backends.
//!
//! A small client instead of a library: it goes to whichever backend is ready, leaves one that dies with
//! the snapshot, and adds little to the memory of a process that watches one object.

mod kubeconfig;
mod replaced;
mod request;
pub(super) mod slices;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use hyper::body::Bytes;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::Own;
use super::found::{Origin, sane};
use super::roster::Roster;
use crate::model::{Entry, Reader, Standing, State};
use replaced::Files;
use request::Connection;
use slices::{News, Slices};

#[cfg(fuzzing)]
pub(super) use kubeconfig::understands as understands_kubeconfig;

const PATH: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?\
                    labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";

/// For connecting, shaking hands and listing: an apiserver under load answers a list of one object from
/// its cache all the same.
const LIST_WITHIN: Duration = Duration::from_secs(5);

/// Watches last for so long, from this to twice as much, as those of client-go do. Then certificates
/// are read anew and another backend may be asked.
const WATCH_FOR: Duration = Duration::from_mins(5);

/// Bookmarks come every minute: a watch that is silent for longer than several of them is dead.
const SILENCE: Duration = Duration::from_mins(4);

/// After a failure; doubled with each one up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// After a watch that broke off: the servers answer lists, so that what they say is soon heard again.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// A watch that lasted for so long was no failure.
const GOOD: Duration = Duration::from_secs(10);

/// The largest answer to a list, and the longest event.
const LARGEST: usize = 4 * 1024 * 1024;

/// The files that a kubeconfig names, if it can be read.
pub(super) fn files_named_by(path: &Path) -> Vec<PathBuf> {
    kubeconfig::files(path)
}

/// Follows the EndpointSlices until the future is dropped.
pub(super) async fn run(kubeconfig: &Path, snapshot: Reader, roster: Rc<Roster>, own: Own) {
    let mut retry = FIRST_RETRY;
    loop {
        let session = Session {
            kubeconfig,
            snapshot: &snapshot,
            roster: &roster,
            own: &own,
            listed: Cell::new(false),
            taken: Cell::new(false),
        };
        let began = Instant::now();
        match session.run().await {
            Ok(()) => retry = FIRST_RETRY,
            Err(problem) => {
                roster.note_problem(Origin::Kubernetes, &problem);
                if began.elapsed() >= GOOD {
                    retry = FIRST_RETRY;
                }
                if session.listed.get() {
                    retry = retry.min(LONGEST_GAP);
                }
                // Not with a whole fleet at once.
                sleep(retry.mul_f64(0.5 + fastrand::f64())).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

struct Session<'a> {
    kubeconfig: &'a Path,
    snapshot: &'a Reader,
    roster: &'a Roster,
    own: &'a Own,
    /// Did a server answer the list?
    listed: Cell<bool>,
    /// Was the last answer taken? Bookmarks then confirm it.
    taken: Cell<bool>,
}

impl Session<'_> {
    /// Lists at the first backend that answers, and watches there until the watch is over.
    async fn run(&self) -> Result<(), String> {
        let mut files = Files::new(self.kubeconfig);
        let credentials = kubeconfig::read(self.kubeconfig)?;
        let mut problem = "there is no backend to ask".to_owned();
        for entry in self.candidates() {
            let opened = timeout(LIST_WITHIN, async {
                let mut connection = Connection::open(&entry.addresses, &credentials).await?;
                let text = connection.get(PATH.to_owned() + "&resourceVersion=0").await?;
                let text = text.whole(LARGEST).await?;
                Ok::<_, String>((Slices::list(&text)?, connection))
            });
            match opened.await.unwrap_or_else(|_| Err(format!("no answer within {LIST_WITHIN:?}")))
            {
                Ok((slices, connection)) => {
                    debug!(backend = %entry.backend.name, "EndpointSlices are listed");
                    self.listed.set(true);
                    return tokio::select! {
                        ended = self.watch(slices, connection, &entry) => ended,
                        () = files.replaced() => Ok(()),
                    };
                }
                Err(error) => problem = format!("{}: {error}", entry.backend.name),
            }
        }
        Err(problem)
    }

    /// The backends to ask, good ones first, in random order.
    fn candidates(&self) -> Vec<Entry> {
        let mut entries = self.snapshot.load().entries.clone();
        entries.retain(|entry| !entry.addresses.is_empty());
        fastrand::shuffle(&mut entries);
        entries.sort_by_key(|entry| match entry.condition.state {
            _ if entry.standing == Standing::Leaving => 3,
            State::Ready => 0,
            State::Unknown => 1,
            State::NotReady | State::Drained => 2,
            State::Dead => 4,
        });
        entries
    }

    async fn watch(
        &self,
        mut slices: Slices,
        mut connection: Connection,
        entry: &Entry,
    ) -> Result<(), String> {
        self.take(&slices);
        let seconds = WATCH_FOR.mul_f64(1.0 + fastrand::f64()).as_secs();
        let path = format!(
            "{PATH}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            slices.version()
        );
        let answer = timeout(LIST_WITHIN, connection.get(path)).await;
        let mut answer = answer.unwrap_or_else(|_| Err("no answer to the watch".to_owned()))?;
        let mut gone = Box::pin(self.is_gone(entry));
        loop {
            let line = tokio::select! {
                line = timeout(SILENCE, answer.line(LARGEST)) => line,
                () = &mut gone => return Ok(()),
            };
            match line {
                Ok(Ok(Some(line))) => self.take_event(&mut slices, &line)?,
                // The end of its time: list again.
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(format!("{}: {error}", entry.backend.name)),
                Err(_) => return Err(format!("{}: the watch is silent", entry.backend.name)),
            }
        }
    }

    fn take_event(&self, slices: &mut Slices, line: &Bytes) -> Result<(), String> {
        match slices.apply(line)? {
            News::Changed => self.take(slices),
            News::Same if self.taken.get() => self.roster.confirm(Origin::Kubernetes),
            News::Same => {}
        }
        Ok(())
    }

    /// Takes the servers in, or says once why not and goes on: another event may mend it.
    fn take(&self, slices: &Slices) {
        let answer =
            slices.servers().and_then(|servers| sane(servers, &self.own.addresses(), false));
        self.taken.set(answer.is_ok());
        match answer {
            Ok(answer) => {
                let servers = self.own.others(Origin::Kubernetes, answer);
                debug!(servers = servers.len(), "EndpointSlices");
                self.roster.found(Origin::Kubernetes, servers, SystemTime::now());
            }
            Err(problem) => {
                let problem = format!("an absurd answer: {problem}");
                self.roster.note_problem(Origin::Kubernetes, &problem);
            }
        }
    }

    /// Waits until the backend is dead, or no backend any more: its watch may never end.
    async fn is_gone(&self, entry: &Entry) {
        let mut changed = self.snapshot.subscribe();
        loop {
            let gone = self.snapshot.load().entry(&entry.backend).is_none_or(|entry| {
                entry.condition.state == State::Dead || entry.standing == Standing::Leaving
            });
            if gone || changed.changed().await.is_err() {
                info!(backend = %entry.backend.name, "EndpointSlices are watched elsewhere");
                return;
            }
        }
    }
}
