//! `bootstrap plan` and `apply`: what is refused before any host is reached.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use apiproxy::bootstrap::spec::{Topology, example};
use common::apiproxy;

/// A valid cluster file and a folder for logs.
fn site() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.yaml");
    fs::write(&file, example(Topology::Stacked, "prod")).unwrap();
    let logs = folder.path().join("logs");
    (folder, file.display().to_string(), logs.display().to_string())
}

#[test]
fn a_bad_request_reaches_no_host_and_leaves_no_log() {
    let (folder, file, logs) = site();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nspeck: {}\n").unwrap();
    for command in ["plan", "apply"] {
        let run = |more: &[&str]| {
            let head = ["bootstrap", command, "--log-dir", &logs];
            apiproxy(&[&head[..], more].concat())
        };
        run(&["--file", "/nowhere.yaml"]).refused(2, "/nowhere.yaml");
        run(&["--file", &wrong.display().to_string()]).refused(2, "speck");
        run(&["--file", &file, "--host", "nobody"]).refused(2, "no host is called `nobody`");
        run(&["--file", &file, "--host", "w[9-1]"]).refused(2, "--host w[9-1]");
        run(&["--file", &file, "-j", "0"]).refused(2, "a number from 1 to 1024");
        run(&[]).refused(2, "--file");
    }
    assert!(!Path::new(&logs).exists());
}

#[test]
fn a_log_that_cannot_be_written_is_told_before_any_host_is_reached() {
    let (_folder, file, _) = site();
    let plan = ["bootstrap", "plan", "--file", &file, "--log-dir", "/dev/null/logs"];
    apiproxy(&plan).refused(1, "give --log-dir");
}
