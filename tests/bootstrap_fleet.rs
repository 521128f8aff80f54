//! `bootstrap fleet`: several clusters as one, as far as it comes without any machine.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Outcome, apiproxy, command, outcome_within, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const FLEET: &str = "apiVersion: apiproxy.io/v1alpha1
kind: Fleet
metadata: { name: world }
spec:
  waves:
  - { clusters: [canary.yaml] }
  - { clusters: [west.yaml, east.yaml], settle: 1m }
";

struct Site {
    folder: TempDir,
}

impl Site {
    /// Three clusters, whose hosts are all reached at this port.
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("fleet.yaml", FLEET);
        let ssh = format!("Host *\n  HostName 127.0.0.1\n  Port {port}\n");
        write("ssh_config", &ssh);
        for (index, name) in ["canary", "west", "east"].iter().enumerate() {
            let text = format!(
                "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: {name} }}\nspec:\n  \
                 kubernetesVersion: v1.34.2\n  hosts:\n  \
                 - {{ name: cp1, address: 10.0.{index}.1, roles: [controlPlane] }}\n"
            );
            write(&format!("{name}.yaml"), &text);
        }
        Self { folder }
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let reach = [
            ["--file".to_owned(), path("fleet.yaml")],
            ["--ssh-config".to_owned(), path("ssh_config")],
            ["--log-dir".to_owned(), path("logs")],
        ];
        let words = words.iter().map(|word| (*word).to_owned());
        ["bootstrap".to_owned(), "fleet".to_owned()]
            .into_iter()
            .chain(words)
            .chain(reach.concat())
            .collect()
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let words = self.words(words);
        apiproxy(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn wrong_files_and_flags_reach_no_host() {
    let site = Site::new(1);
    fs::write(site.folder.path().join("west.yaml"), "kind: Cluster\n").unwrap();
    for words in [&["plan"][..], &["apply", "--yes"], &["status"], &["kubeconfig"]] {
        let outcome = site.run(words);
        outcome.refused(2, "west.yaml");
        assert!(outcome.stderr.contains("apiVersion"), "{outcome:?}");
    }
    apiproxy(&["bootstrap", "fleet", "status"]).refused(2, "fleet.yaml");
    apiproxy(&["bootstrap", "fleet", "plan", "--file", "/nowhere.yaml"])
        .refused(2, "/nowhere.yaml");
    // One for the other.
    let cluster = site.folder.path().join("canary.yaml").display().to_string();
    apiproxy(&["bootstrap", "fleet", "plan", "--file", &cluster]).refused(2, "`Fleet`");
    let fleet = site.folder.path().join("fleet.yaml").display().to_string();
    apiproxy(&["bootstrap", "plan", "--file", &fleet]).refused(2, "`Cluster`");
    let site = Site::new(1);
    site.run(&["apply"]).refused(2, "there is no terminal to ask on");
    assert!(!site.folder.path().join("logs").exists());
}

#[test]
fn clusters_that_cannot_be_reached_are_each_told_of() {
    let site = Site::new(1);
    let status = site.run(&["status", "-o", "json"]);
    assert_eq!(status.code, Some(1), "{status:?}");
    let document: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(document["healthy"], false);
    let names: Vec<_> = document["clusters"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 3);
    for (cluster, (name, wave)) in names.iter().zip([("canary", 1), ("west", 2), ("east", 2)]) {
        assert_eq!((&cluster["cluster"], &cluster["wave"]), (&name.into(), &wave.into()));
        assert_eq!(cluster["status"]["cluster"], name);
        assert!(cluster["faults"].to_string().contains("cp1: port 22 refuses"), "{cluster}");
    }
    let text = site.run(&["status"]).stdout;
    assert!(text.starts_with("CLUSTER  WAVE  VERSION"), "{text}");
    assert!(text.contains("\ncanary: cp1: port") && text.contains("\neast: cp1: port"), "{text}");

    let plan = site.run(&["plan"]);
    assert_eq!(plan.code, Some(1), "{plan:?}");
    assert!(plan.stdout.contains("== east, wave 2 of 2"), "{plan:?}");
    let shown = site.run(&["apply", "--dry-run", "-o", "json"]);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(document["clusters"][2]["cluster"], "east", "{document}");

    let refused = site.run(&["kubeconfig"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("apiproxy: canary: "), "{refused:?}");
    assert!(!Path::new("world.kubeconfig").exists());
}

#[test]
fn the_first_wave_that_fails_is_the_last() {
    let site = Site::new(1);
    let outcome = site.run(&["apply", "--yes", "-o", "json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let events: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "wave");
    assert_eq!(events[1]["cluster"], "canary", "its own events have its name");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["done"]), (&"fleetSummary".into(), &false.into()));
    let states: Vec<_> = last["clusters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["failed", "not begun", "not begun"], "{last}");
    let text = site.run(&["apply", "--yes"]);
    assert!(text.stdout.contains("wave 1 of 2: canary\n"), "{text:?}");
    assert!(text.stdout.contains("\nMend that, and run this again"), "{text:?}");
    let logs = fs::read_dir(site.folder.path().join("logs")).unwrap().count();
    assert_eq!(logs, 2, "one for each run of canary");
}

#[test]
fn a_signal_is_passed_on_once_and_nothing_is_left() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new(silent.local_addr().unwrap().port());
    let mut run = command(&[]);
    let mut child = run.args(site.words(&["apply", "--yes"])).spawn().unwrap();
    let accepted = std::thread::spawn(move || silent.accept());
    let _held = accepted.join().unwrap();
    let begun = Instant::now();
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let folder = site.folder.path().display().to_string();
    wait_for("no process of it is left", Duration::from_secs(10), || {
        let mut find = std::process::Command::new("pgrep");
        let found = outcome_within(find.args(["-f", &folder]), Duration::from_secs(5));
        (found.code == Some(1)).then_some(())
    });
}
