//! An ordinary step whose turn comes when the restore has come to some point: looked at before, it would
//! see a cluster that is gone.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::RestoreStep;
use crate::bootstrap::engine::{Check, Context, Lane, Step, StepError, StepId};

/// A step that waits for another.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) step: Arc<dyn Step>,
    /// In place of what it needs elsewhere.
    pub(super) needs: Vec<StepId>,
    pub(super) follows: Vec<StepId>,
    /// What has to be so before it is looked at.
    pub(super) gate: Arc<RestoreStep>,
}

impl Step for Later {
    fn id(&self) -> StepId {
        self.step.id()
    }

    fn title(&self) -> String {
        self.step.title()
    }

    fn needs(&self) -> Vec<StepId> {
        self.needs.clone()
    }

    fn follows(&self) -> Vec<StepId> {
        self.follows.clone()
    }

    fn lane(&self) -> Lane {
        self.step.lane()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            match self.gate.check(cx).await? {
                Check::Done => self.step.check(cx).await,
                _ => Ok(Check::After(self.gate.id())),
            }
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.step.apply(cx)
    }

    fn verify<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        self.step.verify(cx)
    }
}
