//! Builds all components of the proxy, in order, and runs them: the only place that knows them all.

mod changes;
mod error;
mod listeners;
mod reload;
mod source;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::Config;
use crate::drain::{Drain, Phase};
use crate::events::{self, Event, Events};
use crate::health::Method;
use crate::metrics::Metrics;
use crate::model::{Hints, InForce, Reader, Snapshot, store};
use crate::proxy::{Live, Settings, WorkerHandle};
use crate::{admin, discovery, health, net, proxy};

pub use error::StartError;
pub use reload::{Command, Commands, Outcome, Refusal};
pub use source::Source;

use listeners::{bind, bind_admin, within_file_limit};
use reload::Reloader;

/// A proxy that has bound its sockets and started its data threads, but not its control work.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    drain: Drain,
    reader: Reader,
    live: Live,
    commands: Commands,
    control: Control,
}

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
    workers: Rc<Vec<WorkerHandle>>,
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
    let (method, methods) = watch::channel(Method::new(&config.health_check)?);
    let (open, listeners): (Vec<_>, Vec<_>) = bind(&config.listen)?.into_iter().unzip();
    if open.is_empty() {
        return Err(StartError::NoListener);
    }
    let addresses: Vec<_> = open.iter().map(|open| open.address).collect();
    let (admin_listener, admin_address) = bind_admin(config.admin.listen)?;
    let metrics = Metrics::new()?;
    let started = Instant::now().into_std();
    let (writer, reader) = store(Snapshot {
        generation: 0,
        zone: config.zone.clone(),
        policy: config.balance,
        entries: discovery::entries(&config.backends, started),
    });
    let events = Events::default();
    let (hints, hint_receiver) = Hints::channel();
    let drain = Drain::default();
    let live = Live::new(Settings {
        connect: config.connect,
        connections: within_file_limit(config.connections, true),
        rebalance: config.rebalance,
    });
    let workers = proxy::start(proxy::Parts {
        listeners,
        live: live.clone(),
        threads: config.threads.get(),
        snapshot: reader.clone(),
        hints,
        phases: drain.phases(),
        metrics: metrics.data_path(),
    })?;
    let workers = Rc::new(workers);
    let (in_force, seen) = watch::channel(InForce::new(addresses.clone()));
    let writer = Rc::new(writer);
    let roster = Rc::new(discovery::Roster::new(writer.clone(), &config.backends, events.clone()));
    let admin = admin::Parts {
        snapshot: reader.clone(),
        metrics: metrics.clone(),
        drain: drain.clone(),
        workers: workers.clone(),
        events: events.clone(),
        identity: admin::Identity { started },
        in_force: seen,
        sources: roster.states(),
    };
    let (places, found_at) = watch::channel(config.discovery.clone());
    let own = discovery::Own { in_force: in_force.subscribe(), admin: admin_address };
    let discovery = discovery::Parts {
        writer: writer.clone(),
        roster: roster.clone(),
        places: found_at,
        own,
        events: events.clone(),
    };
    discovery::recall(&discovery);
    let (moves_now, moves) = watch::channel(reload::moves(config));
    let reloader = Reloader::new(
        config,
        reload::Parts {
            listeners: open,
            live: live.clone(),
            method,
            places,
            roster,
            workers: workers.clone(),
            in_force,
            metrics: metrics.clone(),
            moves: moves_now,
            events: events.clone(),
        },
    );
    let health = health::Parts {
        method: methods,
        writer,
        hints: hint_receiver,
        metrics,
        events: events.clone(),
    };
    let (asks, commands) = Commands::channel();
    let control = Control {
        admin_listener,
        admin,
        health,
        discovery,
        reloader,
        commands,
        events,
        moves,
        workers,
    };
    Ok(Bound { addresses, admin: admin_address, drain, reader, live, commands: asks, control })
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
    pub fn drain_timeout(&self) -> impl Fn() -> std::time::Duration + use<> {
        let live = self.live.clone();
        move || live.load().connections.drain_timeout
    }

    /// Follows the file and flags that the configuration came from: it is read again when the file
    /// changes, and when somebody asks.
    pub fn follow(&mut self, source: Source) {
        self.control.reloader.follow(source);
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
            workers,
        } = self.control;
        let admin_listener = net::into_async(admin_listener)
            .map_err(|source| StartError::Listen { address: self.admin, source })?;
        info!(listen = ?self.addresses, admin = %self.admin, "serving");
        let backends = self.reader.load().entries.len();
        events.record(Event::Started { version: env!("CARGO_PKG_VERSION").to_owned(), backends });
        let control = async {
            tokio::select! {
                () = admin::serve(admin_listener, admin) => {}
                () = health::run(health) => {}
                () = discovery::run(discovery) => {}
                () = reloader.run(commands) => {}
                () = events::watch(self.reader.clone(), events.clone(), moves) => {}
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
                // A thread that hears of the drain first may end before this task hears of it.
                () = died => if self.drain.phase() == Phase::Running {
                    return Err(StartError::WorkerDied);
                },
            }
            if let Phase::Draining { until } = self.drain.phase() {
                let within = until.saturating_duration_since(Instant::now());
                events.record(Event::ShuttingDown { within });
            }
            for worker in workers.iter() {
                worker.ended().await;
            }
            info!("every connection has ended");
            Ok(())
        };
        tokio::select! {
            result = ended => result,
            () = control => Err(StartError::ControlDied),
        }
    }
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
