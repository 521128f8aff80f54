//! A simulated fleet spreads its load, its reconnects and its probes as promised.

#[path = "../benches/simulation/fleet.rs"]
mod fleet;

use std::time::Duration;

use fleet::{Figures, Scenario, Settings, run};

const NODES: u32 = 1000;
const SEED: u64 = 1;

fn rolling_restart(servers: u32) -> Scenario {
    Scenario::rolling_restart(servers, Duration::from_secs(20), Duration::from_mins(1))
}

fn simulate(scenario: &Scenario) -> Figures {
    let figures = run(NODES, scenario, Settings::defaults(), SEED);
    let broken = figures.broken_promises();
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(figures.balance_at_return > 1.2, "{}: nothing had to move", scenario.name);
    assert!(figures.even_after.is_some(), "{}: never even", scenario.name);
    assert!(figures.balance.last().is_some_and(|ratio| *ratio < 1.1), "{}", scenario.name);
    let (probes, mean) = (figures.steady_probes_peak, figures.steady_probes);
    assert!(f64::from(probes) < 2.0 * mean, "{}: {probes} probes in a second", scenario.name);
    let probes = figures.fault_probes_peak;
    assert!(probes <= 3 * NODES, "{}: {probes} probes of one server in a second", scenario.name);
    figures
}

#[test]
fn after_a_rolling_restart_the_load_is_even_and_came_back_without_a_rush() {
    let cut = simulate(&rolling_restart(3)).cut_peak;
    simulate(&rolling_restart(5));
    let (delay, apart) = (Duration::from_secs(70), Duration::from_mins(2));
    let drained = simulate(&Scenario::rolling_restart(3, delay, apart)).cut_peak;
    assert!(drained * 10 < cut, "a delay longer than drainTimeout leaves little to cut: {drained}");
}

#[test]
fn an_added_server_gets_its_share() {
    simulate(&Scenario::added(3));
    simulate(&Scenario::added(5));
}

#[test]
fn the_clients_of_a_lost_server_are_back_at_once_and_it_gets_its_share_later() {
    let figures = simulate(&Scenario::lost_for(3, Duration::from_mins(10)));
    let second = usize::try_from(figures.scenario.begins.as_secs()).unwrap() + 2;
    let open: Vec<i32> = figures.tally.connections().iter().map(|open| open[second]).collect();
    assert_eq!(open[0], 0);
    assert_eq!(open.iter().sum::<i32>(), figures.connections, "two seconds later all are back");
}

#[test]
fn fifty_nodes_are_within_a_quarter_of_even() {
    for seed in 0..8 {
        let figures = run(50, &Scenario::added(3), Settings::defaults(), seed);
        let balance = figures.balance_in_time;
        assert!(balance <= 1.25, "seed {seed}: {balance:.3}");
    }
}

/// The simulation repeats what happens around sockets; it must not part with it.
#[test]
fn the_constants_are_the_proxys() {
    let copy = include_str!("../benches/simulation/node/watch.rs");
    let original = include_str!("../src/health/supervisor.rs");
    for name in ["JITTER", "HURRY"] {
        let value = |source: &str| {
            let (_, rest) = source.split_once(&format!("const {name}: ")).expect(name);
            rest.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(value(copy), value(original), "{name}");
    }
}
