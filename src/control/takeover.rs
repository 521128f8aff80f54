//! The side of a handover that takes, once it has the listening sockets: serves on them when it knows
//! its backends, and says so.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::client::{LONGEST_ANSWER, read};
use super::line::Lines;
use super::protocol::{Answer, Code, Refusal, Request};
use super::sockets::Role;
use crate::drain::Drain;
use crate::model::{ClusterName, Reader, State};

/// How long the running process may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the backends are probed before this process accepts.
pub const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Why this process does not take over. The other one goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The socket cannot be reached, for want of permission.
    #[error("cannot reach the running apiproxy at {}: {source}\n  run both as the same user", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What runs does not do as it should.
    #[error(
        "the running process cannot hand over: {0}\n  it goes on; stop it first, and start this one then"
    )]
    Foreign(io::Error),
    /// It ended, or hung up, before it had answered.
    #[error("the running process broke off: {0}")]
    BrokenOff(io::Error),
    /// It says no.
    #[error(
        "the running process does not hand over: {0}\n  it goes on; stop it first, and start this one then"
    )]
    Refused(Refusal),
    /// The other process has a ready backend and this one has none.
    #[error(
        "no backend{0} is ready for this process within {PROBE_WITHIN:?}, while the running one has \
         one; it goes on\n  `apiproxy check` says what is wrong"
    )]
    NoBackend(
        /// ` of` which cluster, if there are several.
        String,
    ),
}

impl TakeoverError {
    /// Is there nothing to do but to wait: a newer process serves, a handover is under way, or the
    /// process that was asked is ending?
    pub fn passes(&self) -> bool {
        match self {
            Self::BrokenOff(_) => true,
            Self::Refused(refusal) => {
                matches!(refusal.code, Code::NewerGeneration | Code::Busy)
            }
            _ => false,
        }
    }
}

/// What another process has passed on. It serves until [`Predecessor::finish`]; dropping this leaves it
/// be.
#[derive(Debug)]
pub struct Takeover {
    /// Its listening sockets.
    pub sockets: Vec<(Role, OwnedFd)>,
    /// The names of the backends that are drained there.
    pub drained: Vec<String>,
    predecessor: Predecessor,
}

/// The other process.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    lines: Lines,
    usable: bool,
    /// Its clusters with a ready backend; empty where it has only one, which has no name.
    usable_clusters: Vec<String>,
    pid: u32,
}

/// A cluster that this process is to serve.
#[derive(Clone, Debug)]
pub struct Prospect {
    /// Its name, if there are several.
    pub name: Option<ClusterName>,
    /// What is known of its backends.
    pub reader: Reader,
}

/// What has become of a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This process was told to end first: the other one goes on.
    No,
    /// This process serves, and the other one has stopped accepting, or has died.
    Released,
    /// This process serves, and the other one has not said what it does.
    Unconfirmed,
}

impl Takeover {
    pub(super) fn new(
        sockets: Vec<(Role, OwnedFd)>,
        drained: Vec<String>,
        predecessor: Predecessor,
    ) -> Self {
        Self { sockets, drained, predecessor }
    }

    /// The sockets, the names of drained backends, and the other process.
    pub fn into_parts(self) -> (Vec<(Role, OwnedFd)>, Vec<String>, Predecessor) {
        (self.sockets, self.drained, self.predecessor)
    }
}

impl Predecessor {
    pub(super) fn new(
        stream: UnixStream,
        lines: Lines,
        (usable, usable_clusters): (bool, Vec<String>),
        pid: u32,
    ) -> Self {
        Self { stream, lines, usable, usable_clusters, pid }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Begins to serve once each cluster has a backend that is ready, or is known to have none as it
    /// has none there, and has the other process drain.
    ///
    /// # Errors
    /// This process is not to serve: the other one has a backend of a cluster and this one has none, or
    /// it has given the handover up.
    pub async fn finish(
        mut self,
        clusters: &[Prospect],
        drain: &Drain,
    ) -> Result<Taken, TakeoverError> {
        let mut phases = drain.phases();
        let all = clusters.iter().map(|one| probed(&one.reader, !self.serves(one)));
        let probed = timeout(PROBE_WITHIN, join_all(all));
        tokio::select! {
            () = phases.draining() => return Ok(Taken::No),
            _ = probed => {}
        }
        let is_worse = |one: &&Prospect| self.serves(one) && !one.reader.load().usable();
        if let Some(worse) = clusters.iter().find(is_worse) {
            let of = worse.name.as_ref().map(|name| format!(" of {name}"));
            return Err(TakeoverError::NoBackend(of.unwrap_or_default()));
        }
        if !drain.open() {
            return Ok(Taken::No);
        }
        let predecessor = self.pid;
        match timeout(PATIENCE, self.confirm()).await {
            Ok(Ok(Answer::Released {})) => {
                info!(predecessor, "taken over: the other one drains");
                Ok(Taken::Released)
            }
            Ok(Ok(Answer::Refused(refusal))) => Err(TakeoverError::Refused(refusal)),
            // Its sockets are ours, whether it lives or not.
            Ok(Err(error)) => {
                warn!(predecessor, %error, "taken over from a process that ended");
                Ok(Taken::Released)
            }
            Ok(Ok(other)) => {
                warn!(predecessor, ?other, "taken over, with an odd answer");
                Ok(Taken::Unconfirmed)
            }
            Err(_) => {
                warn!(predecessor, "taken over from a process that does not answer");
                Ok(Taken::Unconfirmed)
            }
        }
    }

    /// Has it a ready backend of this cluster?
    fn serves(&self, cluster: &Prospect) -> bool {
        match &cluster.name {
            Some(name) => self.usable_clusters.iter().any(|usable| usable == name.as_str()),
            None => self.usable && self.usable_clusters.is_empty(),
        }
    }

    async fn confirm(&mut self) -> io::Result<Answer> {
        let asked = self.stream.write_all(&Request::Ready {}.encode()).await;
        // It may have said why it does not want to hear that.
        match self.lines.next(&mut self.stream, LONGEST_ANSWER).await? {
            Some(line) => Ok(read(&line)?.answer),
            None => asked.and(Err(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// Waits until a backend is ready; with `or_bad`, until the first probes have found none.
async fn probed(reader: &Reader, or_bad: bool) {
    let mut changed = reader.subscribe();
    loop {
        {
            let snapshot = reader.load();
            let unknown = |entry: &crate::model::Entry| entry.condition.state == State::Unknown;
            if snapshot.usable() || (or_bad && !snapshot.entries.iter().any(unknown)) {
                return;
            }
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
