//! What is so on the hosts, step by step, and what would be done.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::log::scope;
use super::{Change, Check, Context, Disruption, Event, Events, Graph, Lane, StepError, StepId};
use crate::bootstrap::transport::TransportError;

/// How many hosts are worked on at the same time unless the user says otherwise.
pub const PARALLEL: usize = 16;

/// What is known of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is as it should be.
    Done,
    /// It would be applied.
    Needed(Change),
    /// It is seen after this other step; most likely it would be applied then.
    After(StepId),
    /// It could not be looked at.
    Failed(StepError),
    /// It was not looked at, because its host could not be reached.
    Unknown,
}

impl State {
    /// The state in one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Needed(_) => "needed",
            Self::After(_) => "after",
            Self::Failed(_) => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A step of the plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name.
    pub id: StepId,
    /// What it does.
    pub title: String,
    /// Beside what it may run.
    pub lane: Lane,
    /// What is noticed meanwhile.
    pub disruption: Option<Disruption>,
    /// Would it be applied? Not if its host was left out by the user.
    pub chosen: bool,
    /// What is known of it.
    pub state: State,
}

/// All steps, in an order in which they could be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As in the graph.
    pub steps: Vec<Planned>,
}

impl Plan {
    /// The steps that would be applied.
    pub fn needed(&self) -> impl Iterator<Item = &Planned> {
        let open = |step: &&Planned| matches!(step.state, State::Needed(_) | State::After(_));
        self.steps.iter().filter(|step| step.chosen).filter(open)
    }

    /// The hosts that may be changed: those of steps that are not done, and of steps that need one
    /// of these. Hosts that could not be reached are left out.
    pub fn touched(&self, graph: &Graph) -> BTreeSet<String> {
        let mut open = vec![false; self.steps.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let stale = graph.needs(at).iter().any(|need| open[*need]);
            open[at] = step.chosen && (stale || step.state != State::Done);
        }
        let gone = self.gone();
        let hosts = self.steps.iter().zip(open).filter(|(_, open)| *open);
        let hosts = hosts.map(|(step, _)| step.id.host.clone());
        hosts.filter(|host| !gone.contains_key(host)).collect()
    }

    /// The hosts that could not be reached, each with the reason.
    pub fn gone(&self) -> BTreeMap<String, StepError> {
        let gone = self.faults().filter(|(step, error)| is_gone(error, &step.id.host));
        gone.map(|(step, error)| (step.id.host.clone(), error.clone())).collect()
    }

    /// The steps that could not be looked at, each with its reason.
    pub fn faults(&self) -> impl Iterator<Item = (&Planned, &StepError)> {
        self.steps.iter().filter_map(|step| match &step.state {
            State::Failed(error) => Some((step, error)),
            _ => None,
        })
    }

    /// Is everything as it should be, as far as the user asked?
    pub fn is_done(&self) -> bool {
        self.steps.iter().filter(|step| step.chosen).all(|step| step.state == State::Done)
    }
}

/// Looks at all steps: of a host one after the other, of so many hosts at the same time. Steps of
/// hosts that are not `chosen` are looked at too; all are chosen when there is no choice.
pub async fn observe(
    graph: &Graph,
    cx: &Context,
    chosen: Option<&BTreeSet<String>>,
    parallel: usize,
    events: &Events,
) -> Plan {
    let hosts = graph.by_host();
    let counts = hosts.iter().map(|(host, steps)| ((*host).to_owned(), steps.len()));
    events.tell(Event::Observing { hosts: counts.collect() });
    let of_hosts = hosts.into_values().map(|steps| look(graph, cx, steps, events));
    let found: Vec<_> = stream::iter(of_hosts).buffer_unordered(parallel.max(1)).collect().await;
    let mut found: BTreeMap<usize, State> = found.into_iter().flatten().collect();
    let planned = |at: usize| {
        let (step, id) = (graph.step(at), graph.id(at).clone());
        Planned {
            title: step.title(),
            lane: step.lane(),
            disruption: step.disruption(),
            chosen: chosen.is_none_or(|hosts| hosts.contains(&id.host)),
            state: found.remove(&at).unwrap_or(State::Unknown),
            id,
        }
    };
    Plan { steps: (0..graph.len()).map(planned).collect() }
}

/// Looks at the steps of one host.
async fn look(
    graph: &Graph,
    cx: &Context,
    steps: Vec<usize>,
    events: &Events,
) -> Vec<(usize, State)> {
    let mut found = Vec::new();
    let mut gone = false;
    for at in steps {
        let id = graph.id(at);
        let state = if gone {
            State::Unknown
        } else {
            match scope(id, graph.step(at).check(cx)).await {
                Ok(Check::Done) => State::Done,
                Ok(Check::Needed(change)) => State::Needed(change),
                Ok(Check::After(step)) => State::After(step),
                Err(error) => {
                    gone = is_gone(&error, &id.host);
                    State::Failed(error)
                }
            }
        };
        let (host, step) = (id.host.clone(), id.name.clone());
        events.tell(Event::Checked { host, step, state: state.word() });
        found.push((at, state));
    }
    found
}

/// Does it mean that nothing more can be learned from this host?
fn is_gone(error: &StepError, here: &str) -> bool {
    match error {
        StepError::Transport(
            TransportError::Unreachable { host, .. } | TransportError::Lost { host, .. },
        ) => host == here,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::bootstrap::engine::fake::{Fake, hosts, id};
    use crate::bootstrap::transport::File;

    #[tokio::test(start_paused = true)]
    async fn each_step_is_told_as_it_is() {
        let (machines, cx, _) = hosts(&["a", "b"]);
        machines[0].put(File::new("/done/1", ""));
        machines[1].die("no route");
        let steps = ["a/1", "a/2", "b/1", "b/2"].map(|name| Fake::new(name).step());
        let graph = Graph::new(&steps).unwrap();
        let plan = observe(&graph, &cx, None, PARALLEL, &Events::none()).await;
        let words: Vec<_> = plan.steps.iter().map(|step| step.state.word()).collect();
        assert_eq!(words, ["done", "needed", "failed", "unknown"]);
        assert_eq!(plan.needed().map(|step| &step.id).collect::<Vec<_>>(), [&id("a/2")]);
        assert_eq!(plan.faults().count(), 1);
        assert_eq!(plan.gone().into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(plan.touched(&graph), BTreeSet::from(["a".to_owned()]));
        assert!(!plan.is_done());
        // Looking changes nothing.
        assert_eq!(machines[0].ran("apply"), 0);
    }

    /// Work for so many workers of eight steps: commands, and the time on a clock that only checks
    /// move.
    async fn plan_for(count: usize, parallel: usize) -> (usize, usize, Duration) {
        let names: Vec<String> = (0..count).map(|n| format!("w{n}")).collect();
        let (machines, cx, meter) = hosts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let step = |name: &String, n: usize| Fake::new(&format!("{name}/{n}")).step();
        let steps = names.iter().flat_map(|name| (0..8).map(move |n| step(name, n)));
        let graph = Graph::new(&steps.collect::<Vec<_>>()).unwrap();
        let start = Instant::now();
        let plan = observe(&graph, &cx, None, parallel, &Events::none()).await;
        assert_eq!(plan.needed().count(), 8 * count);
        let commands = machines.iter().map(|machine| machine.calls().len()).sum();
        (commands, meter.most(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn fifty_workers_are_looked_at_sixteen_at_a_time_in_linear_work() {
        let real = std::time::Instant::now();
        let (commands, most, time) = plan_for(50, PARALLEL).await;
        assert!(real.elapsed() < Duration::from_secs(1), "{:?}", real.elapsed());
        assert_eq!((commands, most), (400, 16));
        // 8 checks of 10 ms on each, in four rounds of 16 hosts.
        assert_eq!(time, Duration::from_millis(4 * 80));
        assert_eq!(plan_for(100, PARALLEL).await.0, 800);
        assert_eq!(plan_for(9, 4).await.1, 4);
    }

    #[tokio::test]
    async fn hosts_that_were_left_out_are_looked_at_and_not_chosen() {
        let (_machines, cx, _) = hosts(&["a", "b"]);
        let steps = vec![Fake::new("a/1").step(), Fake::new("b/1").needs(&["a/1"]).step()];
        let chosen = BTreeSet::from(["b".to_owned()]);
        let graph = Graph::new(&steps).unwrap().of_hosts(&chosen);
        let plan = observe(&graph, &cx, Some(&chosen), PARALLEL, &Events::none()).await;
        assert_eq!(plan.steps.iter().map(|s| s.chosen).collect::<Vec<_>>(), [false, true]);
        assert_eq!(plan.touched(&graph), chosen);
    }
}
