//! The fault lab: what clients notice when one of three servers, or all of them, fail in every way that
//! we know. Servers and the node are network namespaces, so it needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

#[path = "faults/case.rs"]
mod case;
#[path = "faults/cases.rs"]
mod cases;
mod common;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/server.rs"]
mod server;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use apiproxy::demo::Authority;

use case::{Case, Outcome};
use common::{has_program, report};
use lab::Lab;

/// Not a test: what the lab starts as its servers.
#[test]
fn server_process() {
    server::be_a_server();
}

#[test]
fn no_client_is_in_the_dark_for_long() {
    if !rustix::process::geteuid().is_root() {
        skip!("network namespaces need root");
    }
    if let Some(missing) = ["ip", "nft"].into_iter().find(|name| !has_program(name)) {
        skip!("there is no {missing}");
    }
    // A thread of its own: it moves to the node and does not come back.
    let faults = std::thread::spawn(play).join().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Plays all cases, or those whose names contain `FAULT_CASE`, as often as `FAULT_RUNS` says, and
/// returns what was wrong.
fn play() -> Vec<String> {
    let lab = Lab::new();
    lab.enter_node();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test").unwrap();
    case::prepare(&folder, &authority);
    let wanted = std::env::var("FAULT_CASE").unwrap_or_default();
    let runs = std::env::var("FAULT_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let mut faults = Vec::new();
    report(
        "fault | longest without an answer (bound; of it the machine) | ok, failed | resets | again",
    );
    for case in cases::CASES.iter().filter(|case| case.name.contains(&wanted)) {
        let mut outages = Vec::new();
        for _ in 0..runs {
            let played = catch_unwind(AssertUnwindSafe(|| case.run(&lab, &folder, &authority)));
            let Ok(outcome) = played else {
                report(&format!("{} | did not come to its end", case.name));
                faults.push(format!("{}: see above", case.name));
                continue;
            };
            tell(case, &outcome);
            outages.push(outcome.stats.longest_outage);
            faults.extend(case.faults(&outcome));
        }
        outages.sort_unstable();
        if let (Some(worst), true) = (outages.last(), runs > 1) {
            let median = outages[outages.len() / 2];
            report(&format!("{} | median {median:.2?}, worst {worst:.2?} of {runs}", case.name));
        }
    }
    faults
}

fn tell(case: &Case, outcome: &Outcome) {
    let Outcome { stats, pause, resets, again, .. } = outcome;
    let bound = match case.outage {
        Duration::MAX => "any".to_owned(),
        bound => format!("{:.2} s", bound.as_secs_f64()),
    };
    report(&format!(
        "{} | {:.2} s ({bound}; {:.2} s) | {}, {} | {resets} | {:.2} s",
        case.name,
        stats.longest_outage.as_secs_f64(),
        pause.as_secs_f64(),
        stats.ok,
        stats.failed,
        again.as_secs_f64()
    ));
}
