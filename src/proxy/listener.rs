//! Accepts clients, within the limit, and survives a shortage of descriptors.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
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

/// Accepts until the drain begins, then closes the listener.
pub(super) async fn accept(worker: Rc<Worker>, listener: TcpListener, mut phases: Phases) {
    let mut door = Doorman {
        worker,
        refusals: Throttle::new(WARN_EVERY),
        errors: Throttle::new(WARN_EVERY),
        back_off: FIRST_BACK_OFF,
    };
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
    refusals: Throttle,
    errors: Throttle,
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
