//! Whom `status` asks: the control socket if it is there, else the admin endpoint.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Args;
use crate::admin::{History, Status};
use crate::cli::{CliError, client};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::{self, Answer, Request};

/// A control socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The user means this one: nobody else will do.
    pub(super) named: bool,
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
            Err(error) if socket.named => Err(error.into()),
            // It is not there, or not ours to ask, or of an older version.
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;
    use crate::cli::status::DEFAULT_ADMIN;

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
}
