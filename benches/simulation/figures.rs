//! The figures of a run, and whether they are good enough.

use std::ops::Range;
use std::time::Duration;

use super::Settings;
use super::server::{Scenario, Truth};
use super::tally::{Tally, second};

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) nodes: u32,
    pub(crate) scenario: Scenario,
    pub(crate) tally: Tally,
    pub(crate) connections: i32,
    /// The busiest server's connections over the mean of all, by second; of the ready ones only
    /// while one is not.
    pub(crate) balance: Vec<f64>,
    /// The same when the last server has just returned.
    pub(crate) balance_at_return: f64,
    /// The same when `after` and `window` are over.
    pub(crate) balance_in_time: f64,
    /// Seconds from the last return until no server carries more than 1.1 times the mean.
    pub(crate) even_after: Option<usize>,
    /// While the load comes back after the last return: reconnects in the busiest second ...
    pub(crate) return_peak: u32,
    /// ... and in a second on average, at the server with the most.
    pub(crate) return_mean: f64,
    /// The most reconnects of a server in a second before that: connections that were cut.
    pub(crate) cut_peak: u32,
    /// Probes in a second while all is well: on average, and in the busiest one.
    pub(crate) steady_probes: f64,
    pub(crate) steady_probes_peak: u32,
    /// Probes in the busiest second of the fault.
    pub(crate) fault_probes_peak: u32,
}

/// The nodes that at most 600 probes a second are promised for; fewer probe less.
const PROMISED_FOR: f64 = 5000.0;

/// How long before the fault the steady state is measured.
const STEADY: Duration = Duration::from_mins(2);

impl Figures {
    pub(super) fn new(nodes: u32, scenario: &Scenario, settings: &Settings, tally: Tally) -> Self {
        let Scenario { begins, returns, .. } = *scenario;
        let in_time = second(returns + settings.time_to_even());
        let steady = second(begins.saturating_sub(STEADY))..second(begins);
        let back = second(returns)..in_time;
        let open = tally.connections();
        let seconds = open[0].len();
        let balance: Vec<f64> = (0..seconds).map(|at| balance(scenario, &open, at)).collect();
        let dials =
            |range: Range<usize>| tally.servers.iter().map(move |s| &s.dials[range.clone()]);
        let probes =
            |range: Range<usize>| tally.servers.iter().map(move |s| &s.probes[range.clone()]);
        let peak = |counts: &[u32]| counts.iter().max().copied().unwrap_or(0);
        let busiest = dials(back.clone()).max_by_key(|dials| dials.iter().sum::<u32>());
        let busiest = busiest.expect("there is a server");
        // A server that is dead so far is probed less: it counts with what it comes to.
        let mean = |counts: &[u32]| f64::from(counts.iter().sum::<u32>()) / float(counts.len());
        Self {
            nodes,
            connections: open.iter().map(|open| open[seconds - 1]).sum(),
            balance_at_return: balance[back.start],
            balance_in_time: balance[in_time],
            even_after: balance[back.start..].iter().position(|ratio| *ratio <= 1.1),
            return_peak: peak(busiest),
            return_mean: f64::from(busiest.iter().sum::<u32>())
                / settings.rebalance.window.as_secs_f64(),
            cut_peak: dials(steady.end..back.start).map(peak).max().unwrap_or(0),
            steady_probes: probes(steady.clone()).map(mean).fold(0.0, f64::max),
            steady_probes_peak: probes(steady.clone()).map(peak).max().unwrap_or(0),
            fault_probes_peak: probes(steady.end..seconds).map(peak).max().unwrap_or(0),
            balance,
            scenario: scenario.clone(),
            tally,
        }
    }

    /// The busiest second of the load's return over the mean.
    pub(crate) fn peak_over_mean(&self) -> f64 {
        f64::from(self.return_peak) / self.return_mean
    }

    /// What is not as it must be, in words.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let promises = [
            (
                self.steady_probes * PROMISED_FOR > 600.0 * f64::from(self.nodes),
                format!("{:.0} steady probes a second", self.steady_probes),
            ),
            (
                self.balance_in_time > 1.25,
                format!("balance {:.3} when the window is over", self.balance_in_time),
            ),
            (
                self.peak_over_mean() > 3.0,
                format!("busiest second {:.1} times the mean", self.peak_over_mean()),
            ),
        ];
        let broken = promises.into_iter().filter(|(broken, _)| *broken);
        broken.map(|(_, text)| format!("{}: {text}", self.scenario.name)).collect()
    }
}

/// The busiest server's connections over the mean of the servers that are ready.
fn balance(scenario: &Scenario, open: &[Vec<i32>], at: usize) -> f64 {
    let moment = Duration::from_secs(at as u64);
    let ready = scenario.lives.iter().zip(open);
    let ready = ready.filter(|(life, _)| life.at(moment) == Truth::Ready);
    let open: Vec<f64> = ready.map(|(_, open)| f64::from(open[at])).collect();
    let mean = open.iter().sum::<f64>() / float(open.len());
    open.iter().copied().fold(0.0, f64::max) / mean.max(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(number: usize) -> f64 {
    number as f64
}
