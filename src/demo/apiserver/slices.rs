//! EndpointSlices of `default/kubernetes`, listed and watched, also in ways that no apiserver should.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Body, Bytes, Frame};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::shared::Shared;

/// How the next change is told to those who watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Telling {
    /// As an event.
    #[default]
    Event,
    /// Not at all: `410 Gone`, after which the watch ends.
    Gone,
    /// Not at all: the watch ends in the middle of a line.
    Cut,
    /// By this line instead.
    Line(String),
}

/// What a server says of the endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) revision: u64,
    pub(super) telling: Telling,
}

impl Said {
    /// One slice a port.
    fn items(&self) -> Vec<Value> {
        let mut ports = BTreeMap::<u16, Vec<Value>>::new();
        for address in &self.addresses {
            let endpoint =
                json!({ "addresses": [address.ip().to_string()], "conditions": { "ready": true } });
            ports.entry(address.port()).or_default().push(endpoint);
        }
        let item = |(port, endpoints): (u16, Vec<Value>)| {
            json!({
                "metadata": {
                    "name": format!("kubernetes-{port}"), "namespace": "default",
                    "resourceVersion": self.revision.to_string(),
                    "labels": { "kubernetes.io/service-name": "kubernetes" },
                },
                "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
            })
        };
        ports.into_iter().map(item).collect()
    }

    fn events(&self) -> String {
        let event =
            |object: Value| format!("{}\n", json!({ "type": "MODIFIED", "object": object }));
        self.items().into_iter().map(event).collect()
    }
}

/// The answer to a list.
pub(super) fn list(shared: &Shared) -> Value {
    let said = shared.slices.borrow();
    json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "resourceVersion": said.revision.to_string() }, "items": said.items(),
    })
}

/// The body of a watch from a revision on: every change after it, and bookmarks between them.
pub(super) fn watch(
    shared: &Arc<Shared>,
    revision: u64,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + 'static {
    let mut said = shared.slices.subscribe();
    if said.borrow().revision != revision {
        said.mark_changed();
    }
    let mut ticks = interval(shared.behaviour().bookmarks.max(super::routes::FASTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let held = shared.hold(|counters| &mut counters.watches);
    let lines = stream::unfold(Some((said, ticks, held)), async |state| {
        let (mut said, mut ticks, held) = state?;
        // A change that comes with a tick is told all the same: a bookmark in its place would lose it.
        let changed = tokio::select! {
            biased;
            changed = said.changed() => changed.is_ok(),
            _ = ticks.tick() => false,
        };
        let (text, goes_on) = {
            let now = said.borrow();
            let metadata = json!({ "metadata": { "resourceVersion": now.revision.to_string() } });
            match &now.telling {
                _ if !changed => {
                    (format!("{}\n", json!({ "type": "BOOKMARK", "object": metadata })), true)
                }
                Telling::Event => (now.events(), true),
                Telling::Line(line) => (format!("{line}\n"), true),
                Telling::Gone => {
                    let status = json!({ "kind": "Status", "code": 410, "message": "too old" });
                    (format!("{}\n", json!({ "type": "ERROR", "object": status })), false)
                }
                Telling::Cut => ("{\"type\":\"MODI".to_owned(), false),
            }
        };
        Some((Ok(Frame::data(Bytes::from(text))), goes_on.then_some((said, ticks, held))))
    });
    StreamBody::new(lines)
}
