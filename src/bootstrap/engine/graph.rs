//! The steps of all hosts in an order in which each comes after what it needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Step, StepId};

/// Why steps make no graph. Each is a fault of ours, never of the user's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two steps have one name.
    #[error("two steps are called {0}")]
    Twice(StepId),
    /// A step needs one that is not there.
    #[error("{step} needs {need}, which is not there")]
    Unknown {
        /// The step.
        step: StepId,
        /// What it needs.
        need: StepId,
    },
    /// Steps need each other.
    #[error("steps need each other: {}", join(.0))]
    Cycle(Vec<StepId>),
}

fn join(ids: &[StepId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ")
}

/// Steps, each after what it needs.
#[derive(Debug)]
pub struct Graph {
    steps: Vec<Arc<dyn Step>>,
    ids: Vec<StepId>,
    /// What each needs, by index: always smaller ones.
    needs: Vec<Vec<usize>>,
    /// What each follows besides, by index: smaller ones too.
    follows: Vec<Vec<usize>>,
}

impl Graph {
    /// Puts steps in order; those that need nothing of each other stay in the order given.
    ///
    /// # Errors
    /// If two have one name, one needs an unknown one, or some need each other.
    pub fn new(steps: &[Arc<dyn Step>]) -> Result<Self, GraphError> {
        let ids: Vec<StepId> = steps.iter().map(|step| step.id()).collect();
        let mut index = HashMap::new();
        for (at, id) in ids.iter().enumerate() {
            if index.insert(id, at).is_some() {
                return Err(GraphError::Twice(id.clone()));
            }
        }
        let (mut needs, mut follows) = (Vec::new(), Vec::new());
        for (at, step) in steps.iter().enumerate() {
            let mut of_step = BTreeSet::new();
            for need in step.needs() {
                let Some(found) = index.get(&need) else {
                    return Err(GraphError::Unknown { step: ids[at].clone(), need });
                };
                of_step.insert(*found);
            }
            // What is not there has nothing to be waited for.
            let before = step.follows().into_iter().filter_map(|id| index.get(&id).copied());
            let before: BTreeSet<_> = before.filter(|found| !of_step.contains(found)).collect();
            follows.push(before.into_iter().collect::<Vec<_>>());
            needs.push(of_step.into_iter().collect::<Vec<_>>());
        }
        let both =
            needs.iter().zip(&follows).map(|(needs, follows)| [&needs[..], follows].concat());
        let order = order(&both.collect::<Vec<_>>()).map_err(|cycle| {
            GraphError::Cycle(cycle.into_iter().map(|at| ids[at].clone()).collect())
        })?;
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        let placed = |all: &[Vec<usize>]| {
            let placed = order.iter().map(|old| all[*old].iter().map(|at| place[*at]).collect());
            placed.collect()
        };
        Ok(Self {
            needs: placed(&needs),
            follows: placed(&follows),
            ids: order.iter().map(|old| ids[*old].clone()).collect(),
            steps: order.iter().map(|old| Arc::clone(&steps[*old])).collect(),
        })
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Is there nothing to do at all?
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A step by its place in the order.
    pub fn step(&self, at: usize) -> &Arc<dyn Step> {
        &self.steps[at]
    }

    /// The name of a step by its place in the order.
    pub fn id(&self, at: usize) -> &StepId {
        &self.ids[at]
    }

    /// The places of what a step needs itself.
    pub fn needs(&self, at: usize) -> &[usize] {
        &self.needs[at]
    }

    /// The places of what has to be over before a step, done or failed, besides what it needs.
    pub fn follows(&self, at: usize) -> &[usize] {
        &self.follows[at]
    }

    /// The place of a step.
    pub fn find(&self, id: &StepId) -> Option<usize> {
        self.ids.iter().position(|other| other == id)
    }

    /// The places of each host's steps, in order.
    pub fn by_host(&self) -> BTreeMap<&str, Vec<usize>> {
        let mut hosts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, id) in self.ids.iter().enumerate() {
            hosts.entry(&id.host).or_default().push(at);
        }
        hosts
    }

    /// The graph of these hosts' steps and of all that they need, wherever that is.
    #[must_use]
    pub fn of_hosts(&self, hosts: &BTreeSet<String>) -> Self {
        let mut wanted: Vec<bool> = self.ids.iter().map(|id| hosts.contains(&id.host)).collect();
        // What is needed comes before: from the end, one pass is enough.
        for at in (0..self.len()).rev() {
            if wanted[at] {
                for need in &self.needs[at] {
                    wanted[*need] = true;
                }
            }
        }
        let kept: Vec<usize> = (0..self.len()).filter(|at| wanted[*at]).collect();
        let place: HashMap<_, _> = kept.iter().enumerate().map(|(new, old)| (*old, new)).collect();
        Self {
            needs: kept
                .iter()
                .map(|at| self.needs[*at].iter().map(|n| place[n]).collect())
                .collect(),
            follows: kept
                .iter()
                .map(|at| self.follows[*at].iter().filter_map(|n| place.get(n).copied()).collect())
                .collect(),
            ids: kept.iter().map(|at| self.ids[*at].clone()).collect(),
            steps: kept.iter().map(|at| Arc::clone(&self.steps[*at])).collect(),
        }
    }
}

/// An order in which each comes after what it needs, the earliest first among those that could
/// come; or the members of a cycle, the first again at the end.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut needed_by = vec![Vec::new(); needs.len()];
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (at, of_step) in needs.iter().enumerate() {
        for need in of_step {
            needed_by[*need].push(at);
        }
    }
    let mut ready: BTreeSet<usize> = (0..needs.len()).filter(|at| open[*at] == 0).collect();
    let mut order = Vec::new();
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for next in &needed_by[at] {
            open[*next] -= 1;
            if open[*next] == 0 {
                ready.insert(*next);
            }
        }
    }
    if order.len() == needs.len() { Ok(order) } else { Err(cycle(needs, &open)) }
}

/// A cycle among those that still wait for something: each of them needs another of them.
fn cycle(needs: &[Vec<usize>], open: &[usize]) -> Vec<usize> {
    let waits = |at: &usize| open[*at] > 0;
    let mut path: Vec<usize> = (0..needs.len()).filter(waits).take(1).collect();
    while let Some(last) = path.last() {
        let Some(next) = needs[*last].iter().copied().find(waits) else { break };
        let seen = path.iter().position(|at| *at == next);
        path.push(next);
        if let Some(seen) = seen {
            return path.split_off(seen);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::engine::fake::Fake;

    fn ids(graph: &Graph) -> Vec<String> {
        (0..graph.len()).map(|at| graph.id(at).to_string()).collect()
    }

    fn graph(steps: &[(&str, &[&str])]) -> Result<Graph, GraphError> {
        Graph::new(
            &steps.iter().map(|(id, needs)| Fake::new(id).needs(needs).step()).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn each_comes_after_what_it_needs_and_else_as_given() {
        let graph = graph(&[("b/2", &["a/1"]), ("c/1", &[]), ("a/1", &[]), ("b/1", &["b/2"])]);
        assert_eq!(ids(&graph.unwrap()), ["c/1", "a/1", "b/2", "b/1"]);
    }

    #[test]
    fn what_makes_no_order_is_refused_with_the_names() {
        let error = |steps: &[(&str, &[&str])]| graph(steps).unwrap_err().to_string();
        assert_eq!(error(&[("a/1", &[]), ("a/1", &[])]), "two steps are called a/1");
        assert_eq!(error(&[("a/1", &["b/1"])]), "a/1 needs b/1, which is not there");
        assert_eq!(error(&[("a/1", &["a/1"])]), "steps need each other: a/1 -> a/1");
        let three =
            error(&[("x/0", &[]), ("a/1", &["c/1"]), ("b/1", &["a/1", "x/0"]), ("c/1", &["b/1"])]);
        assert_eq!(three, "steps need each other: a/1 -> c/1 -> b/1 -> a/1");
    }

    #[test]
    fn some_hosts_bring_along_what_they_need() {
        let all = graph(&[
            ("cp1/up", &[]),
            ("cp2/up", &["cp1/up"]),
            ("w1/proxy", &["cp1/up"]),
            ("w1/node", &["w1/proxy"]),
            ("w2/node", &["cp1/up"]),
        ])
        .unwrap();
        let some = all.of_hosts(&BTreeSet::from(["w1".to_owned()]));
        assert_eq!(ids(&some), ["cp1/up", "w1/proxy", "w1/node"]);
        assert_eq!((some.needs(1), some.needs(2)), (&[0][..], &[1][..]));
    }
}
