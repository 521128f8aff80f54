//! A client and its long-lived connection: a watch or two, with events and requests now and then.

use std::time::{Duration, Instant};

use apiproxy::model::Active;
use apiproxy::rebalance::{Move, Traffic};

/// The mean time between two messages of a connection, in seconds: from a busy controller to a watch
/// with little more than its keepalive. Drawn on a logarithmic scale.
const MEAN_GAP: std::ops::Range<f64> = 1.0..60.0;

/// How long a request waits for its answer.
const SERVICE: Duration = Duration::from_millis(50);

pub(super) struct Connection {
    open: Option<(usize, Active)>,
    pub(super) wish: Option<Move>,
    /// Is it to be closed, to move its client?
    pub(super) closing: bool,
    mean_gap: f64,
    last_message: Option<Instant>,
    next_message: Option<Instant>,
    rng: fastrand::Rng,
}

impl Connection {
    pub(super) fn new(rng: &mut fastrand::Rng) -> Self {
        let (least, most) = (MEAN_GAP.start.ln(), MEAN_GAP.end.ln());
        Self {
            open: None,
            wish: None,
            closing: false,
            mean_gap: (least + (most - least) * rng.f64()).exp(),
            last_message: None,
            next_message: None,
            rng: fastrand::Rng::with_seed(rng.u64(..)),
        }
    }

    /// The index of the server that carries it.
    pub(super) fn server(&self) -> Option<usize> {
        self.open.as_ref().map(|(server, _)| *server)
    }

    pub(super) fn open(&mut self, server: usize, active: Active, now: Instant) {
        self.open = Some((server, active));
        self.wish = None;
        self.last_message = Some(now);
        self.next_message = Some(now + self.gap());
    }

    pub(super) fn close(&mut self) -> Option<usize> {
        self.wish = None;
        self.closing = false;
        self.open.take().map(|(server, _)| server)
    }

    /// What it has carried so far. Messages come as in a Poisson process, which has no memory: so
    /// only those around the moments that somebody looks are drawn.
    pub(super) fn traffic(&mut self, now: Instant) -> Traffic {
        if let Some(next) = self.next_message
            && next <= now
        {
            let ago = self.gap();
            self.last_message = now.checked_sub(ago).filter(|last| *last > next).or(Some(next));
            self.next_message = Some(now + self.gap());
        }
        let asked = self.last_message.unwrap_or(now);
        let answered = asked + SERVICE;
        let awaits_answer = now < answered;
        let last_byte = if awaits_answer { asked } else { answered };
        Traffic { last_byte, between_records: true, awaits_answer }
    }

    fn gap(&mut self) -> Duration {
        Duration::from_secs_f64(-self.mean_gap * (1.0 - self.rng.f64()).ln())
    }
}
