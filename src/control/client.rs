//! Asks the running proxy over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::line::Lines;
use super::protocol::{Answer, Code, HEARTBEAT, Refusal, Reply, Request, VERSION};
use crate::admin::History;

/// A local process that does not tell for so long what it knows is stuck.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same of one that is to do something: a reload looks at files and names.
const PATIENCE_WITH_ACTS: Duration = Duration::from_secs(10);

/// The same of one that is followed: two of its [`HEARTBEAT`]s have not come.
const PATIENCE_WITH_HEARTBEATS: Duration = Duration::from_secs(2 * HEARTBEAT.as_secs() + 1);

/// Far more than the status of 64 backends takes. What is longer is not from apiproxy.
pub(super) const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// Why a request was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("cannot reach apiproxy at {}: {source}\n  {}", path.display(), reach_hint(source))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever listens says nothing.
    #[error("no answer at {} within {within:?}: apiproxy is suspended or stuck, or another program \
             listens there\n  {}", path.display(), silence_hint(*acts))]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
        /// Was it to do something?
        acts: bool,
    },
    /// Whoever listened hung up.
    #[error("{} hung up before it answered: {source}\n  apiproxy has ended, or ends: ask again", path.display())]
    HungUp {
        /// The socket.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Whoever listens does not answer as apiproxy does.
    #[error("what answers at {} is not apiproxy ({source})\n  give its admin.controlSocket with \
             --control-socket", path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        source: io::Error,
    },
    /// It was heard and not done.
    #[error("{0}")]
    Refused(Refusal),
}

fn reach_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run the command as root, or as the user that apiproxy runs as"
        }
        // Its queue is full: nobody has come out of it for long.
        io::ErrorKind::WouldBlock => {
            "it is suspended or stuck: its log may tell why; if it stays so, restart it"
        }
        _ => {
            "is it running? if its admin.controlSocket is another path, give it with --control-socket"
        }
    }
}

/// Reading the answer failed.
fn unread(path: &Path, source: io::Error) -> AskError {
    use io::ErrorKind as Kind;
    let path = path.to_owned();
    match source.kind() {
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => {
            AskError::HungUp { path, source }
        }
        _ => AskError::Foreign { path, source },
    }
}

fn silence_hint(acts: bool) -> &'static str {
    if acts {
        "its log may tell why; once it goes on it may still do what it was told. If it stays so, \
         restart it"
    } else {
        "its log may tell why; if it stays so, restart it"
    }
}

/// Asks once.
///
/// # Errors
/// See [`AskError`]. A refusal is an error too.
pub async fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let unreachable = |source| AskError::Unreachable { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let acts = request.acts();
    let within = if acts { PATIENCE_WITH_ACTS } else { PATIENCE };
    let reply = timeout(within, exchange(&mut stream, request)).await;
    let silent = |_| AskError::Silent { path: path.to_owned(), within, acts };
    match reply.map_err(silent)?.map_err(|source| unread(path, source))?.answer {
        Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
        answer => Ok(answer),
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    stream: UnixStream,
    lines: Lines,
}

/// Follows the events from the one after this number on.
///
/// # Errors
/// Nobody can be asked.
pub async fn follow(path: &Path, after: u64) -> Result<Follower, AskError> {
    let unreachable = |source| AskError::Unreachable { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).await.map_err(unreachable)?;
    // Who refuses us may have answered and closed before we have asked: the answer says why.
    let _ = stream.write_all(&Request::Events { after, follow: true }.encode()).await;
    Ok(Follower { path: path.to_owned(), stream, lines: Lines::default() })
}

impl Follower {
    /// What is new; at first what there is, and nothing when it has been quiet for a while. `None` when
    /// the other side hangs up. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`AskError`]. One that is silent may be asked again: what it says later is not lost.
    pub async fn next(&mut self) -> Result<Option<History>, AskError> {
        let unread = |source| unread(&self.path, source);
        let within = PATIENCE_WITH_HEARTBEATS;
        let line = timeout(within, self.lines.next(&mut self.stream, LONGEST_ANSWER)).await;
        let silent = |_| AskError::Silent { path: self.path.clone(), within, acts: false };
        let Some(line) = line.map_err(silent)?.map_err(unread)? else { return Ok(None) };
        match read(&line).map_err(unread)?.answer {
            Answer::Events(history) => Ok(Some(history)),
            Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
            other => Err(unread(io::Error::other(format!("it answered {other:?}")))),
        }
    }
}

async fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<Reply> {
    // Who refuses us may have answered and closed before we have asked.
    let asked = stream.write_all(&request.encode()).await;
    let line = Lines::default().next(stream, LONGEST_ANSWER).await;
    let line = line.and_then(|line| line.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
    let line = line.or_else(|error| asked.and(Err(error)))?;
    read(&line)
}

/// Reads an answer.
pub(super) fn read(line: &[u8]) -> io::Result<Reply> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let reply = Reply::decode(line).map_err(invalid)?;
    if reply.version == VERSION {
        return Ok(reply);
    }
    let Reply { version, program, pid, .. } = reply;
    let message = format!(
        "process {pid} is apiproxy {program}, which speaks version {version} of the control \
         protocol, not {VERSION}"
    );
    let refusal = Refusal::new(Code::Unsupported, message).hint("use the program of that version");
    Err(io::Error::other(refusal))
}
