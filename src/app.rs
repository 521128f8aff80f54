//! Builds all components of the proxy, in order, and runs them: the only place that knows them all.

mod build;
mod changes;
mod control;
mod error;
mod given;
mod listeners;
mod prepare;
mod reload;
mod service;
mod source;
mod standby;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::control::{Predecessor, Taken};
use crate::drain::{Drain, Phase};
use crate::events::{self, Event, Events, Handover};
use crate::metrics::Metrics;
use crate::model::Reader;
use crate::proxy::{Live, WorkerHandle};
use crate::systemd::{self, Notifier};
use crate::{admin, discovery, health, net, raw};

pub use build::{build, build_on};
pub use error::{Attempt, StartError};
pub use given::Given;
pub use prepare::{Loaded, Prepared};
pub use reload::{Command, Commands, Outcome, Refusal};
pub use source::Source;
pub use turn::{Candidate, Turn};

use reload::Reloader;

/// A proxy that has bound its sockets and started its data threads, but not its control work.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    drain: Drain,
    reader: Reader,
    live: Live,
    commands: Commands,
    predecessor: Option<Predecessor>,
    /// Listeners of the predecessor that are served until it has stopped accepting.
    outgoing: Vec<SocketAddr>,
    /// systemd has been told that this process has started.
    stood_by: bool,
    control: Control,
}

/// How long clients of the control socket may take at the end to hear what is said to them.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a process that has released its listeners may take to close them. Closed before, here,
/// they would take with them who connects meanwhile.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);

/// When the first probes and the first look of discovery have ended, usually: what they alone ran can go.
const SETTLED: Duration = Duration::from_millis(300);

/// What the control thread runs.
struct Control {
    admin_listener: std::net::TcpListener,
    admin: admin::Parts,
    health: health::Parts,
    discovery: discovery::Parts,
    reloader: Reloader,
    commands: mpsc::Receiver<Command>,
    events: Events,
    moves: watch::Receiver<events::Rules>,
    metrics: Metrics,
    workers: Rc<Vec<WorkerHandle>>,
    socket: Option<(UnixListener, crate::control::Parts)>,
    reloads: mpsc::Receiver<crate::control::Reload>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// What runs once, at the start, need not stay in memory.
fn forget_code() {
    if let Err(error) = raw::forget_code() {
        debug!(%error, "the code of the start stays resident");
    }
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

    /// Asks the proxy while it serves.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// `connections.drainTimeout`, whatever it is when it is asked for.
    pub fn drain_timeout(&self) -> impl Fn() -> Duration + use<> {
        let live = self.live.clone();
        move || live.load().connections.drain_timeout
    }

    /// Follows the file and flags that the configuration came from: it is read again when the file
    /// changes, and when somebody asks.
    pub fn follow(&mut self, source: Source) {
        self.control.reloader.follow(source);
    }

    /// The process starts with the last good configuration, because there is a newer one that is wrong.
    pub fn refused(&self, refusal: &Refusal) {
        self.control.reloader.refuse(refusal);
    }

    /// Serves until the drain is over and every data thread has ended. To be run on a local runtime:
    /// the calling thread becomes the control thread.
    ///
    /// # Errors
    /// The admin listener cannot be registered, or a data thread died.
    pub async fn serve(self) -> Result<(), StartError> {
        let Control {
            admin_listener,
            admin,
            health,
            discovery,
            reloader,
            commands,
            events,
            moves,
            metrics,
            workers,
            socket,
            reloads,
        } = self.control;
        let admin_listener = net::into_async(admin_listener).map_err(|source| {
            StartError::Listen { address: self.admin, source, attempt: Attempt::Start }
        })?;
        let notifier = Notifier::from_env();
        let takes_over = self.predecessor.is_some();
        let sockets = reloader.sockets();
        let takeover = async {
            let taken = match self.predecessor {
                None => None,
                Some(other) => {
                    let taken =
                        take_over(other, &self.reader, &self.drain, &metrics, &events).await?;
                    if taken == Taken::No {
                        return std::future::pending().await;
                    }
                    Some(taken)
                }
            };
            info!(listen = ?self.addresses, admin = %self.admin, "serving");
            let backends = self.reader.load().entries.len();
            events
                .record(Event::Started { version: env!("CARGO_PKG_VERSION").to_owned(), backends });
            notifier.ready(takes_over, "serving");
            forget_code();
            if taken == Some(Taken::Released) && !self.outgoing.is_empty() {
                sleep(RELEASED_WITHIN).await;
                reload::close(&sockets, &workers, self.outgoing);
            }
            sleep(SETTLED).await;
            forget_code();
            std::future::pending().await
        };
        let last_words = Notify::new();
        // Who is wanted is nobody's business any more when the end has begun: after a handover, all
        // connections leave.
        let mut phases = self.drain.phases();
        let following = async {
            tokio::select! {
                biased;
                () = phases.draining() => std::future::pending().await,
                () = discovery::run(discovery) => {}
                () = reloader.run(commands) => {}
            }
        };
        let control = async {
            tokio::select! {
                () = admin::serve(admin_listener, admin) => {}
                () = health::run(health) => {}
                () = following => {}
                () = control::run(socket, &last_words) => {}
                () = control::reload(reloads, self.commands, &notifier) => {}
                () = service::tell_end(&notifier, self.drain.phases()) => {}
                () = service::feed_watchdog(
                    &notifier,
                    systemd::watchdog(takes_over),
                    async || service::all_answer(&workers).await,
                    self.drain.phases(),
                    self.stood_by,
                ) => {}
                () = events::watch(self.reader.clone(), events.clone(), moves) => {}
            }
        };
        let ended = ended(&self.drain, &events, &workers, &last_words);
        tokio::select! {
            biased;
            // First, so that it hears of the end before that comes, and says so to systemd.
            () = control => Err(StartError::ControlDied),
            result = takeover => result,
            result = ended => result,
        }
    }
}

/// Waits until the drain is over and every data thread has ended.
async fn ended(
    drain: &Drain,
    events: &Events,
    workers: &[WorkerHandle],
    last_words: &Notify,
) -> Result<(), StartError> {
    let died = async {
        let ended = workers.iter().map(|worker| Box::pin(worker.ended()));
        futures_util::future::select_all(ended).await;
    };
    let mut phases = drain.phases();
    tokio::select! {
        biased;
        () = phases.draining() => {}
        // A thread that hears of the drain first may end before this task hears of it.
        () = died => if drain.phase() == Phase::Running {
            return Err(StartError::WorkerDied);
        },
    }
    if let Phase::Draining { until, .. } = drain.phase() {
        let within = until.saturating_duration_since(Instant::now());
        events.record(Event::ShuttingDown { within });
    }
    for worker in workers {
        worker.ended().await;
    }
    // Without connections that takes no time, and somebody waits for an answer.
    let _ = timeout(LAST_WORDS, last_words.notified()).await;
    info!("every connection has ended");
    Ok(())
}

/// Takes over from the process that has passed its sockets on.
async fn take_over(
    predecessor: Predecessor,
    reader: &Reader,
    drain: &Drain,
    metrics: &Metrics,
    events: &Events,
) -> Result<Taken, StartError> {
    let from = predecessor.pid();
    let taken = predecessor.finish(reader, drain).await?;
    if taken != Taken::No {
        metrics.increment("apiproxy_handovers_total", &[("result", "taken")]);
        events.record(Event::Handover(Handover::Taken { from }));
    }
    Ok(taken)
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
    /// Asks the proxy.
    pub commands: Commands,
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
                let (addresses, reader) = (bound.addresses.clone(), bound.reader());
                let parts = (addresses, bound.admin, bound.drain(), reader, bound.commands());
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
    let (addresses, admin, drain, reader, commands) = parts?;
    Ok(Running { addresses, admin, drain, reader, commands, thread: Some(thread) })
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
