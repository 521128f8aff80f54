//! The load of a busy node: requests on lasting connections and short-lived connections beside them,
//! every byte of every answer checked.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use apiproxy::demo::{Blob, Connection, Dialer, Protocol};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Lasting connections; together they make 500 requests a second.
const LASTING: u64 = 100;
const PACE: Duration = Duration::from_millis(200);

/// New connections: 50 a second, each for one request.
const NEW_EVERY: Duration = Duration::from_millis(20);

/// The length of an answer.
const BYTES: u64 = 6_000;

const PATIENCE: Duration = Duration::from_secs(20);

/// What has happened so far.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    short: AtomicU64,
    redials: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// The load, on a thread of its own until it is ended.
pub(crate) struct Load {
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The sums of a load.
#[derive(Debug)]
pub(crate) struct Sums {
    /// Requests answered on lasting connections.
    pub(crate) requests: u64,
    /// Connections that were opened for one request and served.
    pub(crate) short: u64,
    /// Lasting connections that were closed while they were idle, and opened anew.
    pub(crate) redials: u64,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Starts it, and waits until every lasting connection has had an answer.
    pub(crate) fn start(dialer: Dialer) -> Self {
        let counts = Arc::<Counts>::default();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for number in 0..LASTING {
                    tasks.spawn(last(dialer.clone(), shared.clone(), number, ready.clone()));
                }
                tasks.spawn(come_and_go(dialer, shared));
                let _ = stopped.await;
            });
        });
        for _ in 0..LASTING {
            is_ready.recv_timeout(PATIENCE).unwrap();
        }
        Self { counts, stop: Some(stop), thread: Some(thread) }
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Sums {
        self.join();
        let counts = &self.counts;
        Sums {
            requests: counts.requests.load(Relaxed),
            short: counts.short.load(Relaxed),
            redials: counts.redials.load(Relaxed),
            failures: counts.failures.lock().unwrap().clone(),
        }
    }

    fn join(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.join();
    }
}

impl Counts {
    fn failed(&self, what: &str, error: &io::Error) {
        self.failures.lock().unwrap().push(format!("{what}: {error}"));
    }
}

async fn last(dialer: Dialer, counts: Arc<Counts>, number: u64, ready: mpsc::Sender<()>) {
    let mut connection: Option<Connection> = None;
    // Not all at the same moment.
    sleep(PACE.mul_f64(f64::from(u32::try_from(number).unwrap()) / 100.0)).await;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u64.. {
        ticks.tick().await;
        let kept = connection.take().filter(|connection| !connection.is_closed());
        if kept.is_none() && turn > 0 {
            counts.redials.fetch_add(1, Relaxed);
        }
        match ask(&dialer, kept, number << 32 | turn).await {
            Ok(open) => {
                counts.requests.fetch_add(1, Relaxed);
                connection = Some(open);
                if turn == 0 {
                    let _ = ready.send(());
                }
            }
            Err(error) => counts.failed("a request", &error),
        }
    }
}

async fn come_and_go(dialer: Dialer, counts: Arc<Counts>) {
    let mut ticks = interval(NEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut visits = JoinSet::new();
    for turn in 0_u64.. {
        ticks.tick().await;
        let (dialer, counts) = (dialer.clone(), counts.clone());
        visits.spawn(async move {
            match ask(&dialer, None, turn).await {
                Ok(_) => _ = counts.short.fetch_add(1, Relaxed),
                Err(error) => counts.failed("a new connection", &error),
            }
        });
        while visits.try_join_next().is_some() {}
    }
}

/// Asks on a connection that was kept, or on a new one: also when the kept one turns out to have been
/// closed before the request was sent, as every HTTP client does.
async fn ask(dialer: &Dialer, kept: Option<Connection>, seed: u64) -> io::Result<Connection> {
    let was_kept = kept.is_some();
    let unsent = |error: &io::Error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<hyper::Error>());
        was_kept && cause.is_some_and(hyper::Error::is_canceled)
    };
    match exchange(dialer, kept, seed).await {
        Err(error) if unsent(&error) => exchange(dialer, None, seed).await,
        result => result,
    }
}

async fn exchange(dialer: &Dialer, kept: Option<Connection>, seed: u64) -> io::Result<Connection> {
    let exchange = async {
        let mut connection = match kept {
            Some(connection) => connection,
            None => dialer.dial(Protocol::Http1).await?,
        };
        let answer = connection.get(&format!("/blob?seed={seed}&bytes={BYTES}")).await?;
        if answer.status() != 200 {
            return Err(io::Error::other(format!("answered {}", answer.status())));
        }
        let body = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let wanted: Vec<u8> = Blob::new(seed, BYTES).flatten().collect();
        if body != wanted {
            return Err(io::Error::other("wrong bytes"));
        }
        Ok(connection)
    };
    timeout(PATIENCE, exchange).await?
}
