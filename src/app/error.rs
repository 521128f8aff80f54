//! Why the proxy cannot start, or cannot go on.

use std::io;
use std::net::SocketAddr;

use crate::control::TakeoverError;
use crate::proxy::WorkerError;
use crate::systemd::ActivationError;
use crate::tls::MaterialError;

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", listen_hint(source, *attempt))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
        /// What it was wanted for.
        attempt: Attempt,
    },
    /// The limit of open files leaves no room for connections.
    #[error(
        "the limit of open files ({limit}) leaves room for {room} connections; it must be at least {needed}, \
         and 65536 is a good one\n  raise it: LimitNOFILE=65536 in a unit of systemd, `ulimit -n 65536` in a \
         shell, or the limit of the container runtime"
    )]
    FewFiles {
        /// The limit.
        limit: u64,
        /// Connections that it leaves room for.
        room: usize,
        /// The smallest limit that will do.
        needed: u64,
    },
    /// None of the default addresses can be listened on.
    #[error("this host has neither 127.0.0.1 nor [::1]; set `listen`")]
    NoListener,
    /// The certificates of the health check cannot be read.
    #[error("health check: {0}")]
    Trust(#[from] MaterialError),
    /// A thread or runtime cannot be made.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// A data thread ended while the proxy was serving: a defect of ours.
    #[error("a data thread ended unexpectedly; please report the log lines before this one")]
    WorkerDied,
    /// A part of the control thread's work ended while the proxy was serving: a defect of ours.
    #[error("the control work ended unexpectedly; please report the log lines before this one")]
    ControlDied,
    /// The control thread's runtime cannot be made.
    #[error("cannot start the control runtime: {0}")]
    Runtime(io::Error),
    /// A socket of systemd's socket activation cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// Sockets of systemd's do not say which cluster they are for.
    #[error(
        "systemd has given sockets for clients, which do not say for which of `clusters`\n  remove \
         those ListenStream= lines of the socket unit: with `clusters` it listens by itself"
    )]
    ActivatedClusters,
    /// It does not take over from the process that runs.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The metrics registry cannot be made.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// What an address is wanted for: what helps when it cannot be had is not the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// To start.
    #[default]
    Start,
    /// To start after another process was asked for its sockets.
    TakeOver,
    /// To add a listener while the proxy runs.
    Reload,
}

fn listen_hint(error: &io::Error, attempt: Attempt) -> &'static str {
    match (error.kind(), attempt) {
        (io::ErrorKind::AddrInUse, Attempt::Start) => {
            "; another process has it (`ss -ltnp` shows which): stop it, take over from it with --take-over \
             if it is apiproxy, or choose another with --listen"
        }
        (io::ErrorKind::AddrInUse, Attempt::TakeOver) => {
            "; `ss -ltnp` shows who has it. If it is the process that was asked at admin.controlSocket, it \
             has this address for something else: change `listen` and `admin.listen` in two steps. If it \
             is another apiproxy, give this one its control socket with --control-socket; else stop it, \
             or choose another address with --listen"
        }
        (io::ErrorKind::AddrInUse, Attempt::Reload) => {
            "; another process has it (`ss -ltnp` shows which): stop it, or choose another in `listen`"
        }
        (io::ErrorKind::PermissionDenied, _) => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        (io::ErrorKind::AddrNotAvailable, _) => "; no interface of this host has that address",
        _ => "",
    }
}
