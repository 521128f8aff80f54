//! Accepts clients, within the limit, and survives a shortage of descriptors. Listeners come and go
//! while the thread runs.

use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{error, warn};

use super::worker::Worker;
use crate::drain::Phases;
use crate::net;
use crate::throttle::Throttle;

/// Waits after an accept that failed for want of resources: doubled up to a second, because only a
/// connection that ends somewhere can help.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// A refusal or a failure is logged at most this often; the metrics count each.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The listeners of a data thread.
pub(super) struct Listening {
    worker: Rc<Worker>,
    phases: Phases,
    open: Vec<Open>,
    accepting: JoinSet<()>,
}

/// A listener that is accepted at.
struct Open {
    address: SocketAddr,
    listener: Weak<TcpListener>,
    /// Dropping it closes the listener.
    _stop: oneshot::Sender<()>,
}

impl Listening {
    pub(super) fn new(worker: Rc<Worker>, phases: Phases) -> Self {
        Self { worker, phases, open: Vec::new(), accepting: JoinSet::new() }
    }

    /// Accepts at these listeners too: at all of them, or at none when one cannot be registered.
    pub(super) fn open(&mut self, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        let bound = |listener| {
            let listener = net::into_async(listener)?;
            Ok((listener.local_addr()?, listener))
        };
        let bound: io::Result<Vec<_>> = listeners.into_iter().map(bound).collect();
        for (address, listener) in bound? {
            let (stop, stopped) = oneshot::channel();
            let listener = Rc::new(listener);
            self.open.push(Open { address, listener: Rc::downgrade(&listener), _stop: stop });
            let accepting = accept(self.worker.clone(), listener, self.phases.clone(), stopped);
            self.accepting.spawn_local(accepting);
        }
        Ok(())
    }

    /// Closes these listeners. Who has been accepted stays.
    pub(super) fn close(&mut self, addresses: &[SocketAddr]) {
        self.open.retain(|open| !addresses.contains(&open.address));
    }

    /// Lets others be bound beside them, or no longer.
    pub(super) fn share(&self, shared: bool) -> io::Result<()> {
        let mut listeners = self.open.iter().filter_map(|open| open.listener.upgrade());
        listeners.try_for_each(|listener| net::share_port(&*listener, shared))
    }

    /// Waits until one has come to an end that nobody asked for.
    pub(super) async fn failed(&mut self) {
        loop {
            match self.accepting.join_next().await {
                Some(Ok(())) => {}
                Some(Err(_)) => return,
                None => std::future::pending().await,
            }
        }
    }
}

/// Accepts until the drain begins or the listener is no longer wanted, then closes it.
async fn accept(
    worker: Rc<Worker>,
    listener: Rc<TcpListener>,
    mut phases: Phases,
    unwanted: oneshot::Receiver<()>,
) {
    phases.serving().await;
    let mut door = Doorman {
        worker,
        tuned: None,
        refusals: Throttle::new(WARN_EVERY),
        errors: Throttle::new(WARN_EVERY),
        back_off: FIRST_BACK_OFF,
    };
    let stop = phases.draining();
    tokio::pin!(stop, unwanted);
    loop {
        door.tune(&listener);
        tokio::select! {
            biased;
            () = &mut stop => return,
            _ = &mut unwanted => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => door.admit(stream),
                Err(error) => door.endure(&error).await,
            },
        }
    }
    admit_waiting(&mut door, &listener);
}

/// Lets in those whom the kernel has told that they are connected: closing the listener would reset
/// them.
fn admit_waiting(door: &mut Doorman, listener: &TcpListener) {
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        door.admit(stream);
    }
}

/// Decides what becomes of a client at the door.
struct Doorman {
    worker: Rc<Worker>,
    /// The keepalive that the listener has, for those it accepts.
    tuned: Option<Duration>,
    refusals: Throttle,
    errors: Throttle,
    back_off: Duration,
}

impl Doorman {
    /// Gives the listener the options that clients are to have; anew after a reload.
    fn tune(&mut self, listener: &TcpListener) {
        let keepalive = self.worker.shared.live.load().connections.keepalive;
        if self.tuned.replace(keepalive) != Some(keepalive)
            && let Err(error) = net::tune_accepted(listener, keepalive)
        {
            warn!(%error, "cannot set keepalive for clients");
        }
    }

    fn admit(&mut self, stream: TcpStream) {
        self.back_off = FIRST_BACK_OFF;
        if let Some(permit) = self.worker.shared.live.permits().take() {
            self.worker.dispatch(stream, permit);
        } else {
            self.worker.shared.metrics.refused.increment(1);
            // An RST tells the client at once; a FIN would look like a server that hung up.
            net::reset_on_close(&stream);
            let max = self.worker.shared.live.load().connections.max;
            if let Some(left_out) = self.refusals.admit() {
                warn!(
                    max,
                    left_out,
                    "clients are refused: connections.max is reached; raise it, or find out who opens so many"
                );
            }
        }
    }

    async fn endure(&mut self, error: &io::Error) {
        if net::is_transient_accept(error) {
            return;
        }
        self.worker.shared.metrics.accept_errors.increment(1);
        if let Some(left_out) = self.errors.admit() {
            error!(%error, left_out, "cannot accept clients; trying again (is the limit of open files too low?)");
        }
        sleep(self.back_off).await;
        self.back_off = (self.back_off * 2).min(LONGEST_BACK_OFF);
    }
}
