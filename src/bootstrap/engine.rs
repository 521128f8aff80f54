//! What has to be done, in which order, and what was done: steps, their graph, the plan, the run.

mod step;

pub use step::{Change, Check, Context, Disruption, Hosts, Lane, Step, StepError, StepId};
