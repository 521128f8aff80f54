//! A step by itself: what it needs is taken to be there.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Check, Context, Disruption, Lane, Step, StepError, StepId};

/// A step without what it needs, for a command that is about this step alone.
#[derive(Clone, Debug)]
pub struct Alone(pub Arc<dyn Step>);

impl Step for Alone {
    fn id(&self) -> StepId {
        self.0.id()
    }

    fn title(&self) -> String {
        self.0.title()
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn lane(&self) -> Lane {
        self.0.lane()
    }

    fn disruption(&self) -> Option<Disruption> {
        self.0.disruption()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.0.check(cx)
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.apply(cx)
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.verify(cx)
    }
}
