//! A fleet of nodes on a virtual clock, with the proxy's own balancer, health machine and lottery.
//!
//! Nodes share nothing but the apiservers, whose fate is given. So each is simulated on its own from
//! beginning to end, and what they do is added up by the second.

mod figures;
mod node;
mod server;
mod tally;

use std::time::{Duration, Instant};

use apiproxy::config::{self, Connections, Overrides, Rebalance};
use apiproxy::health::Rules;

pub(crate) use figures::Figures;
pub(crate) use server::Scenario;
pub(crate) use tally::Tally;

use node::Node;

/// What the proxies of a fleet are configured with: the defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) rules: Rules,
    pub(crate) rebalance: Rebalance,
    pub(crate) connections: Connections,
}

impl Settings {
    /// What `apiproxy run` does without a configuration file.
    pub(crate) fn defaults() -> Self {
        let flags = Overrides {
            backends: vec!["10.0.0.1:6443".to_owned()],
            insecure_skip_verify: true,
            ..Overrides::default()
        };
        let config = config::load(None, &flags).expect("a backend is all that is needed");
        let config = &config.clusters[0];
        let check = &config.health_check;
        let rules = Rules {
            rise: check.rise,
            fall: check.fall,
            interval: check.interval,
            fast_interval: check.fast_interval,
        };
        Self { rules, rebalance: config.rebalance, connections: config.connections }
    }

    /// How long after the return of a server the load is to be even.
    pub(crate) fn time_to_even(&self) -> Duration {
        self.rebalance.after + self.rebalance.window
    }
}

/// What every node of a run lives in.
#[derive(Clone, Debug)]
struct World {
    settings: Settings,
    scenario: Scenario,
    /// The moment that virtual time counts from.
    base: Instant,
    ends: Duration,
}

/// Simulates a number of nodes; the same seed gives the same result.
pub(crate) fn run(nodes: u32, scenario: &Scenario, settings: Settings, seed: u64) -> Figures {
    // A little longer than the load has time to come back in.
    let ends = scenario.returns + settings.time_to_even() + Duration::from_mins(1);
    let scenario = scenario.clone();
    let world = World { settings, scenario, base: Instant::now(), ends };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let simulate = |thread: usize| {
        let mut tally = Tally::new(world.scenario.lives.len(), ends);
        for number in (0..nodes).skip(thread).step_by(threads) {
            let own =
                fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) ^ u64::from(number)).u64(..);
            Node::new(&world, own, &mut tally).live();
        }
        tally
    };
    let simulate = &simulate;
    let tally = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || simulate(thread))).collect();
        let tallies = running.into_iter().map(|thread| thread.join().expect("it does not panic"));
        tallies.reduce(|sum, tally| sum.merge(&tally)).expect("there is a thread")
    });
    Figures::new(nodes, &world.scenario, &settings, tally)
}
