//! Asks the running proxy over its control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::line::Lines;
use super::protocol::{Answer, Code, Refusal, Reply, Request, VERSION};
use crate::admin::History;

/// A local process that does not answer for so long is stuck. A reload looks at files and names.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Whoever listens does not answer, or not as apiproxy does.
    #[error("what answers at {} is not apiproxy, or is stuck: {source}", path.display())]
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
        _ => {
            "is it running? if its admin.controlSocket is another path, give it with --control-socket"
        }
    }
}

/// Asks once.
///
/// # Errors
/// See [`AskError`]. A refusal is an error too.
pub async fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let unreachable = |source| AskError::Unreachable { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).await.map_err(unreachable)?;
    let reply = timeout(PATIENCE, exchange(&mut stream, request)).await;
    let foreign = |source| AskError::Foreign { path: path.to_owned(), source };
    match reply.map_err(|elapsed| foreign(elapsed.into()))?.map_err(foreign)?.answer {
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
    /// What is new; at first what there is, which may be nothing. `None` when the other side hangs
    /// up. Dropping the future loses nothing.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn next(&mut self) -> Result<Option<History>, AskError> {
        let foreign = |source| AskError::Foreign { path: self.path.clone(), source };
        let line = self.lines.next(&mut self.stream, LONGEST_ANSWER).await.map_err(foreign)?;
        let Some(line) = line else { return Ok(None) };
        match read(&line).map_err(foreign)?.answer {
            Answer::Events(history) => Ok(Some(history)),
            Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
            other => Err(foreign(io::Error::other(format!("it answered {other:?}")))),
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
    let reply = Reply::decode(line)?;
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
