//! The side of a handover that takes: gets the listening sockets, serves on them once it knows its
//! backends, and says so.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::client::{LONGEST_ANSWER, read};
use super::line::Lines;
use super::passing;
use super::protocol::{Answer, Code, Refusal, Reply, Request};
use super::sockets::Role;
use crate::drain::Drain;
use crate::model::{Reader, State};

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
    /// It says no.
    #[error(
        "the running process does not hand over: {0}\n  it goes on; stop it first, and start this one then"
    )]
    Refused(Refusal),
    /// The other process has a ready backend and this one has none.
    #[error(
        "no backend is ready for this process within {PROBE_WITHIN:?}, while the running one has \
         one; it goes on\n  `apiproxy check` says what is wrong"
    )]
    NoBackend,
}

impl TakeoverError {
    /// Is there nothing to do but to wait: a newer process serves, or a handover is under way?
    pub fn passes(&self) -> bool {
        matches!(self, Self::Refused(refusal)
            if matches!(refusal.code, Code::NewerGeneration | Code::Busy))
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
    pid: u32,
}

/// Asks the process behind the control socket for its sockets; `None` when there is none.
///
/// # Errors
/// See [`TakeoverError`].
pub async fn take_over(
    path: &Path,
    generation: Option<u32>,
) -> Result<Option<Takeover>, TakeoverError> {
    use io::ErrorKind as Kind;
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(source) => return Err(TakeoverError::Unreachable { path: path.to_owned(), source }),
    };
    trusted(&stream).map_err(TakeoverError::Foreign)?;
    let mut lines = Lines::default();
    let asked = timeout(PATIENCE, async {
        stream.write_all(&Request::Handover { generation }.encode()).await?;
        let (line, sockets) = passing::receive(&stream, &mut lines, LONGEST_ANSWER).await?;
        Ok((read(&line)?, sockets))
    });
    let silent = || io::Error::other(format!("it does not answer within {PATIENCE:?}"));
    let asked: io::Result<_> = asked.await.unwrap_or_else(|_| Err(silent()));
    let (reply, sockets) = asked.map_err(TakeoverError::Foreign)?;
    let Reply { pid, program, answer, .. } = reply;
    match answer {
        Answer::Offered { sockets: roles, drained, usable } if roles.len() == sockets.len() => {
            info!(predecessor = pid, version = program, "taking over from a running process");
            let predecessor = Predecessor { stream, lines, usable, pid };
            let sockets = roles.into_iter().zip(sockets).collect();
            Ok(Some(Takeover { sockets, drained, predecessor }))
        }
        Answer::Refused(refusal) => Err(TakeoverError::Refused(refusal)),
        other => Err(TakeoverError::Foreign(io::Error::other(format!("it answered {other:?}")))),
    }
}

/// Nobody else may give us sockets that clients then send their credentials to.
fn trusted(stream: &UnixStream) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred()?.uid() {
        uid if uid == 0 || uid == own => Ok(()),
        uid => Err(io::Error::other(format!("it runs as user {uid}, and this one as user {own}"))),
    }
}

impl Takeover {
    /// The sockets, the names of drained backends, and the other process.
    pub fn into_parts(self) -> (Vec<(Role, OwnedFd)>, Vec<String>, Predecessor) {
        (self.sockets, self.drained, self.predecessor)
    }
}

impl Predecessor {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Begins to serve once a backend is ready, and has the other process drain. Returns false when
    /// this process was told to end before: then the other one goes on.
    ///
    /// # Errors
    /// This process is not to serve: the other one has a backend and this one has none, or it has
    /// given the handover up.
    pub async fn finish(mut self, reader: &Reader, drain: &Drain) -> Result<bool, TakeoverError> {
        let mut phases = drain.phases();
        let usable = tokio::select! {
            () = phases.draining() => return Ok(false),
            probed = timeout(PROBE_WITHIN, probed(reader, !self.usable)) => probed.is_ok(),
        };
        if self.usable && !usable {
            return Err(TakeoverError::NoBackend);
        }
        if !drain.open() {
            return Ok(false);
        }
        let predecessor = self.pid;
        match timeout(PATIENCE, self.confirm()).await {
            Ok(Ok(Answer::Released {})) => info!(predecessor, "taken over: the other one drains"),
            Ok(Ok(Answer::Refused(refusal))) => return Err(TakeoverError::Refused(refusal)),
            Ok(Ok(other)) => warn!(predecessor, ?other, "taken over, with an odd answer"),
            // Its sockets are ours, whether it lives or not.
            Ok(Err(error)) => warn!(predecessor, %error, "taken over from a process that ended"),
            Err(_) => warn!(predecessor, "taken over from a process that does not answer"),
        }
        Ok(true)
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
