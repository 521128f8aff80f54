//! `upgrade`: one control plane after the other, then the workers in batches.

use serde_json::Value;

use crate::case::Case;
use crate::common::report;
use crate::renewal::Load;
use crate::view::kubectl;

const PLANE: &str = "upgrade-control-plane";
const WORKER: &str = "upgrade-worker";

/// Upgrades to this version, one worker at a time, while `worker` asks for something through its proxy.
pub(crate) fn is_upgraded(
    case: &Case,
    version: &str,
    (planes, workers): (&[&str], &[&str]),
    via: &str,
) {
    case.offer(version);
    let load = Load::start(case.machine(workers[0]));
    let words =
        ["upgrade", "--to", version, "--yes", "--write", "--batch", "1", "--output", "json"];
    let outcome = case.done(&words);
    let (answers, bad, gap) = load.end();
    report(&format!(
        "{answers} answers meanwhile, {bad} bad, {gap:?} between two good ones at most"
    ));
    assert!(gap.as_secs() < 5, "{gap:?}");

    let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut order, mut under_way) = (Vec::new(), None);
    for event in events {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        match (text("event").as_str(), text("step").as_str()) {
            ("started", PLANE) => {
                assert_eq!(under_way.replace(text("host")), None, "one control plane at a time");
            }
            ("ended", PLANE) => order.extend(under_way.take()),
            ("ended", WORKER) => order.push(text("host")),
            ("started", "static-pod") => assert!(under_way.is_none() && order.is_empty()),
            _ => {}
        }
    }
    order[planes.len()..].sort();
    assert_eq!(order, [planes, workers].concat());
    assert!(case.text().contains(&format!("kubernetesVersion: {version}\n")));

    let path = "jsonpath='{range .items[*]}{.metadata.name}={.status.nodeInfo.kubeletVersion}{.spec.unschedulable} {end}'";
    let nodes = kubectl(case.machine(via), &format!("get nodes -o {path}"));
    let mut wanted: Vec<_> =
        planes.iter().chain(workers).map(|host| format!("{host}={version}")).collect();
    wanted.sort();
    assert_eq!(nodes.split_whitespace().collect::<Vec<_>>(), wanted);
    let shown = kubectl(case.machine(via), "version -o json");
    assert!(shown.contains(&format!("\"gitVersion\": \"{version}\"")), "{shown}");
    case.idle(&["upgrade", "--yes"]);
    case.idle(&["apply", "--yes"]);
}

/// Two minor releases at once are refused before anything is touched.
pub(crate) fn two_at_once_are_refused(case: &Case, version: &str, newer: &str) {
    let before = case.text();
    let outcome = case.operator.run(&["upgrade", "--to", newer, "--yes", "--write"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told = format!("{version} cannot become {newer} at once: one minor release at a time");
    assert!(outcome.stderr.contains(&told), "{outcome:?}");
    assert_eq!(case.text(), before);
}
