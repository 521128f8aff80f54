//! Waves with a program in the place of our own, which does as the name of the cluster says.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::bootstrap::spec::Member;

const SCRIPT: &str = r#"#!/bin/sh
folder=${0%/*}
for word; do
    case $before in --file) file=$word ;; esac
    case $word in apply | status) what=$word ;; esac
    before=$word
done
name=$(basename "$file" .yaml)
echo "$what $name" >>"$folder/calls"
case $what-$name in
    apply-bad) echo 'begun'; echo 'apiproxy: cp1 is on fire' >&2; exit 1 ;;
    status-ill) echo '{"faults": ["cp1: its Node is not ready"]}'; exit 1 ;;
    status-late) [ -e "$folder/once" ] || { : >"$folder/once"; echo '{"faults": ["w1: late"]}'; exit 1; } ;;
esac
"#;

fn fleet(waves: &[&[&str]]) -> Fleet {
    let member =
        |name: &&str| Member { name: (*name).to_owned(), file: format!("{name}.yaml").into() };
    let wave = |names: &&[&str]| Wave {
        clusters: names.iter().map(member).collect(),
        settle: Duration::ZERO,
    };
    Fleet { name: "world".to_owned(), waves: waves.iter().map(wave).collect() }
}

/// What came of the clusters, and what was run.
async fn roll_out(fleet: &Fleet) -> (Vec<(String, State)>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs::write(&path, SCRIPT).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = Program { path, flags: Vec::new() };
    let (words, form) = (vec!["apply", "--yes"], Form::Text);
    let patience = Duration::from_millis(1500);
    let rollout = Rollout { program: &program, fleet, words, form, patience };
    let entries = rollout.carry_out(&mut interrupts().unwrap()).await.unwrap();
    let calls = fs::read_to_string(Path::new(folder.path()).join("calls")).unwrap();
    (entries.into_iter().map(|entry| (entry.cluster, entry.state)).collect(), calls)
}

fn states(entries: &[(String, State)]) -> Vec<(&str, &State)> {
    entries.iter().map(|(name, state)| (name.as_str(), state)).collect()
}

#[tokio::test]
async fn waves_come_one_after_another() {
    let (entries, calls) = roll_out(&fleet(&[&["canary"], &["west"], &["east"]])).await;
    let done = &State::Done;
    assert_eq!(states(&entries), [("canary", done), ("west", done), ("east", done)]);
    let order =
        ["apply canary", "status canary", "apply west", "status west", "apply east", "status east"];
    assert_eq!(calls.lines().collect::<Vec<_>>(), order);
}

#[tokio::test]
async fn a_cluster_that_fails_stops_the_waves_after_its_own() {
    let (entries, calls) = roll_out(&fleet(&[&["bad", "west"], &["east"]])).await;
    let failed = State::Failed("cp1 is on fire".to_owned());
    let all = [("bad", &failed), ("west", &State::Done), ("east", &State::NotBegun)];
    assert_eq!(states(&entries), all);
    assert!(calls.contains("apply west") && !calls.contains("east"), "{calls}");
    let entry = |(cluster, state): &(String, State)| {
        let (cluster, state) = (cluster.clone(), state.clone());
        Entry { cluster, wave: 1, state, time: Duration::from_secs(5) }
    };
    let text = render(&entries.iter().map(entry).collect::<Vec<_>>());
    assert!(text.contains("bad: cp1 is on fire\nMend that, and run this again"), "{text}");
}

#[tokio::test]
async fn a_cluster_that_is_not_well_in_time_stops_them_too_and_a_late_one_does_not() {
    let (entries, calls) = roll_out(&fleet(&[&["ill"], &["east"]])).await;
    let unwell = State::Unwell("cp1: its Node is not ready".to_owned());
    assert_eq!(states(&entries), [("ill", &unwell), ("east", &State::NotBegun)]);
    assert!(calls.matches("status ill").count() >= 2, "it was given time: {calls}");
    let (entries, _) = roll_out(&fleet(&[&["late"], &["east"]])).await;
    assert_eq!(states(&entries), [("late", &State::Done), ("east", &State::Done)]);
}
