//! Builds all components of the proxy, in order, and runs them: the only place that knows them all.

mod build;
mod changes;
mod cluster;
mod control;
mod error;
mod given;
mod listeners;
mod prepare;
mod reload;
mod service;
mod source;
mod standby;
mod tend;
mod turn;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::control::{Predecessor, Prospect, Taken};
use crate::drain::{Drain, Phase};
use crate::events::{Event, Handover};
use crate::model::Reader;
use crate::proxy::WorkerHandle;
use crate::systemd::{self, Notifier};
use crate::{admin, net, raw};

pub use build::{build, build_on};
pub use error::{Attempt, StartError};
pub use given::Given;
pub use prepare::{Loaded, Prepared};
pub use reload::{Command, Commands, Outcome, Refusal};
pub use source::Source;
pub use turn::{Candidate, Turn};

use cluster::Common;
use reload::Reloader;
use tend::Task;

/// A proxy that has bound its sockets and started its data threads, but not its control work.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    drain: Drain,
    commands: Commands,
    predecessor: Option<Predecessor>,
    /// The clusters that it is to serve, in the order of the configuration.
    prospects: Vec<Prospect>,
    /// Listeners of the predecessor that are served until it has stopped accepting, and the threads
    /// that serve them.
    outgoing: Vec<(Rc<Vec<WorkerHandle>>, Vec<SocketAddr>)>,
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
    tasks: mpsc::UnboundedReceiver<Task>,
    reloader: Reloader,
    commands: mpsc::Receiver<Command>,
    common: Common,
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

    /// What the proxy knows of the backends of its first cluster.
    pub fn reader(&self) -> Option<Reader> {
        self.prospects.first().map(|first| first.reader.clone())
    }

    /// Asks the proxy while it serves.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// `connections.drainTimeout`, the longest of all clusters, whatever it is when it is asked for.
    pub fn drain_timeout(&self) -> impl Fn() -> Duration + use<> {
        let clusters = self.control.common.commanded.clone();
        move || clusters.longest_drain_timeout()
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
        let Control { admin_listener, admin, tasks, reloader, commands, common, socket, reloads } =
            self.control;
        let admin_listener = net::into_async(admin_listener).map_err(|source| {
            StartError::Listen { address: self.admin, source, attempt: Attempt::Start }
        })?;
        let notifier = Notifier::from_env();
        let takes_over = self.predecessor.is_some();
        let takeover = async {
            let taken = match self.predecessor {
                None => None,
                Some(other) => {
                    let taken = take_over(other, &self.prospects, &common).await?;
                    if taken == Taken::No {
                        return std::future::pending().await;
                    }
                    Some(taken)
                }
            };
            info!(listen = ?self.addresses, admin = %self.admin, "serving");
            let backends = self.prospects.iter().map(|one| one.reader.load().entries.len()).sum();
            common
                .events
                .record(Event::Started { version: env!("CARGO_PKG_VERSION").to_owned(), backends });
            notifier.ready(takes_over, "serving");
            forget_code();
            if taken == Some(Taken::Released)
                && self.outgoing.iter().any(|(_, addresses)| !addresses.is_empty())
            {
                sleep(RELEASED_WITHIN).await;
                for (workers, addresses) in self.outgoing {
                    cluster::close(&common.sockets, &workers, addresses);
                }
            }
            sleep(SETTLED).await;
            forget_code();
            std::future::pending().await
        };
        let last_words = Notify::new();
        let mut phases = self.drain.phases();
        let following = async {
            tokio::select! {
                biased;
                () = phases.draining() => std::future::pending().await,
                () = reloader.run(commands) => {}
            }
        };
        let control = async {
            tokio::select! {
                error = tend::tend(tasks, common.clone()) => return error,
                () = admin::serve(admin_listener, admin) => {}
                () = following => {}
                () = control::run(socket, &last_words) => {}
                () = control::reload(reloads, self.commands, &notifier) => {}
                () = service::tell_end(&notifier, self.drain.phases()) => {}
                () = service::feed_watchdog(
                    &notifier,
                    systemd::watchdog(takes_over),
                    async || service::all_answer(&common.shown).await,
                    self.drain.phases(),
                    self.stood_by,
                ) => {}
            }
            StartError::ControlDied
        };
        let ended = ended(&common, &last_words);
        tokio::select! {
            biased;
            // First, so that it hears of the end before that comes, and says so to systemd.
            error = control => Err(error),
            result = takeover => result,
            () = ended => Ok(()),
        }
    }
}

/// Waits until the drain is over and every data thread has ended.
async fn ended(common: &Common, last_words: &Notify) {
    common.drain.phases().draining().await;
    if let Phase::Draining { until, .. } = common.drain.phase() {
        let within = until.saturating_duration_since(Instant::now());
        common.events.record(Event::ShuttingDown { within });
    }
    let workers: Vec<_> = common.shown.all().iter().map(|one| one.workers.clone()).collect();
    for worker in workers.iter().flat_map(|workers| workers.iter()) {
        worker.ended().await;
    }
    // Without connections that takes no time, and somebody waits for an answer.
    let _ = timeout(LAST_WORDS, last_words.notified()).await;
    info!("every connection has ended");
}

/// Takes over from the process that has passed its sockets on.
async fn take_over(
    predecessor: Predecessor,
    clusters: &[Prospect],
    common: &Common,
) -> Result<Taken, StartError> {
    let from = predecessor.pid();
    let taken = predecessor.finish(clusters, &common.drain).await?;
    if taken != Taken::No {
        common.metrics.increment("apiproxy_handovers_total", &[("result", "taken")]);
        common.events.record(Event::Handover(Handover::Taken { from }));
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
    /// What the proxy knows of the backends of its first cluster.
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
        let bound = runtime.and_then(|runtime| {
            let bound = build(&config)?;
            let reader = bound.reader().ok_or(StartError::NoListener)?;
            Ok((bound, reader, runtime))
        });
        match bound {
            Ok((bound, reader, runtime)) => {
                let addresses = bound.addresses.clone();
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
