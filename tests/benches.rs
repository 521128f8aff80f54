//! The benchmarks in their short forms: that they work, and that their figures can be true. How fast
//! anything is, is not judged.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{program, report};
use serde_json::Value;

/// Runs a benchmark as a user does, but unoptimised, and returns what it prints.
fn bench(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["bench", "--locked", "--profile", "dev", "--bench", name, "--"]);
    // What Cargo tells a test of its package would make it build dependencies again that ask for it.
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&variable);
        }
    }
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs the comparison with the program at hand, and returns what it measured.
fn compare(name: &str, arguments: &[&str]) -> Value {
    let ours = format!("apiproxy={}", program().display());
    let fixed = ["--short", "--name", name, "--program", &ours];
    let text = bench("comparison", &[&fixed, arguments].concat());
    let root = env!("CARGO_MANIFEST_DIR");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let file = |ending: &str| {
        let path = PathBuf::from(root).join(&target).join(format!("comparison/{name}.{ending}"));
        fs::read_to_string(path).unwrap()
    };
    let page = file("md");
    assert!(
        page.contains("Medians") && text.contains("| memory at start, MiB |"),
        "{page}\n{text}"
    );
    assert!(file("svg").trim_end().ends_with("</svg>"));
    serde_json::from_str(&file("json")).unwrap()
}

/// A figure of a peer in the only round.
fn figure(results: &Value, name: &str, peer: &str) -> Option<f64> {
    let rows = results["figures"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name);
    let row = row.unwrap_or_else(|| panic!("no figure `{name}` in {results:#}"));
    row["values"][peer]["1"].as_f64()
}

fn check(results: &Value) {
    let peers: Vec<&String> = results["peers"].as_object().unwrap().keys().collect();
    report(&format!("compared: {peers:?}"));
    let proxies = || peers.iter().filter(|peer| **peer != "direct");
    assert!(proxies().any(|peer| *peer == "apiproxy"), "{peers:?}");
    assert!(peers.iter().any(|peer| *peer == "direct"), "{peers:?}");
    for peer in proxies() {
        let within = |name: &str, least: f64, most: f64| {
            let value = figure(results, name, peer).unwrap_or_else(|| panic!("{peer}: no {name}"));
            assert!((least..most).contains(&value), "{peer}: {name}: {value}");
        };
        within("1 KiB requests, 64 connections: CPU of the proxy", 1.0, 1e4);
        within("ping-pong: p50", 1.0, 1e6);
        within("bulk, 4 MB, 8 at once: CPU of the proxy", 0.001, 1e3);
        within("new connection and request: CPU of the proxy", 1.0, 1e5);
        within("100 connections at once: all served", 0.1, 1e5);
        within("paced requests beside bulk: p99", 1.0, 1e7);
        within("memory at start", 0.5, 500.0);
        within("each of 200 idle connections: memory", 0.01, 100.0);
        let (p50, p99) = ("ping-pong: p50", "ping-pong: p99");
        assert!(figure(results, p50, peer) <= figure(results, p99, peer), "{peer}");
    }
    for row in results["figures"].as_array().unwrap() {
        let cpu = row["name"].as_str().unwrap().ends_with("CPU of the proxy");
        assert!(!cpu || row["values"]["direct"].is_null(), "no proxy, no CPU of it: {row}");
    }
}

#[test]
fn every_piece_runs() {
    // Each once, without measuring.
    let text = bench("pieces", &["--test"]);
    for piece in ["balance::pick", "snapshot", "health::Machine", "record tracker", "relayed"] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    let (begun, done) = (text.matches("Testing ").count(), text.matches("Success").count());
    assert!(begun >= 20 && begun == done, "{begun} begun, {done} done: {text}");
}

#[test]
fn every_scenario_runs_on_every_peer_that_is_there() {
    check(&compare("short", &[]));
}

#[test]
fn it_runs_on_two_hosts_and_removes_them() {
    let ethtool = ["/usr/sbin/ethtool", "/sbin/ethtool", "/usr/bin/ethtool"];
    if !rustix::process::geteuid().is_root() {
        skip!("only root can make network namespaces");
    }
    if !ethtool.iter().any(|path| PathBuf::from(path).is_file()) {
        skip!("ethtool is not installed");
    }
    check(&compare("short-veth", &["--veth", "--peers", "direct,apiproxy"]));
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<_> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("apxbench")), "{left:?}");
}
