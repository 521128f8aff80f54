//! The load: paced requests and watches as client-go makes them, on a thread of their own so that
//! what they measure does not depend on who else is busy.

mod stats;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

pub use self::stats::LoadStats;
use super::{Connection, Dialer, Protocol};

/// How much load, and how patient.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Time between the starts of two requests, at least 1 ms; 100 ms by default.
    pub period: Duration,
    /// How long a request may take, dialling included; also a watch, to open. 2 s by default.
    pub timeout: Duration,
    /// Number of watches; none by default.
    pub watches: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let (period, timeout) = (Duration::from_millis(100), Duration::from_secs(2));
        Self { period, timeout, watches: 0 }
    }
}

/// A client that lists namespaces again and again on one HTTP/2 connection, and dials anew after
/// any error or orderly close; and watches, each on a connection of its own, that do so when cut. Dropping it ends
/// its thread and connections.
pub struct Load {
    stats: Arc<watch::Sender<LoadStats>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the load. It runs until the value is dropped, whatever happens to the server.
    ///
    /// # Errors
    /// When the process is out of threads or file descriptors.
    pub fn start(dialer: Dialer, mut options: LoadOptions) -> io::Result<Self> {
        options.period = options.period.max(Duration::from_millis(1));
        let stats = LoadStats::new(Instant::now(), options.watches);
        let stats = Arc::new(watch::Sender::new(stats));
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("load".into()).spawn({
            let stats = Arc::clone(&stats);
            move || {
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    tasks.spawn(list(dialer.clone(), options, Arc::clone(&stats)));
                    for index in 0..options.watches {
                        tasks.spawn(follow(dialer.clone(), options, index, Arc::clone(&stats)));
                    }
                    // Ends with an error, as the other end is only ever dropped.
                    let _ = stopped.await;
                });
            }
        })?;
        Ok(Self { stats, stop: Some(stop), thread: Some(thread) })
    }

    /// The results so far.
    pub fn stats(&self) -> LoadStats {
        let mut stats = self.stats.borrow().clone();
        stats.advance(Instant::now());
        stats
    }

    /// Waits until `condition` holds, and returns the results that fulfilled it. It is looked at
    /// whenever something happens, so a stretch that just goes on does not fulfil it.
    #[expect(clippy::missing_panics_doc, reason = "the sender lives as long as self")]
    pub async fn seen(&self, condition: impl FnMut(&LoadStats) -> bool) -> LoadStats {
        let mut stats = self.stats.subscribe();
        let fulfilled = stats.wait_for(condition).await;
        fulfilled.expect("self holds the sender").clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The paced requests, without end.
async fn list(dialer: Dialer, options: LoadOptions, stats: Arc<watch::Sender<LoadStats>>) {
    let mut ticks = interval(options.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let request = request(&dialer, connection.take(), &stats);
        let outcome = timeout(options.timeout, request)
            .await
            .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)));
        let now = Instant::now();
        match outcome {
            Ok((server, kept)) => {
                connection = Some(kept);
                stats.send_modify(|stats| stats.succeed(server, now));
            }
            Err(error) => stats.send_modify(|stats| stats.fail(reason(&error), now)),
        }
    }
}

/// One request, which gives its connection back only when it went well.
async fn request(
    dialer: &Dialer,
    connection: Option<Connection>,
    stats: &watch::Sender<LoadStats>,
) -> io::Result<(String, Connection)> {
    // As client-go does: a connection that was closed while it was idle is no failed request, nor is
    // one that was closed before the request had left.
    if let Some(mut kept) = connection.filter(|connection| !connection.is_closed()) {
        match kept.get(PATH).await {
            Err(error) if never_left(&error) => {}
            response => return finish(response?, kept).await,
        }
    }
    // A new connection may be closed as well before the request leaves, when this thread is late: to
    // the proxy it is an idle one. Go's HTTP/2 transport makes no difference between new and old.
    let mut tries = MOST_TRIES;
    loop {
        tries -= 1;
        stats.send_modify(|stats| stats.dials += 1);
        let mut connection = dialer.dial(Protocol::Http2).await?;
        match connection.get(PATH).await {
            Err(error) if tries > 0 && never_left(&error) => {}
            response => return finish(response?, connection).await,
        }
    }
}

/// New connections for one request: Go's HTTP/2 transport gives up after so many.
const MOST_TRIES: u32 = 6;

/// What is asked for.
const PATH: &str = "/api/v1/namespaces";

/// Was the connection closed before anything of the request was sent, or did the server say by GOAWAY,
/// without an error, that it has not looked at it? In both cases client-go tries again.
fn never_left(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<hyper::Error>());
    error.is_some_and(|error| error.is_canceled() || error.is_closed() || is_orderly_goaway(error))
}

fn is_orderly_goaway(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    })
}

/// Reads an answer to its end.
async fn finish(
    response: Response<Incoming>,
    connection: Connection,
) -> io::Result<(String, Connection)> {
    let server = check(&response)?;
    response.into_body().collect().await.map_err(io::Error::other)?;
    Ok((server, connection))
}

/// The error with its causes: hyper and rustls say what happened only there.
fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The server's name, if it answered 200.
fn check(response: &Response<Incoming>) -> io::Result<String> {
    if response.status() != StatusCode::OK {
        return Err(io::Error::other(format!("answered {}", response.status())));
    }
    let name = response.headers().get("x-apiserver").and_then(|name| name.to_str().ok());
    Ok(name.unwrap_or_default().to_owned())
}

/// One watch after another, without end.
async fn follow(
    dialer: Dialer,
    options: LoadOptions,
    index: usize,
    stats: Arc<watch::Sender<LoadStats>>,
) {
    loop {
        let opened = timeout(options.timeout, async {
            let mut connection = dialer.dial(Protocol::Http2).await?;
            let response = connection.get("/api/v1/namespaces?watch=true").await?;
            check(&response)?;
            io::Result::Ok((connection, response.into_body()))
        });
        if let Ok(Ok((_connection, mut events))) = opened.await {
            stats.send_modify(|stats| stats.watches += 1);
            while let Some(Ok(frame)) = events.frame().await {
                let lines =
                    frame.data_ref().map_or(0, |data| data.split(|b| *b == b'\n').count() - 1);
                stats.send_modify(|stats| stats.hear(index, lines as u64, Instant::now()));
            }
            stats.send_modify(|stats| {
                stats.watches -= 1;
                stats.cuts += 1;
            });
        }
        sleep(options.period).await;
    }
}

#[cfg(test)]
mod tests;
