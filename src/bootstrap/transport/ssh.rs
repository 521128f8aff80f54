//! Hosts over the system's OpenSSH: `ssh_config`, `ProxyJump`, agents and hardware keys work, host
//! keys are verified.

mod dialer;
mod explain;
mod gate;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use openssh::Session;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::line::{Broken, Line};
use super::{Command, File, Found, Output, Transport, TransportError};
use crate::bootstrap::spec;
use dialer::Undialed;
pub use dialer::{Dialer, Dialing};

/// How long a host that could not be reached is taken for unreachable without another try, so that
/// many questions to a dead host take the time of one; twice as long after each further try, up to the
/// second. In a run of an hour a dead host costs some ten tries.
const GIVEN_UP: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(10));

/// One host over ssh. The first command connects; later ones use the same connection; a connection
/// that was lost is made again by the next command. A host that was found to hang once is not asked again.
pub struct Ssh {
    host: String,
    address: IpAddr,
    settings: spec::Ssh,
    /// Dropped before the dialer, in whose folder the socket is that ends the connection.
    state: Mutex<State>,
    dialer: Arc<Dialer>,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Up(Arc<Connection>),
    /// It was tried then, and is not for so long.
    Down(Instant, Duration, TransportError),
}

/// A session of ssh and the line over it.
struct Connection {
    session: Session,
    line: Line,
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ssh({} at {})", self.host, self.address)
    }
}

impl Ssh {
    /// The host of the spec; nothing is connected yet.
    pub fn new(host: &spec::Host, dialer: &Arc<Dialer>) -> Self {
        let (address, settings) = (host.address, host.ssh.clone());
        let (host, dialer) = (host.name.clone(), Arc::clone(dialer));
        Self { host, address, settings, dialer, state: Mutex::default() }
    }

    async fn connection(&self) -> Result<Arc<Connection>, TransportError> {
        let mut state = self.state.lock().await;
        match &*state {
            // The master takes its socket away when it ends.
            State::Up(there) if there.session.control_socket().exists() => {
                return Ok(Arc::clone(there));
            }
            State::Down(since, pause, error) if since.elapsed() < *pause => {
                return Err(error.clone());
            }
            _ => {}
        }
        let pause = match &*state {
            State::Down(_, pause, _) => (*pause * 2).min(GIVEN_UP.1),
            _ => GIVEN_UP.0,
        };
        match self.dialer.dial(&self.host, self.address, &self.settings).await {
            Ok((session, line)) => {
                let there = Arc::new(Connection { session, line });
                *state = State::Up(Arc::clone(&there));
                Ok(there)
            }
            Err(Undialed { error, hangs: true }) => {
                *state = State::Down(Instant::now(), GIVEN_UP.1, error.clone());
                Err(error)
            }
            Err(Undialed { error, hangs: false }) => {
                *state = State::Down(Instant::now(), pause, error.clone());
                Err(error)
            }
        }
    }

    /// What to tell the caller; a connection that was lost is not used again.
    async fn broken(&self, there: &Arc<Connection>, broken: Broken, what: &str) -> TransportError {
        let said = match broken {
            Broken::Lost(said) => said,
            Broken::Timeout(_) if !dialer::answers(&there.session).await => {
                return self.hangs().await;
            }
            other => return there.line.error(other, what),
        };
        let reason = match there.session.check().await {
            // The connection stands: what started the command there ended it.
            Ok(()) => return self.ended(said),
            Err(error) => explain::cause(&error).unwrap_or(said),
        };
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Up(now) if Arc::ptr_eq(now, there)) {
            *state = State::New;
        }
        there.line.error(Broken::Lost(reason), what)
    }

    /// Not even a command that does nothing has come to its end: for a while nothing is asked.
    async fn hangs(&self) -> TransportError {
        let (reason, remedy) = explain::hangs();
        let error = TransportError::Unreachable { host: self.host.clone(), reason, remedy };
        *self.state.lock().await = State::Down(Instant::now(), GIVEN_UP.1, error.clone());
        error
    }

    fn ended(&self, said: String) -> TransportError {
        let host = self.host.clone();
        match explain::sudo(&said) {
            Some((reason, remedy)) => TransportError::Unreachable { host, reason, remedy },
            None => TransportError::Lost { host, reason: said },
        }
    }

    fn no_file(&self, path: &str, reason: String) -> TransportError {
        TransportError::File { host: self.host.clone(), path: path.to_owned(), reason }
    }
}

impl Transport for Ssh {
    fn host(&self) -> &str {
        &self.host
    }

    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>> {
        Box::pin(async move {
            let there = self.connection().await?;
            match there.line.run(command).await {
                Ok(output) => Ok(output),
                Err(broken) => Err(self.broken(&there, broken, &command.brief()).await),
            }
        })
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            let there = self.connection().await?;
            match there.line.read(path).await {
                Ok(found) => found.map_err(|reason| self.no_file(path, reason)),
                Err(broken) => Err(self.broken(&there, broken, path).await),
            }
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let there = self.connection().await?;
            match there.line.write(file).await {
                Ok(written) => written.map_err(|reason| self.no_file(&file.path, reason)),
                Err(broken) => Err(self.broken(&there, broken, &file.path).await),
            }
        })
    }

    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let there = self.connection().await?;
            match there.line.upload(source, path, mode).await {
                Ok(written) => written.map_err(|reason| self.no_file(path, reason)),
                Err(Broken::Source(error)) => {
                    Err(self.no_file(path, format!("{}: {error}", source.display())))
                }
                Err(broken) => Err(self.broken(&there, broken, path).await),
            }
        })
    }
}
