//! The running proxy is closed in: what it can no longer do, and that it still does its work.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::time::Duration;

use apiproxy::demo::{Authority, Issue};
use common::{Cluster, Proxy, wait_for};

const LONG: Duration = Duration::from_secs(20);

/// A field of /proc/PID/status of every thread.
fn of_threads(proxy: &Proxy, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.child.id())).unwrap();
    let value = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_matches([':', '\t']).to_owned()
    };
    tasks.map(|task| value(task.unwrap())).collect()
}

/// Does this kernel have Landlock? Then the proxy says that it is in force.
fn has_landlock(proxy: &Proxy) -> bool {
    let log = proxy.log_text();
    assert!(log.contains("closed in"), "{log}");
    log.contains("Landlock") && !log.contains("not closed in as far as could be")
}

#[test]
fn every_thread_is_closed_in_and_works() {
    let cluster = Cluster::new(3);
    let proxy = cluster.proxy("", "threads: 3\nconnections: { drainTimeout: 2s }\n");
    let load = cluster.load(&proxy);
    wait_for("40 answers", LONG, || (load.stats().ok >= 40).then_some(()));
    assert_eq!(load.stats().failed, 0);
    for (field, value) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
        let values = of_threads(&proxy, field);
        assert!(values.len() >= 5, "{values:?}");
        assert!(values.iter().all(|found| found == value), "{field}: {values:?}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).collect::<Vec<_>>(), ["0", "0", "bytes"]);
    // The metrics of the process itself read /proc.
    assert!(proxy.metric("process_open_fds", &[]) > 5.0);
    assert!(proxy.metric("process_resident_memory_bytes", &[]) > 1e6);
    assert!(proxy.metric("process_start_time_seconds", &[]) > 1e9);
    let mut proxy = proxy;
    proxy.signal(15);
    assert!(proxy.wait_end(LONG).success());
    drop(load);
}

#[test]
fn it_can_be_switched_off() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("", "hardening: { enabled: false }\n");
    assert!(of_threads(&proxy, "Seccomp").iter().all(|value| value == "0"));
    assert!(proxy.log_text().contains("hardening is switched off"));
}

/// The CA's file becomes a link to another folder while the proxy runs: closed in, it cannot follow
/// and keeps the old CA; otherwise it takes the new one, and the servers' certificates are wrong.
#[test]
fn files_elsewhere_are_out_of_reach() {
    for hardened in [true, false] {
        let cluster = Cluster::new(1);
        let elsewhere = tempfile::tempdir().unwrap();
        let other = elsewhere.path().join("other.crt");
        fs::write(&other, Authority::new("another").unwrap().pem()).unwrap();
        let more = format!("hardening: {{ enabled: {hardened} }}\n");
        let proxy = cluster.proxy("interval: 100ms, fastInterval: 50ms,", &more);
        if hardened && !has_landlock(&proxy) {
            skip!("this kernel has no Landlock");
        }
        fs::remove_file(cluster.ca_file()).unwrap();
        symlink(&other, cluster.ca_file()).unwrap();
        if hardened {
            wait_for("it says so", LONG, || {
                let log = proxy.log_text();
                (log.contains("Permission denied") && log.contains("ca.crt")).then_some(())
            });
            proxy.wait_state("cp1", "ready", LONG);
        } else {
            proxy.wait_state("cp1", "dead", LONG);
        }
    }
}

/// A certificate that is renewed by a rename in its own folder is still seen.
#[test]
fn a_renewed_ca_in_its_folder_is_taken() {
    let cluster = Cluster::new(1);
    let proxy = cluster.proxy("interval: 100ms, fastInterval: 50ms,", "");
    let next = cluster.folder.path().join("next");
    fs::write(&next, Authority::new("another").unwrap().pem()).unwrap();
    fs::rename(&next, cluster.ca_file()).unwrap();
    proxy.wait_state("cp1", "dead", LONG);
    fs::write(&next, cluster.authority.pem()).unwrap();
    fs::rename(&next, cluster.ca_file()).unwrap();
    proxy.wait_state("cp1", "ready", LONG);
}

#[test]
fn names_are_looked_up_in_a_thread_that_is_closed_in() {
    let cluster = Cluster::new(1);
    let address: SocketAddr = cluster.servers[0].address();
    let lines = format!(
        "healthCheck: {{ tls: {{ caFile: {:?} }} }}\nbackends:\n  - {{ name: cp1, address: \"localhost:{}\" }}\n",
        cluster.ca_file(),
        address.port()
    );
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_state("cp1", "ready", LONG);
    assert_eq!(cluster.client(&proxy).ask().unwrap(), "cp1");
}

/// What is secret is in no output: the probe's private key and certificate.
#[test]
fn no_secret_is_told() {
    let cluster = Cluster::new(1);
    let identity = cluster
        .authority
        .issue(Issue { names: &["apiproxy"], client: true, ..Issue::default() })
        .unwrap();
    let folder = cluster.folder.path();
    fs::write(folder.join("client.crt"), &identity.cert_pem).unwrap();
    fs::write(folder.join("client.key"), &identity.key_pem).unwrap();
    let lines = cluster.lines("").replace(
        "tls: {",
        &format!(
            "tls: {{ certFile: {:?}, keyFile: {:?},",
            folder.join("client.crt"),
            folder.join("client.key")
        ),
    );
    let proxy = Proxy::start(folder, &(lines + "log: { level: trace }\n"));
    proxy.wait_ready(1);
    assert_eq!(cluster.client(&proxy).ask().unwrap(), "cp1");
    let status = common::http_get(proxy.admin, "/status").1;
    let told = proxy.log_text() + &proxy.metrics() + &status;
    assert!(told.len() > 1000);
    let secret: Vec<_> = identity.key_pem.lines().filter(|line| line.len() > 30).collect();
    assert!(!secret.is_empty());
    for line in secret {
        assert!(!told.contains(line));
    }
    assert!(!told.contains("PRIVATE KEY"));
}
