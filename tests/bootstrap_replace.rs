//! `bootstrap replace` and `upgrade`: what is refused before any host is reached, and what they make of
//! the cluster file.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::PathBuf;

use apiproxy::bootstrap::spec::{Role, Topology, Version, example, load};
use common::{Outcome, apiproxy};

const HOSTS: &str = "apiVersion: apiproxy.io/v1alpha1
kind: Cluster
metadata: { name: prod }
spec:
  # since last spring
  kubernetesVersion: v1.34.2   # with care
  hosts:
    # the control planes
    - { name: \"cp[1-3]\", address: \"10.0.0.[11-13]\", roles: [controlPlane], zone: a }   # rack 1
    - name: w1
      address: 10.0.0.31
      # it has the disks
      roles: [worker]
      labels: { disk: ssd }
    - { name: w2, address: 10.0.0.32, roles: [worker] }

    - { name: s1, address: 10.0.0.41, roles: [spare] }   # 64 GiB
    - { name: s2, address: 10.0.0.42, roles: [spare], zone: a }   # 32 GiB
  etcd: { backup: { copyTo: [cp2, s1] } }
";

struct Site {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Site {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.yaml");
        fs::write(&file, text).unwrap();
        Self { folder, file }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Runs `bootstrap` with these words and the file.
    fn run(&self, words: &[&str]) -> Outcome {
        let (file, logs) = (self.file.display().to_string(), self.logs().display().to_string());
        let tail = ["--file", &file, "--log-dir", &logs];
        apiproxy(&[&["bootstrap"][..], words, &tail].concat())
    }
}

/// What it printed, when all went well.
#[track_caller]
fn done(outcome: &Outcome) -> String {
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.stdout.clone()
}

/// The lines that go and those that come.
fn changes(before: &str, after: &str) -> String {
    let diff = similar::TextDiff::from_lines(before, after);
    let lines = diff.iter_all_changes().filter(|line| line.tag() != similar::ChangeTag::Equal);
    lines.map(|line| format!("{}{line}", line.tag())).collect::<Vec<_>>().concat()
}

#[test]
fn a_wrong_name_reaches_no_host_and_changes_nothing() {
    let site = Site::new(HOSTS);
    site.run(&["replace", "cp9", "s1"]).refused(2, "the file has no host cp9");
    site.run(&["replace", "cp2", "s9"]).refused(2, "the file has no host s9");
    site.run(&["replace", "cp2", "w2"])
        .refused(2, "give the host that comes the role `spare` alone");
    site.run(&["replace", "s1", "w1"]).refused(2, "s1 has no place in the cluster to take");
    site.run(&["replace", "w1", "w1"]).refused(2, "apiproxy bootstrap apply");
    site.run(&["replace"]).refused(2, "<OLD>");
    site.run(&["replace", "cp2", "s1", "--output", "yaml"]).refused(2, "--output");
    let none = Site::new(&HOSTS.replace("roles: [spare]", "roles: [worker]"));
    none.run(&["replace", "cp2"]).refused(2, "the file has no host with the role `spare`");
    site.run(&["upgrade", "--to", "latest"]).refused(2, "--to");
    site.run(&["upgrade", "--to", "v1.99.0"]).refused(2, "v1.99.0 is not supported");
    site.run(&["upgrade", "--batch", "0"]).refused(2, "a number from 1 to 1024");
    site.run(&["apply", "--prune", "--host", "w1"]).refused(2, "--host");
    assert_eq!(site.text(), HOSTS);
    assert!(!site.logs().exists());
}

#[test]
fn the_change_of_the_file_is_shown_and_written_only_when_wished() {
    let site = Site::new(HOSTS);
    let shown = done(&site.run(&["replace", "w1", "s1", "--file-only"]));
    assert!(shown.contains("-      labels: { disk: ssd }\n"), "{shown}");
    assert!(shown.contains("+    - { name: s1, address: 10.0.0.41, roles: [worker], labels: { disk: \"ssd\" } }   # 64 GiB\n"), "{shown}");
    assert_eq!(site.text(), HOSTS);
    assert_eq!(done(&site.run(&["replace", "w1", "s1", "--file-only", "--write"])), shown);
    assert_eq!(
        changes(HOSTS, &site.text()),
        "-    - name: w1\n-      address: 10.0.0.31\n-      # it has the disks\n-      roles: [worker]\n\
         -      labels: { disk: ssd }\n\
         -    - { name: s1, address: 10.0.0.41, roles: [spare] }   # 64 GiB\n\
         +    - { name: s1, address: 10.0.0.41, roles: [worker], labels: { disk: \"ssd\" } }   # 64 GiB\n"
    );
    // Once more: it says so already.
    let again = done(&site.run(&["replace", "w1", "s1", "--file-only", "--write"]));
    assert!(again.contains("says so already"), "{again}");
    assert!(!site.logs().exists());
}

#[test]
fn one_of_a_range_is_replaced_and_backups_follow() {
    let site = Site::new(HOSTS);
    // The spare of the same zone.
    done(&site.run(&["replace", "cp2", "--file-only", "--write"]));
    assert_eq!(
        changes(HOSTS, &site.text()),
        "-    - { name: \"cp[1-3]\", address: \"10.0.0.[11-13]\", roles: [controlPlane], zone: a }   # rack 1\n\
         +    - { name: \"cp[1,3]\", address: \"10.0.0.[11,13]\", roles: [controlPlane], zone: a }   # rack 1\n\
         -    - { name: s2, address: 10.0.0.42, roles: [spare], zone: a }   # 32 GiB\n\
         -  etcd: { backup: { copyTo: [cp2, s1] } }\n\
         +    - { name: s2, address: 10.0.0.42, roles: [controlPlane], zone: a }   # 32 GiB\n\
         +  etcd: { backup: { copyTo: [s2, s1] } }\n"
    );
    let cluster = load(&site.file).unwrap();
    let names: Vec<_> =
        cluster.with_role(Role::ControlPlane).map(|host| host.name.clone()).collect();
    assert_eq!(names, ["cp1", "cp3", "s2"]);
}

#[test]
fn the_version_is_written_and_the_rest_stays() {
    let site = Site::new(HOSTS);
    let shown = done(&site.run(&["upgrade", "--to", "v1.35.1", "--file-only", "--write"]));
    let new = "  kubernetesVersion: v1.35.1   # with care\n";
    assert!(shown.contains(&format!("+{new}")), "{shown}");
    assert_eq!(site.text(), HOSTS.replace("v1.34.2", "v1.35.1"));
    assert_eq!(load(&site.file).unwrap().kubernetes_version, Version::new(1, 35, 1));
    let again = done(&site.run(&["upgrade", "--file-only"]));
    assert!(again.contains("says so already"), "{again}");
}

#[test]
fn programs_get_the_change_as_an_event() {
    let site = Site::new(&example(Topology::External, "prod"));
    let printed = done(&site.run(&["replace", "e2", "s1", "--file-only", "-o", "json"]));
    let event: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(event["event"], "file");
    assert!(event["diff"].as_str().unwrap().contains("-    - { name: e2,"), "{event}");
}

#[test]
fn nothing_is_written_when_no_host_answers() {
    let site = Site::new(HOSTS);
    // Nobody listens on this port of this machine.
    let config = site.folder.path().join("ssh_config");
    fs::write(&config, "Host *\n  HostName 127.0.0.1\n  Port 1\n  BatchMode yes\n").unwrap();
    let config = config.display().to_string();
    let flags = ["--yes", "--write", "--ssh-config", &config];
    for words in [&["replace", "cp2", "s1"][..], &["upgrade", "--to", "v1.35.1"]] {
        let ended = site.run(&[words, &flags].concat());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(site.text(), HOSTS);
    }
    assert!(site.logs().exists());
}

#[test]
fn help_teaches() {
    for (command, words) in [
        (
            "replace",
            ["cp2 s1 --write", "the numbers", "goes on when the same command is run again"],
        ),
        (
            "upgrade",
            ["--to v1.35.1 --write", "rules of skew", "The proxies of all workers come first"],
        ),
        ("apply", ["--prune", "drained", "goes on from there"]),
    ] {
        let help = done(&apiproxy(&["bootstrap", command, "--help"]));
        for word in words {
            assert!(help.contains(word), "{word}: {help}");
        }
    }
}
