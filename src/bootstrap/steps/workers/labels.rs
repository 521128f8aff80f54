//! Labels and taints of a Node, which kubelet gives only when it registers, and not all of them.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Worker, is_control_plane, node};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, Node};
use crate::bootstrap::spec::{Host, Taint};
use crate::bootstrap::steps::control_plane;

/// The name of the step.
pub const STEP: &str = "node-labels";

/// The failure domain of a Node.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The labels and taints of a Node. What others gave it stays.
#[derive(Clone, Debug)]
pub struct Labels(pub(super) Worker);

/// The labels that a host's Node is to have.
fn wanted(host: &Host) -> BTreeMap<String, String> {
    let mut labels = host.labels.clone();
    if let Some(zone) = &host.zone {
        labels.entry(ZONE.to_owned()).or_insert_with(|| zone.clone());
    }
    labels
}

/// What the Node lacks.
fn missing(host: &Host, node: &Node) -> (Vec<String>, Vec<String>) {
    let mut labels = wanted(host);
    labels.retain(|name, value| node.labels.get(name) != Some(value));
    let labels = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let word = |Taint { key, value, effect }: &Taint| match value.as_str() {
        "" => format!("{key}:{effect}"),
        value => format!("{key}={value}:{effect}"),
    };
    let taints = host.taints.iter().filter(|taint| !node.taints.contains(taint)).map(word);
    (labels, taints.collect())
}

impl Labels {
    fn before(&self) -> StepId {
        let before = if is_control_plane(&self.0.host) { control_plane::STEP } else { node::STEP };
        self.0.step(before)
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let Worker { shared, host } = &self.0;
        if wanted(host).is_empty() && host.taints.is_empty() {
            return Ok(Check::Done);
        }
        let nodes = shared.nodes(cx).await?;
        let own = |nodes: &Vec<Node>| nodes.iter().find(|node| node.name == host.name).cloned();
        let Some(node) = nodes.as_deref().and_then(own) else {
            return Ok(Check::After(self.before()));
        };
        let (labels, taints) = missing(host, &node);
        if labels.is_empty() && taints.is_empty() {
            return Ok(Check::Done);
        }
        let words: Vec<_> = labels.into_iter().chain(taints).collect();
        Ok(Check::Needed(Change::new(format!("its Node lacks {}", words.join(", ")))))
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let Worker { shared, host } = &self.0;
        let via = shared.through(cx).await?;
        let api = Api::new(cx, &via);
        let nodes = api.nodes().await?;
        let node = nodes.into_iter().find(|node| node.name == host.name);
        let node =
            node.ok_or_else(|| StepError::Unverified(format!("{} has no Node", host.name)))?;
        let (labels, taints) = missing(host, &node);
        for (verb, words) in [("label", labels), ("taint", taints)] {
            if !words.is_empty() {
                let head = [verb, "node", &host.name, "--overwrite"].map(str::to_owned);
                api.kubectl(head.into_iter().chain(words)).await?;
            }
        }
        Ok(())
    }
}

impl Step for Labels {
    fn id(&self) -> StepId {
        self.0.step(STEP)
    }

    fn title(&self) -> String {
        format!("label the Node of {}", self.0.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![self.before()]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let outcome = self.make(cx).await;
            self.0.shared.changed(&self.0.host.name);
            outcome
        }
        .boxed()
    }
}
