//! Who is ready, who runs and what became of each step: the decisions of a run, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Outcome, Summary};
use crate::bootstrap::engine::plan::State;
use crate::bootstrap::engine::{Event, Events, Graph, Lane, Plan, StepId};

pub(super) struct Book<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    parallel: usize,
    events: &'a Events,
    /// Who waits for each: those that need it and those that follow it.
    needed_by: Vec<Vec<usize>>,
    /// How many of those that each waits for are not over yet.
    open: Vec<usize>,
    /// Whom a step waits for besides, because it said so when its turn came.
    waits: Vec<Vec<usize>>,
    /// Something that it needs was applied: what was seen of it may not be so any more.
    touched: Vec<bool>,
    outcomes: Vec<Option<Outcome>>,
    ready: BTreeSet<usize>,
    running: BTreeSet<usize>,
    /// Hosts where a step is running.
    busy: BTreeSet<&'a str>,
    /// A step of the single lane is running.
    single: bool,
    /// How many steps of batches are running.
    batch: usize,
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
            waits: vec![Vec::new(); count],
            touched: vec![false; count],
            outcomes: vec![None; count],
            ready,
            running: BTreeSet::new(),
            busy: BTreeSet::new(),
            single: false,
            batch: 0,
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
                match self.plan.steps[at].lane {
                    Lane::Parallel => {}
                    Lane::Single => self.single = true,
                    Lane::Batch(_) => self.batch += 1,
                }
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
        // What can only be told after another is looked at when its turn comes, wherever it is.
        let to_be_seen = step.chosen || matches!(step.state, State::After(_));
        (!to_be_seen).then(|| Outcome::left_out(host))
    }

    fn is_so(&self, at: usize) -> bool {
        self.outcomes[at].as_ref().is_some_and(Outcome::is_so)
    }

    fn may_begin(&self, at: usize) -> bool {
        self.running.len() < self.parallel
            && !self.busy.contains(self.graph.id(at).host.as_str())
            && match self.plan.steps[at].lane {
                Lane::Parallel => true,
                Lane::Single => !self.single,
                Lane::Batch(most) => self.batch < most.max(1),
            }
    }

    /// A running step has ended.
    pub(super) fn end(&mut self, at: usize, outcome: Outcome, time: Duration) {
        self.make_way(at);
        // One that was left out is no fault of its host.
        if !outcome.is_so() && !matches!(outcome, Outcome::Skipped(_)) {
            self.faults.entry(self.graph.id(at).host.as_str()).or_insert(at);
        }
        self.enter(at, outcome, time);
    }

    /// A running step was not begun after all: its turn comes again when this other one is over. Not if
    /// that is over already, or would wait for this one.
    pub(super) fn wait(&mut self, at: usize, before: &StepId) -> bool {
        let Some(before) = self.graph.find(before) else { return false };
        if self.outcomes[before].is_some() || self.comes_after(before, at) {
            return false;
        }
        self.make_way(at);
        self.waits[at].push(before);
        self.needed_by[before].push(at);
        self.open[at] += 1;
        let (step, before) = (self.graph.id(at), self.graph.id(before));
        self.events.tell(Event::Waiting {
            host: step.host.clone(),
            step: step.name.clone(),
            before: before.to_string(),
        });
        true
    }

    /// Does a step wait for this one, or for one that does?
    fn comes_after(&self, at: usize, before: usize) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), vec![at]);
        while let Some(next) = open.pop() {
            if next == before {
                return true;
            }
            if seen.insert(next) && self.outcomes[next].is_none() {
                open.extend(self.graph.needs(next));
                open.extend(self.graph.follows(next));
                open.extend(&self.waits[next]);
            }
        }
        false
    }

    /// Others of its host and lane may run.
    fn make_way(&mut self, at: usize) {
        self.running.remove(&at);
        self.busy.remove(self.graph.id(at).host.as_str());
        match self.plan.steps[at].lane {
            Lane::Parallel => {}
            Lane::Single => self.single = false,
            Lane::Batch(_) => self.batch -= 1,
        }
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
