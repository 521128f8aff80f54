//! The proxy's configuration: read from a file and flags, checked whole, then never wrong again.

mod document;
mod error;
mod faults;
mod file;
mod inherit;
mod overrides;
#[cfg(test)]
mod probe;
mod read_error;
mod reader;
mod reference;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod validate;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{BackendAddress, BackendName, ClusterName, Policy, Zone};
use crate::net;
use validate::ThisHost;

pub use document::{API_VERSION, Document};
pub use error::ConfigError;
pub use faults::{Fault, Faults, Place};
pub use overrides::Overrides;
pub use reference::{KeyDoc, markdown, reference, reference_markdown};

pub(crate) use faults::{nearest, quoted, suggestion, without_logins};
pub(crate) use file::read_text;
#[cfg(test)]
pub(crate) use probe::accepted_keys;
pub(crate) use reference::key;

/// The `kind` of the proxy's configuration.
pub const KIND: &str = "ProxyConfiguration";

/// The CA that verifies apiservers unless another one is given: kubeadm puts it there.
pub const DEFAULT_CA_FILE: &str = "/etc/kubernetes/pki/ca.crt";

/// The control socket, unless another one is given.
pub const DEFAULT_CONTROL_SOCKET: &str = "/run/apiproxy/control.sock";

/// The host that this process runs on.
fn this_host() -> ThisHost<'static> {
    ThisHost { default_ca: Path::new(DEFAULT_CA_FILE), is_own: net::is_of_this_host }
}

/// Reads the configuration of this host from a file and flags, or from flags alone.
///
/// # Errors
///
/// The file cannot be read, or file and flags together are no valid configuration.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Config, ConfigError> {
    match file {
        Some(path) => {
            let text = file::read_text(path)?;
            let base = path.parent().unwrap_or(Path::new(""));
            read(&path.display().to_string(), &text, base, overrides, this_host())
        }
        None => finish(None, Faults::new("", ""), Path::new(""), overrides, this_host()),
    }
}

/// Reads a configuration from the text of a file called `name`, and flags. Relative paths in the
/// text start from `base`. It may be meant for another host: this one's addresses are not looked at.
///
/// # Errors
///
/// The text and the flags together are no valid configuration.
pub fn parse(
    name: &str,
    text: &str,
    base: &Path,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    read(name, text, base, overrides, ThisHost { is_own: |_| false, ..this_host() })
}

fn read(
    name: &str,
    text: &str,
    base: &Path,
    overrides: &Overrides,
    host: ThisHost<'_>,
) -> Result<Config, ConfigError> {
    let (document, faults) = Document::parse(name, text)?;
    let faults = document.expect_kind(KIND, faults)?;
    finish(Some(&document), faults, base, overrides, host)
}

fn finish(
    document: Option<&Document>,
    mut faults: Faults,
    base: &Path,
    overrides: &Overrides,
    host: ThisHost<'_>,
) -> Result<Config, ConfigError> {
    let raw = match document {
        Some(document) => document.read(&mut faults),
        None => Some(shape::Proxy::default()),
    };
    let Some(mut raw) = raw else {
        return Err(ConfigError::Faults(faults));
    };
    overrides.apply(&mut raw);
    let around = validate::Surroundings { document, overrides, base, host };
    let config = validate::config(raw, around, &mut faults);
    if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(faults)) }
}

/// A validated configuration. Every value is in range and every reference resolves; see the
/// reference in README.md for the keys, units and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The clusters that are served: one without a name, or those that `clusters` lists, each with a
    /// name, addresses and backends of its own.
    pub clusters: Vec<Cluster>,
    /// Metrics, probes and status.
    pub admin: Admin,
    /// Closing the process in.
    pub hardening: Hardening,
    /// Data threads of each cluster, 1 to 64.
    pub threads: NonZeroUsize,
    /// Logging.
    pub log: Log,
}

/// A cluster: its apiservers, and how its clients come to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its unique name; `None` for the only one of a configuration without `clusters`.
    pub name: Option<ClusterName>,
    /// Where clients connect.
    pub listen: Vec<Listen>,
    /// This node's failure domain.
    pub zone: Option<Zone>,
    /// The apiservers, with unique names and addresses: at least one, unless some can be discovered
    /// without.
    pub backends: Vec<BackendSpec>,
    /// How to choose among them.
    pub balance: Policy,
    /// How to check them.
    pub health_check: HealthCheck,
    /// How to reach them.
    pub connect: Connect,
    /// Limits and timers of relayed connections.
    pub connections: Connections,
    /// Moving connections to a backend that is ready again.
    pub rebalance: Rebalance,
    /// Where further apiservers are found.
    pub discovery: Discovery,
}

impl Config {
    /// Does it list clusters by name?
    pub fn has_names(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.name.is_some())
    }
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// From the defaults: skipped with a warning on a host without that address family.
    pub optional: bool,
}

/// A configured apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Unique name.
    pub name: BackendName,
    /// Unique address.
    pub address: BackendAddress,
    /// Failure domain.
    pub zone: Option<Zone>,
}

/// What a probe asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckType {
    /// TLS handshake and `GET path`; 200 is ready.
    #[default]
    Https,
    /// TLS handshake only.
    Tls,
    /// TCP handshake only.
    Tcp,
}

/// `healthCheck`: how backends are probed and judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckType,
    /// The path of an `https` check; begins with `/`.
    pub path: String,
    /// Pace while all is well, 100 ms to 1 h.
    pub interval: Duration,
    /// Pace while a backend is suspect or changing state, 50 ms to `interval`.
    pub fast_interval: Duration,
    /// Longest wait for one probe, 50 ms to 60 s.
    pub timeout: Duration,
    /// Good answers in a row that make a backend ready, 1 to 100.
    pub rise: NonZeroU32,
    /// Bad answers in a row that make it dead or notReady, 1 to 100.
    pub fall: NonZeroU32,
    /// TLS of the probe; `None` for `tcp`.
    pub tls: Option<ProbeTls>,
}

/// `healthCheck.tls`: whom the probe trusts and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTls {
    /// PEM bundle of CAs; `None` only with `insecure_skip_verify`.
    pub ca_file: Option<PathBuf>,
    /// The name the server's certificate must carry, and SNI.
    pub server_name: String,
    /// Client certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// `connect`: reaching a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// For all attempts of one client together, 10 ms to 60 s.
    pub timeout: Duration,
    /// When a second backend is tried in parallel; at most `timeout`.
    pub hedge_after: Duration,
}

/// `connections`: limits and timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Most client connections at a time, 1 to 1,000,000.
    pub max: NonZeroUsize,
    /// Idle time before TCP keepalive probes on both legs, 1 s to 2 h.
    pub keepalive: Duration,
    /// How long sent bytes may stay unacknowledged by a backend, 100 ms to 1 h. Checked once a
    /// second by `TCP_INFO` instead of `TCP_USER_TIMEOUT`: since Linux 5.11 the latter also cuts a
    /// live peer that merely keeps its window closed, such as `kubectl logs | less`.
    pub user_timeout: Duration,
    /// How long streams may go on after SIGTERM, and how long connections of a backend that is not
    /// ready, 0 s to 24 h.
    pub drain_timeout: Duration,
}

/// `rebalance`: moving connections to a backend that is ready again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Is anything moved at all?
    pub enabled: bool,
    /// How long after a backend became ready the window opens, 0 s to 1 h. By default slow start is
    /// over by then.
    pub after: Duration,
    /// Connections move at random moments within this time, 1 s to 1 h, so that a fleet does not
    /// act together.
    pub window: Duration,
    /// How long a connection must have carried nothing, 50 ms to 1 min.
    pub quiet_for: Duration,
}

/// `discovery`: where apiservers are found besides `backends`. What is found is added to these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The kubeconfig whose user may watch the EndpointSlices of `default/kubernetes`.
    pub kubeconfig: Option<PathBuf>,
    /// A file of addresses that somebody else keeps up to date.
    pub file: Option<PathBuf>,
    /// Where what was found is kept for the next start.
    pub cache_file: Option<PathBuf>,
}

/// `admin`: the read-only HTTP endpoint, and the socket for commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where the endpoint listens.
    pub listen: SocketAddr,
    /// Where commands are heard and a handover begins; `None` when it is turned off.
    pub control_socket: Option<PathBuf>,
}

/// `hardening`: what the process takes from itself when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardening {
    /// Is anything taken at all?
    pub enabled: bool,
}

/// `log`: what is written to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For collectors: one object a line.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may need one.
    Warn,
    /// State changes and life cycle.
    #[default]
    Info,
    /// Each connection and probe.
    Debug,
    /// Everything.
    Trace,
}
