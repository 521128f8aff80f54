//! Every key of a `ProxyConfiguration`, for README.md; tests hold it against the code.

use std::fmt::Write as _;

/// A key: its path, default, values and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// The path, such as `healthCheck.interval`; `[]` stands for each item of a list.
    pub path: &'static str,
    /// The value without one, as written in a file; empty for none.
    pub default: &'static str,
    /// What can be written.
    pub values: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// A row of the reference.
pub(crate) const fn key(
    path: &'static str,
    default: &'static str,
    values: &'static str,
    meaning: &'static str,
) -> KeyDoc {
    KeyDoc { path, default, values, meaning }
}

const KEYS: &[KeyDoc] = &[
    key("apiVersion", "", "`apiproxy.io/v1alpha1`", "Version of the format; required"),
    key("kind", "", "`ProxyConfiguration`", "Kind of document; required"),
    key(
        "listen",
        "127.0.0.1:6443, [::1]:6443",
        "list of IP:PORT",
        "Where clients connect; a default address is skipped with a warning when the host lacks its address family",
    ),
    key(
        "zone",
        "",
        "1 to 253 visible ASCII characters, no quotes",
        "Failure domain of this node; backends of the same zone are preferred",
    ),
    key(
        "backends",
        "",
        "list of 1 to 64",
        "The apiservers; required here or as `--backend`, unless `discovery` has a file or cacheFile",
    ),
    key(
        "backends[].address",
        "",
        "HOST:PORT; an IP address or a DNS name; unique",
        "Where the apiserver listens; required",
    ),
    key(
        "backends[].name",
        "",
        "as `zone`; unique",
        "Name in metrics, status and commands; the address by default",
    ),
    key("backends[].zone", "", "as `zone`", "Failure domain of the apiserver"),
    key(
        "balance",
        "leastConnections",
        "`leastConnections`, `roundRobin`, `random`, `powerOfTwo`",
        "How a backend is chosen among equals",
    ),
    key(
        "healthCheck.type",
        "https",
        "`https`, `tls`, `tcp`",
        "What a probe asks: a request, a TLS handshake or a TCP handshake",
    ),
    key("healthCheck.path", "/readyz", "begins with `/`", "What an `https` probe requests"),
    key("healthCheck.interval", "10s", "100ms to 1h", "Pace of probes while all is well"),
    key(
        "healthCheck.fastInterval",
        "500ms",
        "50ms to `interval`",
        "Pace while a backend is suspect or changes state",
    ),
    key("healthCheck.timeout", "1s", "50ms to 60s", "Longest wait for one probe"),
    key("healthCheck.rise", "2", "1 to 100", "Good answers in a row that make a backend ready"),
    key("healthCheck.fall", "2", "1 to 100", "Bad answers in a row that make it dead or not ready"),
    key(
        "healthCheck.tls.caFile",
        "/etc/kubernetes/pki/ca.crt",
        "PEM file",
        "CAs that the apiservers' certificates are checked with; the default holds when that file exists",
    ),
    key(
        "healthCheck.tls.serverName",
        "kubernetes",
        "DNS name or IP address",
        "Name that the certificate must carry, and SNI",
    ),
    key(
        "healthCheck.tls.certFile",
        "",
        "PEM file; goes with `keyFile`",
        "Client certificate of the probe",
    ),
    key("healthCheck.tls.keyFile", "", "PEM file; goes with `certFile`", "Its private key"),
    key("healthCheck.tls.insecureSkipVerify", "false", "`true`, `false`", "Accept any certificate"),
    key("connect.timeout", "1s", "10ms to 60s", "For all attempts to connect one client together"),
    key(
        "connect.hedgeAfter",
        "200ms",
        "0s to `timeout`",
        "When a second backend is tried in parallel",
    ),
    key("connections.max", "16384", "1 to 1000000", "Most client connections at a time"),
    key(
        "connections.keepalive",
        "15s",
        "1s to 2h",
        "Idle time before TCP keepalive probes, on both legs; a silent peer is given up three probes of 5s later",
    ),
    key(
        "connections.userTimeout",
        "5s",
        "100ms to 1h",
        "How long sent bytes may stay unacknowledged by a backend before the connection is given up; a peer that keeps its window closed is not cut",
    ),
    key(
        "connections.drainTimeout",
        "60s",
        "0s to 24h",
        "How long connections may go on after SIGTERM, or on a backend that is not ready",
    ),
    key(
        "rebalance.enabled",
        "true",
        "`true`, `false`",
        "Move connections to a backend that is ready again, at quiet moments",
    ),
    key("rebalance.after", "30s", "0s to 1h", "How long after it became ready the moving begins"),
    key("rebalance.window", "5m", "1s to 1h", "Time over which the moves are spread at random"),
    key(
        "rebalance.quietFor",
        "2s",
        "50ms to 1m",
        "How long a connection must have carried nothing to be moved",
    ),
    key(
        "discovery.kubernetes.kubeconfig",
        "",
        "kubeconfig file",
        "Watches the EndpointSlices of `default/kubernetes` as this user, through the backends; what is found is added to `backends`",
    ),
    key(
        "discovery.file",
        "",
        "file of addresses",
        "One HOST:PORT a line, or a YAML list of backends; read again when it changes and added to `backends`",
    ),
    key(
        "discovery.cacheFile",
        "",
        "file that only apiproxy writes",
        "Keeps what was found, for a start when none of `backends` is reached",
    ),
    key(
        "clusters",
        "",
        "list of 1 to 16",
        "Several clusters in one process, in place of `listen`, `backends` and `discovery`; each has these, and any of `zone`, `balance`, `healthCheck`, `connect`, `connections` and `rebalance` that is to differ from what stands above the list",
    ),
    key(
        "clusters[].name",
        "",
        "1 to 63 lower-case letters, digits and hyphens; unique",
        "Stands before the names of its backends (`east/cp1`) and in the label `cluster` of metrics; required, and so is `listen`",
    ),
    key(
        "admin.listen",
        "127.0.0.1:10242",
        "IP:PORT",
        "Where metrics, probes and status are served",
    ),
    key(
        "admin.controlSocket",
        "/run/apiproxy/control.sock",
        "a path of at most 96 bytes; `\"\"` for none",
        "Where `drain`, `undrain` and `reload` are heard and a handover begins; mode 0600",
    ),
    key(
        "hardening.enabled",
        "true",
        "`true`, `false`",
        "Take from the process what it does not need: other files, ports and system calls",
    ),
    key("threads", "1", "1 to 64", "Threads that carry traffic, of each cluster"),
    key("log.format", "text", "`text`, `json`", "Shape of the log lines"),
    key(
        "log.level",
        "info",
        "`error`, `warn`, `info`, `debug`, `trace`",
        "Least severe level that is logged",
    ),
];

/// Every key, in the order of the sample file.
pub fn reference() -> &'static [KeyDoc] {
    KEYS
}

/// The same as a Markdown table.
pub fn reference_markdown() -> String {
    markdown(KEYS)
}

/// Keys as a Markdown table.
pub fn markdown(keys: &[KeyDoc]) -> String {
    let mut table = String::from("| Key | Default | Values | Meaning |\n|---|---|---|---|\n");
    for KeyDoc { path, default, values, meaning } in keys {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let _infallible = writeln!(table, "| `{path}` | {default} | {values} | {meaning} |");
    }
    table
}
