//! What 5,000 nodes do to their apiservers when these are restarted, lost or added: a simulation with
//! the proxy's own balancer, health machine and lottery. `cargo bench --bench simulation`
//!
//! Writes a table and a chart to `target/simulation/`, and to `benches/results/` with `--save`. Fails
//! when a promise is broken.

#[path = "simulation/chart.rs"]
mod chart;
#[path = "shared/drawing.rs"]
mod drawing;
#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/report.rs"]
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, io};

use fleet::{Figures, Scenario, Settings, run};

const NODES: u32 = 5000;
const SEED: u64 = 1;

fn scenarios(servers: u32) -> [Scenario; 4] {
    let (short, long) = (Duration::from_secs(20), Duration::from_secs(70));
    let minute = Duration::from_mins(1);
    [
        Scenario::rolling_restart(servers, short, minute),
        Scenario::rolling_restart(servers, long, 2 * minute),
        Scenario::lost_for(servers, 60 * minute),
        Scenario::added(servers),
    ]
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is its output")]
fn main() -> io::Result<ExitCode> {
    let began = Instant::now();
    let settings = Settings::defaults();
    let simulate = |scenario: &Scenario| run(NODES, scenario, settings, SEED);
    let figures: Vec<Figures> =
        [3, 5].into_iter().flat_map(scenarios).map(|s| simulate(&s)).collect();
    println!("{}", report::text(&figures));
    println!("{NODES} nodes, simulated in {:.0?}", began.elapsed());

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("target/simulation")];
    if std::env::args().any(|argument| argument == "--save") {
        folders.push(root.join("benches/results"));
    }
    for folder in folders {
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("simulation.md"), report::markdown(&figures, &settings))?;
        fs::write(folder.join("simulation.svg"), chart::svg(&figures))?;
        println!("written to {}", folder.display());
    }
    let broken: Vec<String> = figures.iter().flat_map(Figures::broken_promises).collect();
    for promise in &broken {
        eprintln!("broken: {promise}");
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
