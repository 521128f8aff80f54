//! What became of steps.

use std::time::Duration;

use crate::bootstrap::engine::{Plan, State, StepError, StepId};

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was so already.
    Unchanged,
    /// It was made so.
    Applied,
    /// It is not so.
    Failed(StepError),
    /// It was not begun, for this reason.
    Skipped(String),
    /// It was killed.
    Interrupted,
}

impl Outcome {
    /// The outcome in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::Failed(_) => "failed",
            Self::Skipped(_) => "skipped",
            Self::Interrupted => "interrupted",
        }
    }

    /// Why it is not so.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Unchanged | Self::Applied => None,
            Self::Failed(error) => Some(error.to_string()),
            Self::Skipped(why) => Some(why.clone()),
            Self::Interrupted => Some("it was killed; running this again goes on".to_owned()),
        }
    }

    /// Of a step that is not done on a host that the user has left out.
    pub(super) fn left_out(host: &str) -> Self {
        Self::Skipped(format!("it is not done, and --host leaves {host} out"))
    }

    /// Is it so now?
    pub fn is_so(&self) -> bool {
        matches!(self, Self::Unchanged | Self::Applied)
    }
}

/// What became of all steps.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Each step of the plan, in its order.
    pub steps: Vec<(StepId, Outcome)>,
    /// How long it took.
    pub time: Duration,
}

impl Summary {
    /// Of a plan that was not begun: what is not so yet was skipped.
    pub fn untouched(plan: &Plan, time: Duration) -> Self {
        let chosen = plan.steps.iter().filter(|step| step.chosen);
        let steps = chosen.map(|step| {
            let outcome = match &step.state {
                State::Done => Outcome::Unchanged,
                State::Failed(error) => Outcome::Failed(error.clone()),
                State::Unknown => Outcome::Skipped("its host was not reached".to_owned()),
                State::Needed(_) | State::After(_) => {
                    Outcome::Skipped("the plan was only shown".to_owned())
                }
            };
            (step.id.clone(), outcome)
        });
        Self { steps: steps.collect(), time }
    }

    /// Is everything as it should be?
    pub fn is_done(&self) -> bool {
        self.steps.iter().all(|(_, outcome)| outcome.is_so())
    }

    /// How many steps came to this end.
    pub fn count(&self, word: &str) -> usize {
        self.steps.iter().filter(|(_, outcome)| outcome.word() == word).count()
    }
}
