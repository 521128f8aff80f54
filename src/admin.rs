//! The read-only HTTP endpoint: metrics, liveness, readiness and status.

mod export;
mod status;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, warn};

use crate::drain::{Drain, Phase};
use crate::metrics::Metrics;
use crate::model::Reader;
use crate::proxy::WorkerHandle;

pub use status::{BackendStatus, ReasonStatus, Status};

/// Admin clients served at a time; more wait. Scrapers and people need few, and a flood of them
/// must not eat the descriptors of the data path.
const MOST_CLIENTS: usize = 64;

/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request and its answer may take in all.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(8);

/// A data thread that does not answer for so long is stuck.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// Histogram samples are folded this often.
const FOLD_EVERY: Duration = Duration::from_secs(10);

/// What the admin endpoint shows.
#[derive(Debug)]
pub struct Parts {
    /// The current snapshot.
    pub snapshot: Reader,
    /// The registry.
    pub metrics: Metrics,
    /// How far the end of the process has come.
    pub drain: Drain,
    /// The data threads.
    pub workers: Rc<Vec<WorkerHandle>>,
    /// What does not change while the process runs.
    pub identity: status::Identity,
}

pub use status::Identity;

/// Serves until the future is dropped. Runs on the control thread's local runtime.
pub async fn serve(listener: TcpListener, parts: Parts) {
    let parts = Rc::new(parts);
    let seats = Arc::new(Semaphore::new(MOST_CLIENTS));
    let mut clients = tokio::task::JoinSet::new();
    let mut fold = interval(FOLD_EVERY);
    let mut phases = parts.drain.phases();
    phases.serving().await;
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            // Whoever asks from now on asks the process that has taken over.
            () = phases.handed_over() => break,
            Some(_) = clients.join_next() => continue,
            _ = fold.tick() => {
                parts.metrics.fold();
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept an admin client");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let parts = parts.clone();
        clients.spawn_local(async move {
            let _seat = seat;
            let service = service_fn(|request| {
                let parts = parts.clone();
                async move { Ok::<_, Infallible>(answer(&parts, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .header_read_timeout(REQUEST_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // Who sends and never reads would otherwise keep its seat for ever.
            match timeout(CLIENT_TIMEOUT, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an admin client went away"),
                Err(_) => debug!("an admin client was too slow"),
            }
        });
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
    std::future::pending::<()>().await;
}

type Answer = Response<Full<Bytes>>;

async fn answer(parts: &Parts, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET and HEAD only\n");
        answer.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => {
            export::backends(&parts.metrics, &parts.snapshot.load());
            typed(
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                parts.metrics.render(),
            )
        }
        "/livez" => livez(parts).await,
        "/readyz" => readyz(parts),
        "/status" => status(parts),
        "/" => text(StatusCode::OK, "apiproxy: see /status, /metrics, /livez and /readyz\n"),
        _ => text(StatusCode::NOT_FOUND, "not found: see /status, /metrics, /livez and /readyz\n"),
    }
}

/// Do all data threads answer?
async fn livez(parts: &Parts) -> Answer {
    for (number, worker) in parts.workers.iter().enumerate() {
        if !timeout(LIVE_WITHIN, worker.ping()).await.unwrap_or(false) {
            let message = format!("data thread {number} does not answer\n");
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
    }
    text(StatusCode::OK, "ok\n")
}

/// Is there a backend for new clients, and do we take any?
fn readyz(parts: &Parts) -> Answer {
    if parts.drain.phase() != Phase::Running {
        return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
    }
    if !parts.snapshot.load().usable() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "no backend is ready: see /status\n");
    }
    text(StatusCode::OK, "ok\n")
}

fn status(parts: &Parts) -> Answer {
    let draining = parts.drain.phase() != Phase::Running;
    let status = Status::new(&parts.identity, &parts.snapshot.load(), draining);
    match serde_json::to_string(&status) {
        Ok(json) => typed(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body.into())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Answer {
    use hyper::header::HeaderValue;
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
