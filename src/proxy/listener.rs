//! Accepts clients, within the limit, and survives a shortage of descriptors.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use super::worker::Worker;
use crate::drain::Phases;
use crate::net;

/// Waits after an accept that failed for want of resources: doubled up to a second, because only a
/// connection that ends somewhere can help.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// A refusal is logged at most this often; the metric counts each.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Accepts until the drain begins, then closes the listener.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, mut phases: Phases) {
    phases.serving().await;
    let mut door = Doorman { worker, warned: None, back_off: FIRST_BACK_OFF };
    let stop = phases.draining();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => door.admit(stream),
                Err(error) => door.endure(&error).await,
            },
        }
    }
}

/// Decides what becomes of a client at the door.
struct Doorman {
    worker: Rc<Worker>,
    warned: Option<Instant>,
    back_off: Duration,
}

impl Doorman {
    fn admit(&mut self, stream: TcpStream) {
        self.back_off = FIRST_BACK_OFF;
        if let Some(permit) = self.worker.shared.permits.take() {
            self.worker.dispatch(stream, permit);
        } else {
            self.worker.shared.metrics.refused.increment(1);
            // An RST tells the client at once; a FIN would look like a server that hung up.
            net::reset_on_close(&stream);
            let max = self.worker.shared.connections.max;
            if self.may_warn() {
                warn!(
                    max,
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
        if self.may_warn() {
            error!(%error, "cannot accept clients; trying again (is the limit of open files too low?)");
        }
        sleep(self.back_off).await;
        self.back_off = (self.back_off * 2).min(LONGEST_BACK_OFF);
    }

    fn may_warn(&mut self) -> bool {
        let now = Instant::now();
        let may = self.warned.is_none_or(|at| now >= at + WARN_EVERY);
        if may {
            self.warned = Some(now);
        }
        may
    }
}
