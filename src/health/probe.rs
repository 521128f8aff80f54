//! One probe: a fresh connection, a TLS handshake that resumes the last session, and a GET.

pub(super) mod http;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::machine::Verdict;
use super::trust::Trust;
use crate::config::{CheckType, HealthCheck};
use crate::model::{Failure, Reason};
use crate::net;
use crate::tls::{self, CertificateFault};

/// A session is resumed for at most so long: then a full handshake checks the certificate again.
const FULL_HANDSHAKE_EVERY: Duration = Duration::from_mins(10);

/// Addresses of one name are tried so far apart.
const STAGGER: Duration = Duration::from_millis(100);

/// How to probe, the same for all backends.
#[derive(Debug)]
pub struct Probe {
    check: HealthCheck,
    server_name: Option<ServerName<'static>>,
    trust: Option<Rc<Trust>>,
}

/// What one backend's probes share: its TLS sessions.
#[derive(Debug, Default)]
pub struct Session {
    tls: Option<(Arc<ClientConfig>, Instant, u64)>,
}

/// Why a probe says nothing about its backend.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProbeError {
    /// No descriptor, port or memory, or a local firewall.
    #[error("{0} (an error of this host: check its limits and firewall)")]
    Local(Arc<io::Error>),
    /// The TLS configuration cannot be made.
    #[error("the TLS settings of the health check do not fit together: {0}")]
    Tls(rustls::Error),
}

/// What a probe found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The verdict, or why there is none.
    pub verdict: Result<Verdict, ProbeError>,
    /// Was the TLS session resumed? `None` when no handshake was completed.
    pub resumed: Option<bool>,
    /// The server's certificate (DER), after a completed handshake.
    pub certificate: Option<Vec<u8>>,
}

impl Report {
    fn bare(verdict: Result<Verdict, ProbeError>) -> Self {
        Self { verdict, resumed: None, certificate: None }
    }

    /// The backend's name could not be resolved.
    pub fn unresolved(problem: &str) -> Self {
        dead(Failure::Unresolved, format!("its name cannot be resolved: {problem}"))
    }

    /// The word for metrics.
    pub fn result(&self) -> &'static str {
        match &self.verdict {
            Ok(Verdict::Ready { .. }) => "ready",
            Ok(Verdict::Alive(_)) => "alive",
            Ok(Verdict::NotReady(_)) => "notReady",
            Ok(Verdict::Dead(failure, _)) => failure.as_str(),
            Err(_) => "local",
        }
    }
}

/// A probe's TLS settings, or none for `tcp`.
type Prepared = Result<Option<Arc<ClientConfig>>, ProbeError>;

/// A stage of a probe, for saying how far it came.
#[derive(Clone, Copy)]
enum Stage {
    Connect,
    Handshake,
    Answer,
}

impl Probe {
    /// A probe of this kind; `trust` for all but `tcp`.
    pub fn new(check: &HealthCheck, trust: Option<Rc<Trust>>) -> Self {
        let tls = check.tls.as_ref();
        let server_name = tls.and_then(|tls| tls::server_name(&tls.server_name).ok());
        Self { check: check.clone(), server_name, trust }
    }

    /// Takes the TLS settings for the next probe of a backend; new ones when certificates have
    /// changed or a full handshake is due.
    ///
    /// # Errors
    /// The client certificate does not fit its key any more.
    pub fn prepare(&self, session: &mut Session) -> Prepared {
        let Some(trust) = &self.trust else { return Ok(None) };
        let now = Instant::now();
        let generation = trust.generation();
        if let Some((config, made, from)) = &session.tls
            && *from == generation
            && now < *made + FULL_HANDSHAKE_EVERY
        {
            return Ok(Some(config.clone()));
        }
        let alpn: &[&[u8]] = if self.check.kind == CheckType::Https { &[b"http/1.1"] } else { &[] };
        let config = Arc::new(trust.client_config(alpn).map_err(ProbeError::Tls)?);
        session.tls = Some((config.clone(), now, generation));
        Ok(Some(config))
    }

    /// Probes once, within `timeout`.
    pub async fn run(&self, addresses: &[SocketAddr], prepared: Prepared) -> Report {
        let config = match prepared {
            Ok(config) => config,
            Err(error) => return Report::bare(Err(error)),
        };
        let mut stage = Stage::Connect;
        let limit = self.check.timeout;
        if let Ok(report) = timeout(limit, self.steps(addresses, config, &mut stage)).await {
            report
        } else {
            self.late(stage)
        }
    }

    /// What it means that the time is over. A server that has just shaken hands is alive, however
    /// slow: it is overloaded, or waits for its etcd. To reset its connections would only add to its
    /// load.
    fn late(&self, stage: Stage) -> Report {
        let within = humantime::format_duration(self.check.timeout);
        let silent = |what: &str| dead(Failure::Timeout, format!("{what} within {within}"));
        match stage {
            Stage::Connect => silent("no answer to a TCP connection"),
            Stage::Handshake => silent("takes connections, but no TLS handshake"),
            Stage::Answer => {
                let message = format!("no answer to GET {} within {within}", self.check.path);
                let reason = Reason::new(Failure::Timeout.as_str(), message);
                Report::bare(Ok(Verdict::NotReady(reason)))
            }
        }
    }

    async fn steps(
        &self,
        addresses: &[SocketAddr],
        config: Option<Arc<ClientConfig>>,
        stage: &mut Stage,
    ) -> Report {
        let stream = match connect(addresses).await {
            Ok(stream) => stream,
            Err(report) => return *report,
        };
        let (Some(config), Some(name)) = (config, &self.server_name) else {
            return Report::bare(Ok(Verdict::Ready { warning: None }));
        };
        *stage = Stage::Handshake;
        let tls = match TlsConnector::from(config).connect(name.clone(), stream).await {
            Ok(tls) => tls,
            Err(error) => return handshake_failure(&error, name),
        };
        let resumed = tls.get_ref().1.handshake_kind().map(|kind| kind == HandshakeKind::Resumed);
        let certificate = leaf(&tls);
        let verdict = match self.check.kind {
            CheckType::Https => {
                *stage = Stage::Answer;
                http::get(tls, name, &self.check.path).await
            }
            CheckType::Tls | CheckType::Tcp => Verdict::Ready { warning: None },
        };
        Report { verdict: Ok(verdict), resumed, certificate }
    }
}

/// A backend with several addresses is well when one of them is: clients find that one too.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Box<Report>> {
    let connected = net::connect_any(addresses.iter().copied(), STAGGER).await;
    connected.map_err(|error| {
        Box::new(match error.kind() {
            io::ErrorKind::NotFound => dead(Failure::Unresolved, error.to_string()),
            _ if net::is_local(&error) => Report::bare(Err(ProbeError::Local(Arc::new(error)))),
            _ => dead(failure(&error), error.to_string()),
        })
    })
}

fn leaf(tls: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    tls.get_ref().1.peer_certificates()?.first().map(|leaf| leaf.to_vec())
}

fn dead(failure: Failure, message: String) -> Report {
    Report::bare(Ok(Verdict::Dead(failure, Reason::new(failure.as_str(), message))))
}

fn failure(error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Failure::Refused,
        Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::UnexpectedEof => Failure::Reset,
        Kind::TimedOut => Failure::Timeout,
        _ => Failure::Unreachable,
    }
}

fn handshake_failure(error: &io::Error, name: &ServerName<'_>) -> Report {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return dead(failure(error), format!("the TLS handshake broke off: {error}"));
    };
    let name = name.to_str();
    match tls::certificate_fault(tls) {
        Some(CertificateFault::UnknownCa) => dead(
            Failure::UnknownCa,
            "its certificate is not from a CA in healthCheck.tls.caFile".to_owned(),
        ),
        Some(CertificateFault::Expired) => {
            dead(Failure::Expired, "its certificate has expired or is not valid yet".to_owned())
        }
        Some(CertificateFault::WrongName) => dead(
            Failure::WrongName,
            format!("its certificate is not for `{name}` (healthCheck.tls.serverName)"),
        ),
        Some(CertificateFault::Other) | None => {
            dead(Failure::Tls, format!("the TLS handshake failed: {tls}"))
        }
    }
}
