//! Labels and taints of a Node, which kubelet gives only when it registers, and not all of them. What we
//! gave is written onto the Node itself, so that it can be taken away when the file no longer names it.

mod given;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Worker, is_control_plane, node};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::kubernetes::{Api, Node};
use crate::bootstrap::steps::control_plane;
use given::{GIVEN, Given, Work};

/// The name of the step.
pub const STEP: &str = "node-labels";

/// The labels and taints of a Node. What others gave it stays.
#[derive(Clone, Debug)]
pub struct Labels(pub(super) Worker);

impl Labels {
    fn before(&self) -> StepId {
        let before = if is_control_plane(&self.0.host) { control_plane::STEP } else { node::STEP };
        self.0.step(before)
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let Worker { shared, host } = &self.0;
        let wanted = Given::of(host);
        let nodes = shared.nodes(cx).await?;
        let own = |nodes: &Vec<Node>| nodes.iter().find(|node| node.name == host.name).cloned();
        let Some(node) = nodes.as_deref().and_then(own) else {
            let nothing = wanted == Given::default();
            return Ok(if nothing { Check::Done } else { Check::After(self.before()) });
        };
        Ok(match Work::on(&node, &wanted).why() {
            Some(why) => Check::Needed(Change::new(why)),
            None => Check::Done,
        })
    }

    async fn make(&self, cx: &Context) -> Result<(), StepError> {
        let Worker { shared, host } = &self.0;
        let via = shared.through(cx).await?;
        let api = Api::new(cx, &via);
        let nodes = api.nodes().await?;
        let node = nodes.into_iter().find(|node| node.name == host.name);
        let node =
            node.ok_or_else(|| StepError::Unverified(format!("{} has no Node", host.name)))?;
        let work = Work::on(&node, &Given::of(host));
        // On record before it is given: a run that is cut off leaves nothing that nobody knows of.
        self.record(&api, work.on_record(), &work.meanwhile()).await?;
        for (verb, words) in [("label", work.labels()), ("taint", work.taints())] {
            if !words.is_empty() {
                let head = [verb, "node", &host.name, "--overwrite"].map(str::to_owned);
                api.kubectl(head.into_iter().chain(words)).await?;
            }
        }
        self.record(&api, &work.meanwhile(), work.wanted()).await
    }

    /// Writes onto the Node what we gave, if that differs from what is there.
    async fn record(&self, api: &Api<'_>, there: &Given, new: &Given) -> Result<(), StepError> {
        if there == new {
            return Ok(());
        }
        let word = match new.written() {
            Some(json) => format!("{GIVEN}={json}"),
            None => format!("{GIVEN}-"),
        };
        let words = ["annotate", "node", &self.0.host.name, "--overwrite", &word];
        api.kubectl(words).await.map(drop)
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
