//! Order, lanes, isolation of faults, resumption and interruption, on hosts that are not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::bootstrap::engine::fake::{Fake, hosts, id};
use crate::bootstrap::engine::{PARALLEL, Stopper, observe};
use crate::bootstrap::transport::recording::{Answer, Asked, Recording};
use crate::bootstrap::transport::{File, TransportError};

const NOBODY: &(dyn Fn(&str) -> Option<StepError> + Sync) = &|_| None;

fn execution(parallel: usize) -> Execution<'static> {
    let (events, stop) = (Events::none(), Stop::never());
    Execution { parallel, cluster: None, barred: NOBODY, events, stop }
}

async fn apply_with(graph: &Graph, cx: &Context, execution: &Execution<'_>) -> Summary {
    let plan = observe(graph, cx, None, PARALLEL, &Events::none()).await;
    execute(graph, &plan, cx, execution).await
}

async fn apply_all(graph: &Graph, cx: &Context) -> Summary {
    apply_with(graph, cx, &execution(PARALLEL)).await
}

fn graph(steps: Vec<Fake>) -> Graph {
    Graph::new(&steps.into_iter().map(Fake::step).collect::<Vec<_>>()).unwrap()
}

fn words(summary: &Summary) -> Vec<&'static str> {
    summary.steps.iter().map(|(_, outcome)| outcome.word()).collect()
}

fn why(summary: &Summary, step: &str) -> String {
    let found = summary.steps.iter().find(|(name, _)| *name == id(step)).unwrap();
    found.1.why().unwrap_or_default()
}

/// When each step was applied: from and to, by its name.
fn spans(machines: &[Arc<Recording>]) -> BTreeMap<String, (Instant, Option<Instant>)> {
    let mut spans = BTreeMap::new();
    for machine in machines {
        for call in machine.calls() {
            let Asked::Run(command) = &call.asked else { continue };
            if command.argv[0] == "apply" {
                let name = format!("{}/{}", machine_name(machine), command.argv[1]);
                assert!(spans.insert(name.clone(), (call.began, call.ended)).is_none(), "{name}");
            }
        }
    }
    spans
}

fn machine_name(machine: &Arc<Recording>) -> &str {
    crate::bootstrap::transport::Transport::host(machine.as_ref())
}

/// The answer of an `apply` that does what it should.
fn done(name: &str) -> Answer {
    let path = format!("/done/{name}");
    Answer::ok("").then(move |host, _| {
        host.put(File::new(path.clone(), ""));
    })
}

fn apart(one: (Instant, Option<Instant>), other: (Instant, Option<Instant>)) -> bool {
    one.1.unwrap() <= other.0 || other.1.unwrap() <= one.0
}

#[tokio::test(start_paused = true)]
async fn steps_come_after_what_they_need_and_single_ones_alone() {
    let (machines, cx, _) = hosts(&["cp1", "cp2", "w1", "w2"]);
    let graph = graph(vec![
        Fake::new("cp1/up").single(),
        Fake::new("cp2/up").single(),
        Fake::new("w1/node").needs(&["cp1/up"]),
        Fake::new("w2/node").needs(&["cp1/up"]),
    ]);
    let summary = apply_all(&graph, &cx).await;
    assert!(summary.is_done());
    assert_eq!(summary.count("applied"), 4);
    let spans = spans(&machines);
    assert!(apart(spans["cp1/up"], spans["cp2/up"]));
    assert!(spans["w1/node"].0 >= spans["cp1/up"].1.unwrap());
    // The workers work beside each other, and beside the second control plane.
    assert!(!apart(spans["w1/node"], spans["w2/node"]));
    assert!(!apart(spans["w1/node"], spans["cp2/up"]));
}

#[tokio::test(start_paused = true)]
async fn no_more_of_a_batch_are_begun_than_it_says() {
    for most in [1, 2] {
        let names = ["w1", "w2", "w3", "w4"];
        let (_machines, cx, _) = hosts(&names);
        let steps = names.map(|name| Fake::new(&format!("{name}/up")).batch(most));
        let graph = graph(steps.into());
        let plan = observe(&graph, &cx, None, PARALLEL, &Events::none()).await;
        let (events, mut heard) = Events::channel();
        let telling = Execution { events, ..execution(PARALLEL) };
        let summary = execute(&graph, &plan, &cx, &telling).await;
        assert_eq!(summary.count("applied"), 4);
        drop(telling);
        let (mut now, mut at_once) = (0_usize, 0);
        while let Some(event) = heard.recv().await {
            match event {
                Event::Started { .. } => now += 1,
                Event::Ended { .. } => now -= 1,
                _ => {}
            }
            at_once = at_once.max(now);
        }
        // What is told as begun is begun. Before, all of them were looked at, each at the same time.
        assert_eq!(at_once, most);
        assert_eq!(summary.time, Duration::from_millis(4 / most as u64 * 1_020));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_stops_its_host_and_who_needs_it_and_nobody_else() {
    let (machines, cx, _) = hosts(&["a", "b", "c"]);
    machines[0].on(["apply", "1"], Answer::fails(1, "no such package"));
    let graph = graph(vec![
        Fake::new("a/1"),
        Fake::new("a/2"),
        Fake::new("b/1"),
        Fake::new("b/2").needs(&["a/1"]),
        Fake::new("b/3").needs(&["b/2"]),
        Fake::new("c/1").needs(&["b/1"]),
    ]);
    let summary = apply_all(&graph, &cx).await;
    assert_eq!(words(&summary), ["failed", "skipped", "applied", "skipped", "skipped", "applied"]);
    assert_eq!(why(&summary, "a/1"), "a: `apply 1` failed with exit code 1: no such package");
    assert_eq!(why(&summary, "a/2"), "a/1 has failed");
    assert_eq!(why(&summary, "b/2"), "it needs a/1, which is failed");
    assert_eq!(why(&summary, "b/3"), "it needs b/2, which is skipped");

    // When the cause is gone, another run does the rest and only that.
    machines[0].on(["apply", "1"], done("1"));
    for machine in &machines {
        machine.forget();
    }
    let again = apply_all(&graph, &cx).await;
    assert!(again.is_done(), "{again:?}");
    assert_eq!(again.count("applied"), 4);
    let third = apply_all(&graph, &cx).await;
    assert_eq!(third.count("unchanged"), 6);
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_and_is_not_so_has_failed() {
    let (machines, cx, _) = hosts(&["a"]);
    machines[0].on(["apply", "1"], Answer::ok(""));
    let summary = apply_all(&graph(vec![Fake::new("a/1")]), &cx).await;
    assert_eq!(why(&summary, "a/1"), "1 is not there");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_dies_in_the_middle_costs_nobody_else() {
    let (machines, cx, _) = hosts(&["a", "b"]);
    machines[0].on(["apply", "2"], Answer::dies().after(Duration::from_secs(2)));
    let steps = ["a/1", "a/2", "a/3", "b/1", "b/2"].map(Fake::new);
    let graph = graph(steps.to_vec());
    let summary = apply_all(&graph, &cx).await;
    assert_eq!(words(&summary), ["applied", "failed", "skipped", "applied", "applied"]);
    machines[0].revive();
    machines[0].on(["apply", "2"], done("2"));
    let again = apply_all(&graph, &cx).await;
    assert_eq!(words(&again), ["unchanged", "applied", "applied", "unchanged", "unchanged"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_looked_at_again_when_its_ground_has_changed() {
    let (machines, cx, _) = hosts(&["a", "b"]);
    machines[0].put(File::new("/done/2", ""));
    machines[1].put(File::new("/done/1", ""));
    let steps = vec![Fake::new("a/1"), Fake::new("a/2").needs(&["a/1"]), Fake::new("b/1")];
    let summary = apply_all(&graph(steps), &cx).await;
    assert_eq!(words(&summary), ["applied", "unchanged", "unchanged"]);
    assert_eq!((machines[0].ran("check 2"), machines[1].ran("check 1")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_can_be_told_after_another_waits_for_it() {
    let (machines, cx, _) = hosts(&["a", "b", "c"]);
    let steps = || {
        vec![
            // Its turn would come first.
            Fake::new("a/up").single().told_after("b/up"),
            Fake::new("a/more").needs(&["a/up"]),
            Fake::new("b/up").single(),
            Fake::new("c/up").single(),
        ]
    };
    let summary = apply_all(&graph(steps()), &cx).await;
    assert_eq!(summary.count("applied"), 4, "{summary:?}");
    let spans = spans(&machines);
    assert!(spans["a/up"].0 >= spans["b/up"].1.unwrap());
    assert_eq!(apply_all(&graph(steps()), &cx).await.count("unchanged"), 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_failed_or_waits_itself() {
    let (machines, cx, _) = hosts(&["a", "b"]);
    machines[1].on(["apply", "up"], Answer::fails(1, "no"));
    let after = |name: &str, other: &str| Fake::new(name).single().told_after(other);
    let summary = apply_all(&graph(vec![after("a/up", "b/up"), Fake::new("b/up")]), &cx).await;
    assert_eq!(words(&summary), ["failed", "failed"]);
    assert_eq!(why(&summary, "a/up"), "b/up was not done");

    let circle = vec![after("a/1", "b/1"), after("b/1", "a/1")];
    let summary = apply_all(&graph(circle), &cx).await;
    assert_eq!(summary.steps.len(), 2);
    assert!(machines.iter().any(|machine| machine.ran("apply 1") == 1), "{summary:?}");
}

#[tokio::test(start_paused = true)]
async fn fifty_workers_are_worked_on_sixteen_at_a_time() {
    let names: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
    let (_machines, cx, meter) = hosts(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let steps = names.iter().flat_map(|name| [1, 2].map(|n| Fake::new(&format!("{name}/{n}"))));
    let summary = apply_all(&graph(steps.collect()), &cx).await;
    assert_eq!((summary.count("applied"), meter.most()), (100, 16));
    // A host that was begun is finished before another is begun: 50 hosts of two steps of 1.02 s,
    // 16 at once, are four rounds.
    assert_eq!(summary.time, Duration::from_millis(4 * 2 * 1_020));
}

#[tokio::test(start_paused = true)]
async fn the_first_interrupt_lets_running_steps_end_and_the_second_kills_them() {
    let (machines, cx, _) = hosts(&["a", "b"]);
    machines[1].on(["apply"], Answer::ok("").after(Duration::from_mins(1)));
    let graph = graph(["a/1", "a/2", "b/1", "b/2"].map(Fake::new).to_vec());
    let (stopper, stop) = Stopper::new();
    let (events, mut heard) = Events::channel();
    let execution = Execution { events, stop, ..execution(PARALLEL) };
    let press = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(stopper.press(), Level::Finish);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stopper.press(), Level::Kill);
    };
    let (summary, ()) = tokio::join!(apply_with(&graph, &cx, &execution), press);
    assert_eq!(words(&summary), ["applied", "skipped", "interrupted", "skipped"]);
    assert_eq!(why(&summary, "a/2"), "the run was stopped before it");
    // It was ended by the kill, not by itself.
    assert_eq!(spans(&machines)["b/1"].1, None);
    drop(execution);
    let mut told = Vec::new();
    while let Some(event) = heard.recv().await {
        told.push(event);
    }
    assert!(told.contains(&Event::Stopping { running: 2 }), "{told:?}");
    assert!(told.contains(&Event::Killing { running: 1 }), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_lock_was_lost_is_left_alone() {
    let (machines, cx, _) = hosts(&["a", "b"]);
    let barred =
        |host: &str| (host == "a").then(|| StepError::Unverified("the lock was lost".to_owned()));
    let execution = Execution { barred: &barred, ..execution(PARALLEL) };
    let graph = graph(["a/1", "b/1"].map(Fake::new).to_vec());
    let summary = apply_with(&graph, &cx, &execution).await;
    assert_eq!(words(&summary), ["failed", "applied"]);
    assert_eq!(machines[0].ran("apply"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_left_out_is_not_touched() {
    let (machines, cx, _) = hosts(&["a", "b", "c"]);
    machines[2].put(File::new("/done/1", ""));
    let steps = vec![
        Fake::new("a/1"),
        Fake::new("c/1"),
        Fake::new("b/1").needs(&["c/1"]),
        Fake::new("b/2").needs(&["a/1"]),
    ];
    let chosen = BTreeSet::from(["b".to_owned()]);
    let graph = graph(steps).of_hosts(&chosen);
    let plan = observe(&graph, &cx, Some(&chosen), PARALLEL, &Events::none()).await;
    let summary = execute(&graph, &plan, &cx, &execution(PARALLEL)).await;
    assert_eq!(words(&summary), ["skipped", "unchanged", "applied", "skipped"]);
    assert_eq!(why(&summary, "a/1"), "it is not done, and --host leaves a out");
    assert_eq!(machines[0].ran("apply"), 0);
}

/// Steps on a few hosts, each needing some before it, some single, some that fail.
fn plans() -> impl Strategy<Value = Vec<(usize, Vec<prop::sample::Index>, bool, bool)>> {
    let needs = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    prop::collection::vec((0_usize..6, needs, any::<bool>(), prop::bool::weighted(0.1)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_step_comes_before_its_needs_or_twice(steps in plans(), parallel in 1_usize..8) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let names = ["h0", "h1", "h2", "h3", "h4", "h5"];
            let (machines, cx, meter) = hosts(&names);
            let name = |at: usize| format!("h{}/{at}", steps[at].0);
            let mut fakes = Vec::new();
            let mut needs = BTreeMap::new();
            for (at, (host, needed, single, fails)) in steps.iter().enumerate() {
                let of_step: BTreeSet<String> = match at {
                    0 => BTreeSet::new(),
                    _ => needed.iter().map(|need| name(need.index(at))).collect(),
                };
                let wanted: Vec<&str> = of_step.iter().map(String::as_str).collect();
                let fake = Fake::new(&name(at)).needs(&wanted);
                fakes.push(if *single { fake.single() } else { fake });
                if *fails {
                    machines[*host].on(["apply", &at.to_string()], Answer::fails(1, "no"));
                }
                needs.insert(name(at), of_step);
            }
            // Given backwards: the order has to come from the needs.
            fakes.reverse();
            let summary = apply_with(&graph(fakes), &cx, &execution(parallel)).await;
            // This also asserts that each is applied once at most.
            let spans = spans(&machines);
            let outcome: BTreeMap<String, &Outcome> =
                summary.steps.iter().map(|(id, outcome)| (id.to_string(), outcome)).collect();
            assert_eq!(outcome.len(), steps.len());
            for (step, of_step) in &needs {
                if let Some((began, _)) = spans.get(step) {
                    for need in of_step {
                        assert!(spans[need].1.unwrap() <= *began, "{step} before {need}");
                        assert!(outcome[need].is_so(), "{step} without {need}");
                    }
                }
                let all_so = of_step.iter().all(|need| outcome[need].is_so());
                assert!(all_so || matches!(outcome[step], Outcome::Skipped(_)), "{step}");
            }
            let single = (0..steps.len()).filter(|at| steps[*at].2);
            let single: Vec<_> = single.filter_map(|at| spans.get(&name(at))).collect();
            for (n, one) in single.iter().enumerate() {
                assert!(single[n + 1..].iter().all(|other| apart(**one, **other)));
            }
            assert!(meter.most() <= parallel.max(PARALLEL.min(6)));
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_would_break_quorum_is_refused_with_the_numbers() {
    let cluster = crate::bootstrap::engine::fake::cluster(&["a", "b", "c"]);
    let (machines, cx, _) = hosts(&["a", "b", "c"]);
    for (machine, state) in machines.iter().zip(["well", "ill", "well"]) {
        machine.on("/var/lib/etcd/member", Answer::ok(format!("{state}\n{state}\n")));
    }
    let step = || Fake::new("a/upgrade").disrupts(Disruption::EtcdMember);
    let execution = Execution { cluster: Some(&cluster), ..execution(PARALLEL) };
    let summary = apply_with(&graph(vec![step()]), &cx, &execution).await;
    assert_eq!(
        why(&summary, "a/upgrade"),
        "it would leave 1 of 3 etcd members well, and quorum is 2; b is ill; mend that first, then \
         run this again"
    );
    assert_eq!(machines[0].ran("apply"), 0);
    // A host that cannot be asked counts as ill.
    machines[1].on("/var/lib/etcd/member", Answer::error(lost()));
    assert_eq!(apply_with(&graph(vec![step()]), &cx, &execution).await.count("failed"), 1);
    machines[1].on("/var/lib/etcd/member", Answer::ok("well\nwell\n"));
    assert_eq!(apply_with(&graph(vec![step()]), &cx, &execution).await.count("applied"), 1);
}

fn lost() -> TransportError {
    TransportError::Lost { host: "b".to_owned(), reason: "gone".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn what_follows_waits_for_the_end_whatever_it_is() {
    let (machines, cx, _) = hosts(&["cp1", "cp2", "w1"]);
    machines[0].on(["apply"], Answer::fails(1, "no").after(Duration::from_secs(9)));
    let graph = graph(vec![
        Fake::new("w1/node").follows(&["cp1/up", "cp2/up", "cp9/up"]),
        Fake::new("cp1/up"),
        Fake::new("cp2/up"),
    ]);
    let began = Instant::now();
    let summary = apply_all(&graph, &cx).await;
    let word = |step: &str| {
        let found = summary.steps.iter().find(|(name, _)| *name == id(step)).unwrap();
        found.1.word()
    };
    assert_eq!((word("cp1/up"), word("cp2/up"), word("w1/node")), ("failed", "applied", "applied"));
    let spans = spans(&machines);
    assert!(spans["w1/node"].0 - began >= Duration::from_secs(9), "after the one that failed");
    assert!(
        graph.of_hosts(&BTreeSet::from(["w1".to_owned()])).len() == 1,
        "it brings along nothing"
    );
}
