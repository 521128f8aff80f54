//! The fault lab: what clients notice when one of three servers, or all of them, fail in every way that
//! we know. Servers and the node are network namespaces, so it needs root.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

#[path = "kubernetes/binaries.rs"]
mod binaries;
#[path = "faults/case.rs"]
mod case;
#[path = "faults/cases.rs"]
mod cases;
#[path = "faults/cast.rs"]
mod cast;
mod common;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/server.rs"]
mod server;
#[path = "faults/table.rs"]
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use case::{Case, Outcome};
use cast::Cast;
use common::{has_program, report};
use lab::Lab;
use table::Table;

/// One lab at a time: the machine has only so many cores.
static LAB: Mutex<()> = Mutex::new(());

/// Leaves the test when there can be no lab.
macro_rules! need_a_lab {
    () => {
        if !rustix::process::geteuid().is_root() {
            skip!("network namespaces need root");
        }
        if let Some(missing) = ["ip", "nft"].into_iter().find(|name| !has_program(name)) {
            skip!("there is no {missing}");
        }
    };
}

/// Not a test: what the lab starts as its servers.
#[test]
fn server_process() {
    server::be_a_server();
}

#[test]
fn no_client_is_in_the_dark_for_long() {
    need_a_lab!();
    play("The project's own apiservers", cases::CASES, Cast::own);
}

#[test]
fn no_client_of_real_kube_apiservers_is_in_the_dark_for_long() {
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") else {
        skip!("KUBEBUILDER_ASSETS is not set");
    };
    need_a_lab!();
    let cast = move || Cast::real(Path::new(&assets));
    play("Real kube-apiservers", cases::REAL_CASES, cast);
}

/// Plays all cases, or those whose names contain one of the words of `FAULT_CASE` (separated by
/// commas), as often as `FAULT_RUNS` says, and writes what came of it to the file `FAULT_TABLE`.
fn play(title: &'static str, cases: &'static [Case], cast: impl FnOnce() -> Cast + Send + 'static) {
    let _lab = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    // A thread of its own: it moves to the node and does not come back.
    let faults = std::thread::spawn(move || play_here(title, cases, cast)).join().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn play_here(title: &'static str, cases: &[Case], cast: impl FnOnce() -> Cast) -> Vec<String> {
    let lab = Lab::new();
    lab.enter_node();
    let cast = cast();
    let wanted = std::env::var("FAULT_CASE").unwrap_or_default();
    let is_wanted = |case: &&Case| wanted.split(',').any(|word| case.name.contains(word.trim()));
    let runs = std::env::var("FAULT_RUNS").map_or(1, |runs| runs.parse().unwrap());
    let mut faults = Vec::new();
    let mut table = Table::new(title, runs);
    report(
        "fault | longest without an answer (bound; of it the machine) | ok, failed | resets | again",
    );
    for case in cases.iter().filter(is_wanted) {
        let mut outcomes = Vec::new();
        for _ in 0..runs {
            let played = catch_unwind(AssertUnwindSafe(|| case.run(&lab, &cast)));
            let Ok(outcome) = played else {
                report(&format!("{} | did not come to its end", case.name));
                faults.push(format!("{}: see above", case.name));
                continue;
            };
            tell(case, &outcome);
            faults.extend(case.faults(&outcome));
            outcomes.push(outcome);
        }
        table.add(case, &outcomes);
    }
    if runs > 1 {
        report(&format!("{title}\n{}", table.text()));
    }
    if let Some(file) = std::env::var_os("FAULT_TABLE") {
        table.save(Path::new(&file)).unwrap();
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
