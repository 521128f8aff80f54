//! Builds all components of the proxy, in order, and runs them: the only place that knows them all.

mod control;
mod given;
mod service;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::{Config, Connections};
use crate::control::{Predecessor, Sockets, TakeoverError};
use crate::drain::{Drain, Phase};
use crate::health::Trust;
use crate::metrics::Metrics;
use crate::model::{Hints, Reader, Snapshot, store};
use crate::proxy::{WorkerError, WorkerHandle};
use crate::systemd::{self, ActivationError, Notifier};
use crate::tls::MaterialError;
use crate::{admin, discovery, health, net, proxy};

/// Descriptors that are not connections: runtimes, listeners, probes, admin clients, files.
const OTHER_FILES: u64 = 256;

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", listen_hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
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
    /// It does not take over from the process that runs.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// The metrics registry cannot be made.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process has it (`ss -ltnp` shows which): stop it, take over from it with --take-over \
             if it is apiproxy, or choose another with --listen"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has that address",
        _ => "",
    }
}

pub use given::Given;

/// A proxy that has bound its sockets and started its data threads, but not its control work.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    drain: Drain,
    reader: Reader,
    predecessor: Option<Predecessor>,
    control: Control,
}

/// What the control thread runs.
struct Control {
    admin_listener: std::net::TcpListener,
    admin: admin::Parts,
    health: health::Parts,
    workers: Rc<Vec<WorkerHandle>>,
    socket: Option<(UnixListener, crate::control::Parts)>,
    reloads: mpsc::Receiver<crate::control::Reload>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Builds the proxy: reads the probes' certificates, binds every listener, starts the data threads.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn build(config: &Config) -> Result<Bound, StartError> {
    build_on(config, Given::default())
}

/// The same with sockets that are open already, and a process to take over from.
///
/// # Errors
/// As [`build`].
pub fn build_on(config: &Config, mut given: Given) -> Result<Bound, StartError> {
    let trust = config.health_check.tls.as_ref().map(Trust::read).transpose()?.map(Rc::new);
    let listeners = given.bind(&config.listen)?;
    let addresses = local_addresses(&listeners)?;
    let (admin_listener, admin_address) = bind_admin(config.admin.listen, &mut given)?;
    let metrics = Metrics::new()?;
    let started = Instant::now().into_std();
    let mut entries = discovery::entries(&config.backends, started);
    given.restore(&mut entries, started);
    let (writer, reader) = store(Snapshot {
        generation: 0,
        zone: config.zone.clone(),
        policy: config.balance,
        entries,
    });
    let (hints, hint_receiver) = Hints::channel();
    let drain = if given.predecessor.is_some() { Drain::starting() } else { Drain::default() };
    let sockets = Sockets::default();
    let socket = given.control().or_else(|| control::claim(config.admin.control_socket.as_deref()));
    if let Some(socket) = &socket {
        control::keep(&sockets, &listeners, &admin_listener, socket)
            .map_err(StartError::Runtime)?;
    }
    let workers = proxy::start(proxy::Parts {
        listeners,
        connect: config.connect,
        connections: within_file_limit(config.connections),
        rebalance: config.rebalance,
        threads: config.threads.get(),
        snapshot: reader.clone(),
        hints,
        phases: drain.phases(),
        metrics: metrics.data_path(),
    })?;
    let workers = Rc::new(workers);
    let writer = Rc::new(writer);
    let identity = admin::Identity { listen: addresses.clone(), started };
    let (reload, reloads) = mpsc::channel(control::WAITING_RELOADS);
    let parts = crate::control::Parts {
        writer: writer.clone(),
        drain: drain.clone(),
        identity: identity.clone(),
        drain_timeout: config.connections.drain_timeout,
        reloads: reload,
        sockets,
        generation: given.generation,
        metrics: metrics.clone(),
    };
    let socket = socket.map(|listener| (listener, parts));
    let admin = admin::Parts {
        snapshot: reader.clone(),
        metrics: metrics.clone(),
        drain: drain.clone(),
        workers: workers.clone(),
        identity,
    };
    let health = health::Parts {
        check: config.health_check.clone(),
        trust,
        writer,
        hints: hint_receiver,
        metrics,
    };
    let control = Control { admin_listener, admin, health, workers, socket, reloads };
    let predecessor = given.predecessor;
    Ok(Bound { addresses, admin: admin_address, drain, reader, predecessor, control })
}

impl Bound {
    /// Where clients are accepted: the real ports, also where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics and status are served.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Starts and ends the drain.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// What the proxy knows of its backends.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Serves until the drain is over and every data thread has ended. To be run on a local runtime:
    /// the calling thread becomes the control thread.
    ///
    /// # Errors
    /// The admin listener cannot be registered, or a data thread died.
    pub async fn serve(self) -> Result<(), StartError> {
        let Control { admin_listener, admin, health, workers, socket, reloads } = self.control;
        let admin_listener = net::into_async(admin_listener)
            .map_err(|source| StartError::Listen { address: self.admin, source })?;
        let metrics = health.metrics.clone();
        let notifier = Notifier::from_env();
        let takes_over = self.predecessor.is_some();
        let takeover = async {
            if let Some(predecessor) = self.predecessor {
                if !predecessor.finish(&self.reader, &self.drain).await? {
                    return std::future::pending().await;
                }
                metrics.increment("apiproxy_handovers_total", &[("result", "taken")]);
            }
            info!(listen = ?self.addresses, admin = %self.admin, "serving");
            notifier.ready(takes_over, "serving");
            std::future::pending().await
        };
        let writer = health.writer.clone();
        let control = async {
            tokio::select! {
                () = admin::serve(admin_listener, admin) => {}
                () = health::run(health) => {}
                () = discovery::run(writer) => {}
                () = control::run(socket) => {}
                () = control::reload(reloads) => {}
                () = service::tell_end(&notifier, self.drain.phases()) => {}
                () = service::feed_watchdog(
                    &notifier,
                    systemd::watchdog(takes_over),
                    async || service::all_answer(&workers).await,
                    self.drain.phases(),
                ) => {}
            }
        };
        let died = async {
            let ended = workers.iter().map(|worker| Box::pin(worker.ended()));
            futures_util::future::select_all(ended).await;
        };
        let ended = async {
            let mut phases = self.drain.phases();
            tokio::select! {
                biased;
                () = phases.draining() => {}
                () = died => return Err(StartError::WorkerDied),
            }
            if let Phase::Draining { until, .. } = self.drain.phase() {
                let for_at_most = until.saturating_duration_since(Instant::now());
                info!(?for_at_most, "draining: no new clients; open connections may end");
            }
            for worker in workers.iter() {
                worker.ended().await;
            }
            info!("every connection has ended");
            Ok(())
        };
        tokio::select! {
            result = ended => result,
            result = takeover => result,
            () = control => Err(StartError::ControlDied),
        }
    }
}

fn local_addresses(listeners: &[std::net::TcpListener]) -> Result<Vec<SocketAddr>, StartError> {
    let address = |listener: &std::net::TcpListener| listener.local_addr();
    listeners.iter().map(address).collect::<Result<_, _>>().map_err(StartError::Runtime)
}

fn bind_admin(
    address: SocketAddr,
    given: &mut Given,
) -> Result<(std::net::TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = given.bind_admin(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Lowers `connections.max` to what the limit of open files allows: two descriptors a connection.
/// Refusing the client beyond it is better than failing to reach a backend for it.
fn within_file_limit(connections: Connections) -> Connections {
    let Some(limit) = net::raise_file_limit() else { return connections };
    let room = limit.saturating_sub(OTHER_FILES) / 2;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let max = connections.max.min(NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN));
    if max < connections.max {
        let wanted = connections.max;
        warn!(%wanted, %max, open_files = limit, "connections.max is lowered to what the limit of open files allows");
    }
    Connections { max, ..connections }
}

/// A proxy with a control thread of its own; for `demo` and tests. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    /// Where clients are accepted.
    pub addresses: Vec<SocketAddr>,
    /// Where metrics and status are served.
    pub admin: SocketAddr,
    /// Starts and ends the drain.
    pub drain: Drain,
    /// What the proxy knows of its backends.
    pub reader: Reader,
    thread: Option<thread::JoinHandle<()>>,
}

/// Builds a proxy and serves on a new thread.
///
/// # Errors
/// See [`StartError`].
pub fn spawn(config: Config) -> Result<Running, StartError> {
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(StartError::Runtime);
        let bound = runtime.and_then(|runtime| Ok((build(&config)?, runtime)));
        match bound {
            Ok((bound, runtime)) => {
                let parts = (bound.addresses.clone(), bound.admin, bound.drain(), bound.reader());
                let _ = sender.send(Ok(parts));
                if let Err(error) = runtime.block_on(bound.serve()) {
                    warn!(%error, "the proxy ended");
                }
                runtime.shutdown_background();
            }
            Err(error) => {
                let _ = sender.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new()
        .name("control".to_owned())
        .spawn(run)
        .map_err(StartError::Runtime)?;
    let parts = receiver
        .recv()
        .unwrap_or_else(|_| Err(StartError::Runtime(io::Error::other("the thread ended early"))));
    let (addresses, admin, drain, reader) = parts?;
    Ok(Running { addresses, admin, drain, reader, thread: Some(thread) })
}

impl Drop for Running {
    fn drop(&mut self) {
        self.drain.end();
        if let Some(thread) = self.thread.take() {
            // A panic of the control thread has been reported by its own hook.
            let _ = thread.join();
        }
    }
}
