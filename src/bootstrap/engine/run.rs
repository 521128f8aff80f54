//! Applies what is needed: each step after what it needs, so many hosts at once, and no further on
//! a host where something failed.

mod book;
mod outcome;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::log::scope;
use super::{
    Check, Context, Disruption, Event, Events, Graph, Level, Plan, Step, StepError, StepId, Stop,
    predict, vitals,
};
use crate::bootstrap::spec::Cluster;
use book::Book;
pub use outcome::{Outcome, Summary};

/// How often it is asked whether a host where a step runs must not be touched any more.
const BARRED_PACE: Duration = Duration::from_millis(250);

/// How a plan is carried out.
#[derive(Clone)]
pub struct Execution<'a> {
    /// How many hosts at the same time.
    pub parallel: usize,
    /// Whose quorum and apiservers are guarded; nobody's if there is none.
    pub cluster: Option<&'a Cluster>,
    /// Why a host must not be touched any more, asked before each of its steps and four times a second
    /// meanwhile.
    pub barred: &'a (dyn Fn(&str) -> Option<StepError> + Sync),
    /// Who hears what happens.
    pub events: Events,
    /// Who may stop it.
    pub stop: Stop,
}

impl std::fmt::Debug for Execution<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("parallel", &self.parallel).finish_non_exhaustive()
    }
}

/// Carries a plan out. What is done already is left alone, unless something that it needs was
/// applied: then it is looked at again.
pub async fn execute(
    graph: &Graph,
    plan: &Plan,
    cx: &Context,
    execution: &Execution<'_>,
) -> Summary {
    let began = Instant::now();
    let mut book = Book::new(graph, plan, execution.parallel, &execution.events);
    let hosts = plan.needed().fold(BTreeMap::new(), |mut hosts: BTreeMap<_, usize>, step| {
        *hosts.entry(step.id.host.clone()).or_default() += 1;
        hosts
    });
    execution.events.tell(Event::Applying { hosts });
    let mut running: FuturesUnordered<BoxFuture<'_, (usize, End, Duration)>> =
        FuturesUnordered::new();
    let mut stop = execution.stop.clone();
    let mut next = Level::Finish;
    loop {
        if next == Level::Finish {
            while let Some(at) = book.next() {
                let turn = Turn { may_wait: true, only_look: !plan.steps[at].chosen };
                running.push(Box::pin(one(at, graph.step(at), cx, execution, turn)));
            }
        }
        if running.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            () = stop.reached(next) => {
                let running = book.running();
                if stop.level() == Level::Kill {
                    execution.events.tell(Event::Killing { running });
                    break;
                }
                next = Level::Kill;
                execution.events.tell(Event::Stopping { running });
            }
            Some((at, end, time)) = running.next() => match end {
                End::Over(outcome) => book.end(at, outcome, time),
                End::After(before) if book.wait(at, &before) => {}
                // There is nothing to wait for: it says itself what it lacks.
                End::After(_) => {
                    let turn = Turn { may_wait: false, only_look: !plan.steps[at].chosen };
                    running.push(Box::pin(one(at, graph.step(at), cx, execution, turn)));
                }
            },
        }
    }
    // Commands that still run are killed with this.
    drop(running);
    book.close(began.elapsed())
}

/// How the work on a step ended.
enum End {
    Over(Outcome),
    /// It was not begun: it decides when this one is over.
    After(StepId),
}

/// What a step may do when its turn comes.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// It is left for later if it can only be told after another.
    may_wait: bool,
    /// It is only looked at, because the user has left its host out.
    only_look: bool,
}

/// One step, from the last look at it to the proof that it is so.
async fn one(
    at: usize,
    step: &std::sync::Arc<dyn Step>,
    cx: &Context,
    execution: &Execution<'_>,
    turn: Turn,
) -> (usize, End, Duration) {
    let began = Instant::now();
    let id = step.id();
    let (host, name) = (id.host.clone(), id.name.clone());
    execution.events.tell(Event::Started { host, step: name, title: step.title() });
    let work = async {
        // What still runs when the host is barred is killed with it.
        tokio::select! {
            biased;
            error = barred(&id.host, execution) => Err(error),
            end = apply(&id, step.as_ref(), cx, execution, turn) => end,
        }
    };
    let end = match scope(&id, work).await {
        Ok(end) => end,
        Err(error) => End::Over(Outcome::Failed(error)),
    };
    (at, end, began.elapsed())
}

/// Waits until a host must not be touched any more.
async fn barred(host: &str, execution: &Execution<'_>) -> StepError {
    loop {
        if let Some(error) = (execution.barred)(host) {
            return error;
        }
        sleep(BARRED_PACE).await;
    }
}

async fn apply(
    id: &StepId,
    step: &dyn Step,
    cx: &Context,
    execution: &Execution<'_>,
    turn: Turn,
) -> Result<End, StepError> {
    match step.check(cx).await? {
        Check::Done => return Ok(End::Over(Outcome::Unchanged)),
        Check::After(before) if turn.may_wait => return Ok(End::After(before)),
        Check::After(_) | Check::Needed(_) if turn.only_look => {
            return Ok(End::Over(Outcome::left_out(&id.host)));
        }
        Check::After(_) | Check::Needed(_) => {}
    }
    guard(id, step, cx, execution).await?;
    step.apply(cx).await?;
    step.verify(cx).await?;
    Ok(End::Over(Outcome::Applied))
}

/// Refuses what would take the quorum or the last apiserver away, as things are now.
async fn guard(
    id: &StepId,
    step: &dyn Step,
    cx: &Context,
    execution: &Execution<'_>,
) -> Result<(), StepError> {
    let etcd_goes = match step.disruption() {
        Some(Disruption::EtcdMember) => true,
        Some(Disruption::ApiServer) => false,
        Some(Disruption::Node) | None => return Ok(()),
    };
    let Some(cluster) = execution.cluster else { return Ok(()) };
    match predict(&vitals(cluster, cx).await, &id.host, etcd_goes).refused {
        Some(reason) => {
            let remedy = "mend that first, then run this again".to_owned();
            Err(StepError::Refused { reason, remedy })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
