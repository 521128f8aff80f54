//! A step that comes after others besides what it says itself: what leaves and what joins are put in
//! order where both are known.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::bootstrap::engine::{Check, Context, Disruption, Lane, Step, StepError, StepId};

/// A step that waits for more.
#[derive(Debug)]
struct After {
    step: Arc<dyn Step>,
    follows: Vec<StepId>,
}

/// Lets those of these steps that are meant begin when all of `follows` are over.
pub fn after(
    steps: Vec<Arc<dyn Step>>,
    follows: &[StepId],
    meant: impl Fn(&StepId) -> bool,
) -> Vec<Arc<dyn Step>> {
    let wrap = |step: Arc<dyn Step>| -> Arc<dyn Step> {
        let follows = follows.to_vec();
        if meant(&step.id()) { Arc::new(After { step, follows }) } else { step }
    };
    if follows.is_empty() { steps } else { steps.into_iter().map(wrap).collect() }
}

impl Step for After {
    fn id(&self) -> StepId {
        self.step.id()
    }

    fn title(&self) -> String {
        self.step.title()
    }

    fn needs(&self) -> Vec<StepId> {
        self.step.needs()
    }

    fn follows(&self) -> Vec<StepId> {
        [self.step.follows(), self.follows.clone()].concat()
    }

    fn lane(&self) -> Lane {
        self.step.lane()
    }

    fn disruption(&self) -> Option<Disruption> {
        self.step.disruption()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.step.check(cx)
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.step.apply(cx)
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.step.verify(cx)
    }
}
