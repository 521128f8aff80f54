//! The proxy beside `HAProxy`, nginx and Envoy, in front of one and the same server.
//! `cargo bench --bench comparison`; `-- --help` tells its options.

mod args;
mod backend;
mod chart;
#[path = "../shared/drawing.rs"]
mod drawing;
mod install;
mod interrupt;
mod load;
mod peers;
mod procfs;
mod readme;
mod report;
mod scenarios;
mod tally;
mod veth;
mod wire;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use args::Options;
use backend::Backend;
use peers::Peer;
use report::Report;
use scenarios::{Context, Scenario, Size};
use tally::Tally;
use veth::Veth;

#[expect(clippy::print_stderr, reason = "errors go there")]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let served = match (arguments.next(), arguments.next().map(|address| address.parse())) {
        (Some(option), Some(Ok(address))) if option == backend::SERVE => backend::serve(address),
        _ => compare(&Options::parse()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            eprintln!("interrupted; all that was started is ended");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("comparison: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Finds the peers, runs all rounds, and writes the results.
#[expect(clippy::print_stdout, reason = "this is its output")]
fn compare(options: &Options) -> io::Result<()> {
    let scenarios = chosen(options)?;
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    let (peers, missing) = install::find(options)?;
    for fault in &missing {
        println!("goes on without {fault}");
    }
    interrupt::listen()?;
    let began = SystemTime::now();
    let veth = options.veth.then(Veth::new).transpose()?;
    let backend = Backend::start(veth.as_ref())?;
    if let Some(veth) = &veth {
        veth.enter_node()?;
    }
    let mut tally = Tally::default();
    let failed = rounds(options, &scenarios, &peers, &backend, &mut tally)?;
    drop((backend, veth));

    let faults = [&missing[..], &failed].concat();
    let report = Report { options, peers: &peers, faults: &faults, tally: &tally, began };
    println!("\n{}", report.tables());
    let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    let mut folders = vec![install::target_folder().join("comparison")];
    if options.save {
        folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results"));
    }
    for folder in folders {
        fs::create_dir_all(&folder)?;
        let file = |ending: &str| folder.join(format!("{}.{ending}", options.name()));
        fs::write(file("md"), report.markdown())?;
        fs::write(file("json"), report.json())?;
        fs::write(file("svg"), chart::svg(&tally, &names, &options.reference))?;
        println!("written to {}", file("md").display());
    }
    if options.save && options.name() == args::NAME {
        report.update(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    }
    match failed.len() {
        0 => Ok(()),
        count => Err(io::Error::other(format!("{count} runs failed, see above"))),
    }
}

/// The scenarios that were asked for.
fn chosen(options: &Options) -> io::Result<Vec<Scenario>> {
    let known = |name: &String| scenarios::ALL.iter().any(|scenario| scenario.name == *name);
    if let Some(name) = options.only.iter().find(|name| !known(name)) {
        let names = scenarios::ALL.map(|scenario| scenario.name).join(", ");
        return Err(io::Error::other(format!("no scenario `{name}`; there are {names}")));
    }
    let only = |scenario: &Scenario| options.only.iter().any(|name| name == scenario.name);
    let all = scenarios::ALL.into_iter();
    Ok(all.filter(|scenario| options.only.is_empty() || only(scenario)).collect())
}

/// Every scenario on every peer, in each round, and in words what failed. The peers take turns in
/// being the first.
#[expect(clippy::print_stdout, reason = "a long run shows how far it is")]
fn rounds(
    options: &Options,
    scenarios: &[Scenario],
    peers: &[Peer],
    backend: &Backend,
    tally: &mut Tally,
) -> io::Result<Vec<String>> {
    let mut failed = Vec::new();
    let size = if options.short { &Size::SHORT } else { &Size::FULL };
    for round in 1..=options.rounds() {
        for scenario in scenarios {
            println!("round {round} of {}: {}", options.rounds(), scenario.name);
            let first = (round - 1) as usize % peers.len().max(1);
            for peer in peers.iter().cycle().skip(first).take(peers.len()) {
                let running = peer.start(backend.address);
                let figures = running.and_then(|running| {
                    let context = Context { address: running.address, pids: &running.pids, size };
                    scenario.run(&context).map_err(|error| match error.kind() {
                        io::ErrorKind::Interrupted => error,
                        _ => io::Error::other(format!("{error}\n{}", running.log())),
                    })
                });
                match figures {
                    Ok(figures) => tally.add(scenario.name, &peer.name, round, figures),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                    Err(error) => {
                        let fault =
                            format!("{} in round {round} of {}: {error}", peer.name, scenario.name);
                        println!("{fault}");
                        failed.push(fault.trim().replace('\n', "; "));
                    }
                }
            }
        }
    }
    Ok(failed)
}
