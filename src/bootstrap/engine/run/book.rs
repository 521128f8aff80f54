//! Who is ready, who runs and what became of each step: the decisions of a run, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Outcome, Summary};
use crate::bootstrap::engine::plan::State;
use crate::bootstrap::engine::{Event, Events, Graph, Lane, Plan};

pub(super) struct Book<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    parallel: usize,
    events: &'a Events,
    /// Who waits for each: those that need it and those that follow it.
    needed_by: Vec<Vec<usize>>,
    /// How many of those that each waits for are not over yet.
    open: Vec<usize>,
    /// Something that it needs was applied: what was seen of it may not be so any more.
    touched: Vec<bool>,
    outcomes: Vec<Option<Outcome>>,
    ready: BTreeSet<usize>,
    running: BTreeSet<usize>,
    /// Hosts where a step is running.
    busy: BTreeSet<&'a str>,
    /// A step of the single lane is running.
    single: bool,
    /// The first step that failed on a host.
    faults: BTreeMap<&'a str, usize>,
}

impl<'a> Book<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        plan: &'a Plan,
        parallel: usize,
        events: &'a Events,
    ) -> Self {
        let count = graph.len();
        let mut needed_by = vec![Vec::new(); count];
        for at in 0..count {
            for before in graph.needs(at).iter().chain(graph.follows(at)) {
                needed_by[*before].push(at);
            }
        }
        let open = |at| graph.needs(at).len() + graph.follows(at).len();
        let open: Vec<usize> = (0..count).map(open).collect();
        let ready = (0..count).filter(|at| open[*at] == 0).collect();
        Self {
            graph,
            plan,
            parallel: parallel.max(1),
            events,
            needed_by,
            open,
            touched: vec![false; count],
            outcomes: vec![None; count],
            ready,
            running: BTreeSet::new(),
            busy: BTreeSet::new(),
            single: false,
            faults: BTreeMap::new(),
        }
    }

    /// How many steps are running.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// The next step that may be begun now; it counts as running from now on.
    pub(super) fn next(&mut self) -> Option<usize> {
        loop {
            let (at, settled) = self.ready.iter().find_map(|at| match self.settle(*at) {
                Some(outcome) => Some((*at, Some(outcome))),
                None => self.may_begin(*at).then_some((*at, None)),
            })?;
            self.ready.remove(&at);
            let Some(outcome) = settled else {
                self.running.insert(at);
                self.busy.insert(&self.graph.id(at).host);
                self.single |= self.plan.steps[at].lane == Lane::Single;
                return Some(at);
            };
            self.enter(at, outcome, Duration::ZERO);
        }
    }

    /// What becomes of a ready step without doing anything.
    fn settle(&self, at: usize) -> Option<Outcome> {
        let step = &self.plan.steps[at];
        let host = &step.id.host;
        if let Some(need) = self.graph.needs(at).iter().find(|need| !self.is_so(**need)) {
            let why = self.outcomes[*need].as_ref().map_or("not done", Outcome::word);
            return Some(Outcome::Skipped(format!(
                "it needs {}, which is {why}",
                self.graph.id(*need)
            )));
        }
        if let Some(fault) = self.faults.get(host.as_str()) {
            return Some(Outcome::Skipped(format!("{} has failed", self.graph.id(*fault))));
        }
        if step.state == State::Done && (!self.touched[at] || !step.chosen) {
            return Some(Outcome::Unchanged);
        }
        let left_out = || Outcome::Skipped(format!("it is not done, and --host leaves {host} out"));
        (!step.chosen).then(left_out)
    }

    fn is_so(&self, at: usize) -> bool {
        self.outcomes[at].as_ref().is_some_and(Outcome::is_so)
    }

    fn may_begin(&self, at: usize) -> bool {
        self.running.len() < self.parallel
            && !self.busy.contains(self.graph.id(at).host.as_str())
            && !(self.single && self.plan.steps[at].lane == Lane::Single)
    }

    /// A running step has ended.
    pub(super) fn end(&mut self, at: usize, outcome: Outcome, time: Duration) {
        let host = self.graph.id(at).host.as_str();
        self.running.remove(&at);
        self.busy.remove(host);
        if self.plan.steps[at].lane == Lane::Single {
            self.single = false;
        }
        if !outcome.is_so() {
            self.faults.entry(host).or_insert(at);
        }
        self.enter(at, outcome, time);
    }

    fn enter(&mut self, at: usize, outcome: Outcome, time: Duration) {
        let touched = outcome == Outcome::Applied || self.touched[at];
        for next in &self.needed_by[at] {
            self.touched[*next] |= touched;
            self.open[*next] -= 1;
            if self.open[*next] == 0 {
                self.ready.insert(*next);
            }
        }
        let step = &self.plan.steps[at];
        // Of what was so from the start nobody wants to hear.
        if !(outcome == Outcome::Unchanged && step.state == State::Done) {
            self.events.tell(Event::Ended {
                host: step.id.host.clone(),
                step: step.id.name.clone(),
                outcome: outcome.word(),
                why: outcome.why(),
                seconds: time,
            });
        }
        self.outcomes[at] = Some(outcome);
    }

    /// The end: what still runs was killed, what waits was not begun.
    pub(super) fn close(mut self, time: Duration) -> Summary {
        for at in std::mem::take(&mut self.running) {
            self.enter(at, Outcome::Interrupted, Duration::ZERO);
        }
        for at in 0..self.graph.len() {
            if self.outcomes[at].is_none() {
                let step = &self.plan.steps[at];
                let outcome = if step.state == State::Done && !self.touched[at] {
                    Outcome::Unchanged
                } else {
                    Outcome::Skipped("the run was stopped before it".to_owned())
                };
                self.enter(at, outcome, Duration::ZERO);
            }
        }
        let outcomes = self.outcomes.into_iter().enumerate();
        let named =
            outcomes.filter_map(|(at, outcome)| Some((self.graph.id(at).clone(), outcome?)));
        Summary { steps: named.collect(), time }
    }
}
