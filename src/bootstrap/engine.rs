//! What has to be done, in which order, and what was done: steps, their graph, the plan, the run.

mod alone;
mod event;
#[cfg(test)]
mod fake;
mod graph;
mod lock;
mod log;
mod plan;
mod reach;
mod redact;
mod run;
mod step;
mod stop;
mod vitals;

pub use alone::Alone;
pub use event::{Event, Events};
pub use graph::{Graph, GraphError};
pub use lock::{LOCK, Locks, Owner, SECRETS};
pub use log::{Logged, RunLog};
pub use plan::{PARALLEL, Plan, Planned, State, observe};
pub use reach::{reach, reach_host};
pub use run::{Execution, Outcome, Summary, execute};
pub use step::{Change, Check, Context, Disruption, Hosts, Lane, Step, StepError, StepId};
pub use stop::{Level, Stop, Stopper};
pub use vitals::{Members, Prediction, Vitals, forecast, predict, vitals};
