//! The read-only HTTP endpoint: metrics, liveness, readiness and status.

mod clusters;
mod export;
mod history;
mod page;
mod status;

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{interval, sleep, timeout};
use tracing::{debug, warn};

use crate::drain::{Drain, Phase};
use crate::events::Events;
use crate::metrics::Metrics;
use crate::model::{ClusterName, InForce};
use crate::seats::{Progress, Seats};
use crate::throttle::Throttle;

pub use crate::events::Severity;
pub use clusters::{Cluster, Clusters};
pub use history::{EventStatus, History};
pub use status::{
    BackendStatus, ClusterStatus, ConfigStatus, Identity, ReasonStatus, SourceStatus, Status,
};

/// Admin clients served at a time. Scrapers and people need few, and a flood of them must not eat the
/// descriptors of the data path.
const MOST_CLIENTS: usize = 64;

/// How long a client may take to send its request: it is a few lines.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a request and its answer may take in all.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(8);

/// A data thread that does not answer for so long is stuck.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// What stands before a cluster's name.
const READYZ_OF: &str = "/readyz/";

/// Histogram samples are folded this often.
const FOLD_EVERY: Duration = Duration::from_secs(10);

/// A failure to accept, and a client that loses its seat, are logged at most this often.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What a status document is made of.
#[derive(Clone, Debug)]
pub struct View {
    /// The clusters that are served.
    pub clusters: Clusters,
    /// How far the end of the process has come.
    pub drain: Drain,
    /// What has happened.
    pub events: Events,
    /// What does not change while the process runs.
    pub identity: Identity,
    /// The configuration in force.
    pub in_force: watch::Receiver<InForce>,
    /// Told when the drain begins while another process stands by: that one answers at our addresses
    /// from then on.
    pub replaced: Rc<Notify>,
}

impl View {
    /// What there is to see now.
    pub fn status(&self) -> Status {
        let draining = self.drain.phase() != Phase::Running;
        let (clusters, in_force) = (self.clusters.all(), self.in_force.borrow());
        Status::new(&self.identity, &clusters, &in_force, draining, &self.events)
    }

    /// What has happened after the event with this number; 0 for all that is kept.
    pub fn history(&self, after: u64) -> History {
        History::after(after, &self.identity, &self.events)
    }
}

/// What the admin endpoint shows.
#[derive(Debug)]
pub struct Parts {
    /// What the status document is made of.
    pub view: View,
    /// The registry.
    pub metrics: Metrics,
}

/// Serves until the future is dropped. Runs on the control thread's local runtime.
pub async fn serve(listener: TcpListener, parts: Parts) {
    let parts = Rc::new(parts);
    let mut seats = Seats::new(MOST_CLIENTS);
    let mut fold = interval(FOLD_EVERY);
    let (mut failures, mut sheds) = (Throttle::new(WARN_EVERY), Throttle::new(WARN_EVERY));
    let mut phases = parts.view.drain.phases();
    phases.serving().await;
    loop {
        let has_room = seats.has_room();
        tokio::select! {
            // Whoever asks from now on asks the process that has taken over.
            () = phases.handed_over() => break,
            () = parts.view.replaced.notified() => break,
            () = seats.changed() => {}
            _ = fold.tick() => parts.metrics.fold(),
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let parts = parts.clone();
                    if seats.seat(|progress| attend(stream, parts, progress))
                        && let Some(left_out) = sheds.admit()
                    {
                        warn!(left_out, "an admin client that asked nothing has lost its seat to another one");
                    }
                    // A request that is here already is read before anybody else comes in.
                    yield_now().await;
                }
                Err(error) => {
                    if let Some(left_out) = failures.admit() {
                        warn!(%error, left_out, "cannot accept an admin client");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    seats.emptied().await;
    std::future::pending::<()>().await;
}

/// Answers one request.
async fn attend(stream: TcpStream, parts: Rc<Parts>, progress: Progress) {
    let service = service_fn(|request| {
        let (parts, progress) = (parts.clone(), progress.clone());
        async move {
            progress.asked();
            let answer = answer(&parts, &request).await;
            progress.answered();
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Who sends and never reads would otherwise keep its seat for long.
    match timeout(CLIENT_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an admin client went away"),
        Err(_) => debug!("an admin client was too slow"),
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(parts: &Parts, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "read-only: GET and HEAD only\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => {
            let text = export::text(&parts.metrics, &parts.view.clusters.all());
            typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        "/livez" => livez(parts).await,
        "/readyz" => readyz(parts, None),
        "/status" => status(parts),
        "/events" => json(&parts.view.history(0)),
        "/" => page(),
        path if path.starts_with(READYZ_OF) => readyz(parts, path.strip_prefix(READYZ_OF)),
        _ => text(
            StatusCode::NOT_FOUND,
            "not found: see /, /status, /events, /metrics, /livez and /readyz\n",
        ),
    }
}

/// Do all data threads answer?
async fn livez(parts: &Parts) -> Answer {
    let clusters = parts.view.clusters.wanted();
    let asked = clusters.iter().flat_map(|cluster| {
        let of = cluster.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
        cluster.workers.iter().enumerate().map(move |(number, worker)| (of.clone(), number, worker))
    });
    let asked = asked.map(async |(of, number, worker)| {
        let answers = timeout(LIVE_WITHIN, worker.ping()).await.unwrap_or(false);
        (!answers).then(|| format!("data thread {number}{of} does not answer\n"))
    });
    let silent: String = join_all(asked).await.into_iter().flatten().collect();
    if silent.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    text(StatusCode::INTERNAL_SERVER_ERROR, silent)
}

/// Is there a backend for new clients of the cluster of this name, and do we take any? Of several
/// clusters together: has each been judged, and is there one that can be used? What one that is down
/// has to do with the others is nothing.
fn readyz(parts: &Parts, name: Option<&str>) -> Answer {
    let unready = |message: String| text(StatusCode::SERVICE_UNAVAILABLE, message);
    if parts.view.drain.phase() != Phase::Running {
        return unready("shutting down\n".to_owned());
    }
    let clusters = parts.view.clusters.wanted();
    let named = |cluster: &&Cluster| cluster.name.as_ref().map(ClusterName::as_str) == name;
    let one = match (name, clusters.as_slice()) {
        (None, [only]) if only.name.is_none() => Some(only),
        (None, _) => None,
        (Some(_), all) => match all.iter().find(named) {
            Some(found) => Some(found),
            None => return text(StatusCode::NOT_FOUND, "there is no such cluster: see /status\n"),
        },
    };
    match one {
        Some(cluster) if cluster.usable() => text(StatusCode::OK, "ok\n"),
        Some(_) => unready("no backend is ready: see /status\n".to_owned()),
        None => readyz_of_all(&clusters),
    }
}

fn readyz_of_all(clusters: &[Cluster]) -> Answer {
    let line = |cluster: &Cluster| {
        let word = match (cluster.usable(), cluster.is_judged()) {
            (true, _) => "ok",
            (false, true) => "no backend is ready",
            (false, false) => "not probed yet",
        };
        cluster.name.as_ref().map(|name| format!("{name}: {word}\n")).unwrap_or_default()
    };
    let lines: String = clusters.iter().map(line).collect();
    let judged = clusters.iter().all(Cluster::is_judged);
    if judged && clusters.iter().any(Cluster::usable) {
        return text(StatusCode::OK, lines);
    }
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

fn status(parts: &Parts) -> Answer {
    json(&parts.view.status())
}

fn page() -> Answer {
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", page::HTML.to_owned());
    if let Ok(policy) = HeaderValue::from_str(&page::POLICY) {
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    answer.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn json(document: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(document) {
        Ok(json) => typed(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body.into())
}

fn typed(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
