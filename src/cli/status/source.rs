//! Whom `status` asks: the control socket if it is there, else the admin endpoint.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Args;
use crate::admin::{History, Status};
use crate::cli::{CliError, client};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::{self, Answer, AskError, Request};

/// A control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The user means this one: nobody else will do.
    pub(super) named: bool,
}

impl Socket {
    /// After this error the admin endpoint is to be asked: the socket is not there, or not ours to
    /// ask, or of an older version. One that hangs is told of: the other way in would hide it.
    pub(super) fn gives_way(&self, error: &AskError) -> bool {
        let hangs = match error {
            AskError::Silent { .. } => true,
            // Its queue is full.
            AskError::Unreachable { source, .. } => source.kind() == io::ErrorKind::WouldBlock,
            _ => false,
        };
        !self.named && !hangs
    }
}

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// First, if at all.
    pub(super) socket: Option<Socket>,
    /// Else.
    pub(super) admin: SocketAddr,
}

impl Source {
    /// Those that the flags name.
    pub(super) fn new(args: &Args) -> Self {
        let socket = match &args.control_socket {
            _ if args.admin.is_some() => None,
            Some(path) if path.is_empty() => None,
            Some(path) => Some(Socket { path: path.into(), named: true }),
            None => Some(Socket { path: DEFAULT_CONTROL_SOCKET.into(), named: false }),
        };
        Self { socket, admin: args.admin.unwrap_or(super::DEFAULT_ADMIN) }
    }

    /// What the proxy sees.
    pub(super) async fn status(&self) -> Result<Status, CliError> {
        match self.ask_socket(&Request::Status {}).await? {
            Some(Answer::Status(status)) => Ok(*status),
            Some(other) => Err(CliError::odd_answer(&other)),
            None => client::status(self.admin).await,
        }
    }

    /// What has happened.
    pub(super) async fn events(&self) -> Result<History, CliError> {
        match self.ask_socket(&Request::Events { after: 0, follow: false }).await? {
            Some(Answer::Events(history)) => Ok(history),
            Some(other) => Err(CliError::odd_answer(&other)),
            None => client::events(self.admin).await,
        }
    }

    /// The answer of the control socket; `None` when the admin endpoint is to be asked.
    async fn ask_socket(&self, request: &Request) -> Result<Option<Answer>, CliError> {
        let Some(socket) = &self.socket else { return Ok(None) };
        match control::ask(&socket.path, request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if socket.gives_way(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{UnixListener, UnixSocket, UnixStream};

    use super::*;
    use crate::cli::output::Format;
    use crate::cli::status::DEFAULT_ADMIN;
    use crate::cli::status::feed::Feed;

    #[test]
    fn what_the_user_names_is_asked() {
        let asked = |socket: Option<&str>, admin: Option<SocketAddr>| {
            Source::new(&Args {
                admin,
                control_socket: socket.map(Into::into),
                output: Format::Table,
                events: false,
                watch: false,
            })
        };
        let socket = |path: &str, named| Some(Socket { path: path.into(), named });
        let usual = Source { socket: socket(DEFAULT_CONTROL_SOCKET, false), admin: DEFAULT_ADMIN };
        assert_eq!(asked(None, None), usual);
        assert_eq!(asked(Some("/x"), None), Source { socket: socket("/x", true), ..usual });
        assert_eq!(asked(Some(""), None).socket, None);
        let admin: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert_eq!(asked(Some("/x"), Some(admin)), Source { socket: None, admin });
    }

    /// Regression: the admin endpoint was asked, and hid that the control socket hangs.
    #[tokio::test]
    async fn only_a_socket_that_hangs_does_not_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let socket = Socket { path: folder.path().join(name), named: false };
            Source { socket: Some(socket), admin: "127.0.0.1:1".parse().unwrap() }
        };
        let path = |name| folder.path().join(name);
        let told = async |name| at(name).status().await.unwrap_err().to_string();
        let heard = async |name| Feed::new(at(name)).next().await.unwrap_err().to_string();
        // The kernel takes connections; nobody ever answers.
        let _silent = UnixListener::bind(path("silent")).unwrap();
        let full = UnixSocket::new_stream().unwrap();
        full.bind(path("full")).unwrap();
        let _full = full.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = UnixStream::connect(path("full")).await {
            waiting.push(stream);
        }
        drop(UnixListener::bind(path("left behind")).unwrap());
        let ends = UnixListener::bind(path("ends")).unwrap();
        tokio::spawn(async move { while ends.accept().await.is_ok() {} });
        for (name, text) in [("silent", "no answer at /"), ("full", "cannot reach apiproxy at /")] {
            for error in [told(name).await, heard(name).await] {
                assert!(error.starts_with(text), "{name}: {error}");
                assert!(error.contains("suspended or stuck"), "{name}: {error}");
            }
        }
        for name in ["none", "left behind", "ends"] {
            let error = told(name).await;
            assert!(error.contains("127.0.0.1:1"), "{name}: {error}");
        }
    }
}
