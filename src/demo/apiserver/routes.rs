//! What the server answers to each path, in kube-apiserver's own words where clients read them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::shared::{Held, Shared};
use super::slices;
use crate::demo::{Blob, Sha256};

/// Shortest pace of a watch's events: tokio's interval refuses zero.
pub(super) const FASTEST: Duration = Duration::from_millis(1);

/// Answers one request. `identified` says whether the client showed a certificate.
pub(super) async fn answer(
    shared: Arc<Shared>,
    identified: bool,
    request: Request<Incoming>,
) -> hyper::Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>> {
    let behaviour = shared.behaviour();
    if !behaviour.delay.is_zero() {
        sleep(behaviour.delay).await;
    }
    let mut response = if behaviour.client_cert_required && !identified {
        refusal(StatusCode::UNAUTHORIZED)
    } else {
        route(&shared, request).await?
    };
    if let Ok(name) = HeaderValue::from_str(&shared.name) {
        response.headers_mut().insert("x-apiserver", name);
    }
    shared.count(|counters| counters.requests += 1);
    Ok(response)
}

async fn route(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
) -> hyper::Result<Response<UnsyncBoxBody<Bytes, hyper::Error>>> {
    let number = |key| parameter(&request, key).and_then(|value| value.parse().ok()).unwrap_or(0);
    let response = match (request.method(), request.uri().path()) {
        (&Method::GET, "/readyz") => readyz(shared.behaviour().readyz),
        (&Method::GET, "/livez" | "/healthz") => text(StatusCode::OK, "ok"),
        (&Method::GET, "/version") => document(StatusCode::OK, &version()),
        (&Method::GET, "/api") => document(StatusCode::OK, &api_versions()),
        (&Method::GET, "/api/v1") => document(StatusCode::OK, &resources()),
        (&Method::GET, "/apis") => document(StatusCode::OK, &api_groups()),
        (&Method::GET, "/api/v1/namespaces") => {
            if matches!(parameter(&request, "watch"), Some("true" | "1")) {
                json_body(StatusCode::OK, Watch::open(shared))
            } else {
                document(StatusCode::OK, &namespaces())
            }
        }
        (&Method::GET, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices") => {
            if matches!(parameter(&request, "watch"), Some("true" | "1")) {
                json_body(StatusCode::OK, slices::watch(shared, number("resourceVersion")))
            } else {
                document(StatusCode::OK, &slices::list(shared))
            }
        }
        (&Method::GET, "/blob") => {
            response(StatusCode::OK, Blob::new(number("seed"), number("bytes")))
        }
        (&Method::GET, "/whoami") => document(StatusCode::OK, &json!({ "name": shared.name })),
        (&Method::GET, "/slow") => {
            sleep(Duration::from_millis(number("ms"))).await;
            text(StatusCode::OK, "ok")
        }
        (&Method::POST, "/echo") => Response::new(request.into_body().boxed_unsync()),
        (&Method::POST, "/hash") => document(StatusCode::OK, &hash(request.into_body()).await?),
        _ => refusal(StatusCode::NOT_FOUND),
    };
    Ok(response)
}

fn parameter<'a>(request: &'a Request<Incoming>, key: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, v)| v)
}

fn readyz(status: StatusCode) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    if status.is_success() {
        text(status, "ok")
    } else if status.is_server_error() {
        let verbose = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]informer-sync ok\n\
                       [-]shutdown failed: reason withheld\nreadyz check failed\n";
        text(status, verbose)
    } else {
        refusal(status)
    }
}

/// `metav1.Status`, as every refusal of an apiserver is.
fn refusal(status: StatusCode) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    let (reason, message) = match status {
        StatusCode::UNAUTHORIZED => ("Unauthorized", "Unauthorized"),
        StatusCode::FORBIDDEN => {
            ("Forbidden", "forbidden: User \"system:anonymous\" cannot get path \"/readyz\"")
        }
        StatusCode::NOT_FOUND => ("NotFound", "the server could not find the requested resource"),
        other => {
            let reason = other.canonical_reason().unwrap_or("Unknown");
            (reason, reason)
        }
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    document(status, &body)
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.2", "gitCommit": "demo",
        "gitTreeState": "clean", "buildDate": "2025-11-11T19:23:38Z", "goVersion": "go1.24.9",
        "compiler": "gc", "platform": "linux/amd64",
    })
}

fn api_versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

fn api_groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] })
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{
            "name": "namespaces", "singularName": "namespace", "namespaced": false,
            "kind": "Namespace", "verbs": ["get", "list", "watch"], "shortNames": ["ns"],
        }],
    })
}

fn namespaces() -> Value {
    let items = ["default", "kube-node-lease", "kube-public", "kube-system"].map(|name| {
        json!({
            "metadata": {
                "name": name, "uid": name, "resourceVersion": "1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": { "finalizers": ["kubernetes"] },
            "status": { "phase": "Active" },
        })
    });
    json!({
        "kind": "NamespaceList", "apiVersion": "v1",
        "metadata": { "resourceVersion": "1" }, "items": items,
    })
}

async fn hash(mut body: Incoming) -> hyper::Result<Value> {
    let (mut hash, mut bytes) = (Sha256::default(), 0_u64);
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            hash.update(data);
            bytes += data.len() as u64;
        }
    }
    Ok(json!({ "sha256": hash.hex(), "bytes": bytes }))
}

fn text(status: StatusCode, body: &'static str) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    let mut response = response(status, Full::new(Bytes::from_static(body.as_bytes())));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn document(status: StatusCode, body: &Value) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    json_body(status, Full::new(Bytes::from(format!("{body}\n"))))
}

fn json_body(
    status: StatusCode,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    let mut response = response(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn response(
    status: StatusCode,
    body: impl Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Response<UnsyncBoxBody<Bytes, hyper::Error>> {
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// The body of a watch: a bookmark at once, then one at every tick, without end.
struct Watch {
    ticks: Interval,
    revision: u64,
    _open: Held,
}

impl Watch {
    fn open(shared: &Arc<Shared>) -> Self {
        let mut ticks = interval(shared.behaviour().bookmarks.max(FASTEST));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, revision: 0, _open: shared.hold(|counters| &mut counters.watches) }
    }
}

impl Body for Watch {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.ticks.poll_tick(context));
        self.revision += 1;
        let event = json!({
            "type": "BOOKMARK",
            "object": {
                "kind": "Namespace", "apiVersion": "v1",
                "metadata": { "resourceVersion": self.revision.to_string() },
            },
        });
        Poll::Ready(Some(Ok(Frame::data(format!("{event}\n").into()))))
    }
}
