//! The way to the process that serves: asks it for its sockets, as often as it takes, over one
//! connection. Its end is heard there at once, and it knows who asks again from who is new.

use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tracing::info;

use super::client::{LONGEST_ANSWER, read};
use super::line::Lines;
use super::passing;
use super::protocol::{Answer, Reply, Request};
use super::takeover::{Predecessor, Takeover, TakeoverError};

/// The process that serves, if there is one.
#[derive(Debug)]
pub struct Incumbent {
    path: PathBuf,
    generation: Option<u32>,
    /// Open after a refusal.
    connection: Option<(UnixStream, Lines)>,
}

impl Incumbent {
    /// The one behind this control socket; `generation` is that of the process that asks.
    pub fn at(path: &Path, generation: Option<u32>) -> Self {
        Self { path: path.to_owned(), generation, connection: None }
    }

    /// The one behind another control socket, for the same process that asks.
    #[must_use]
    pub fn behind(&self, path: &Path) -> Self {
        Self::at(path, self.generation)
    }

    /// The control socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks it for its sockets; `None` when there is none. Waits for the answer for as long as it
    /// takes, or until the process dies: one that hangs may come to itself.
    ///
    /// # Errors
    /// See [`TakeoverError`].
    pub async fn ask(&mut self) -> Result<Option<Takeover>, TakeoverError> {
        let open = match self.connection.take() {
            Some(open) => Some(open),
            None => self.connect().await?.map(|stream| (stream, Lines::default())),
        };
        let Some((mut stream, mut lines)) = open else { return Ok(None) };
        let request = Request::Handover { generation: self.generation }.encode();
        let asked = async {
            stream.write_all(&request).await?;
            let (line, sockets) = passing::receive(&stream, &mut lines, LONGEST_ANSWER).await?;
            Ok((read(&line)?, sockets))
        };
        let (reply, sockets) = asked.await.map_err(broken_off)?;
        let Reply { pid, program, answer, .. } = reply;
        match answer {
            Answer::Offered { sockets: roles, drained, usable, usable_clusters }
                if roles.len() == sockets.len() =>
            {
                info!(predecessor = pid, version = program, "taking over from a running process");
                let predecessor = Predecessor::new(stream, lines, (usable, usable_clusters), pid);
                let sockets = roles.into_iter().zip(sockets).collect();
                Ok(Some(Takeover::new(sockets, drained, predecessor)))
            }
            Answer::Refused(refusal) => {
                self.connection = Some((stream, lines));
                Err(TakeoverError::Refused(refusal))
            }
            other => {
                Err(TakeoverError::Foreign(io::Error::other(format!("it answered {other:?}"))))
            }
        }
    }

    /// Waits until it hangs up after a refusal: it has ended, drains, or is of a version that does not
    /// wait for another question. For ever when nobody is connected.
    pub async fn hung_up(&mut self) {
        let Some((stream, lines)) = &mut self.connection else { return pending().await };
        // Whatever it says unasked.
        let _ = lines.next(stream, LONGEST_ANSWER).await;
        self.connection = None;
    }

    async fn connect(&self) -> Result<Option<UnixStream>, TakeoverError> {
        use io::ErrorKind as Kind;
        match UnixStream::connect(&self.path).await {
            Ok(stream) => {
                trusted(&stream).map_err(TakeoverError::Foreign)?;
                Ok(Some(stream))
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::ConnectionRefused) => {
                Ok(None)
            }
            // The queue of those who ask is full.
            Err(error) if error.kind() == Kind::WouldBlock => {
                Err(TakeoverError::BrokenOff(io::Error::other("it lets nobody ask")))
            }
            Err(source) => Err(TakeoverError::Unreachable { path: self.path.clone(), source }),
        }
    }
}

/// A process that ends in the middle of its answer, or one that does not speak as it should?
fn broken_off(error: io::Error) -> TakeoverError {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => {
            TakeoverError::BrokenOff(error)
        }
        _ => TakeoverError::Foreign(error),
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
