//! `bootstrap status`, `certs`, `kubeconfig` and `reset`, as far as they come without any machine: what
//! is refused before a host is reached, and what is told of hosts that cannot be.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Outcome, apiproxy};
use serde_json::Value;
use tempfile::TempDir;

/// A cluster whose hosts all refuse the connection.
const CLUSTER: &str = "apiVersion: apiproxy.io/v1alpha1
kind: Cluster
metadata: { name: prod }
spec:
  kubernetesVersion: v1.34.2
  endpoint: { name: apiserver.prod.local, port: 6443 }
  topology: TOPOLOGY
  hosts:
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }
    - { name: w1, address: 10.0.0.31, roles: [worker] }
    - { name: w2, address: 10.0.0.32, roles: [worker] }
    - { name: s1, address: 10.0.0.41, roles: [spare] }
ETCD  network: { podCIDR: 10.244.0.0/16, serviceCIDR: 10.96.0.0/12 }
  artifacts: { from: packages }
";

/// Nobody listens on port 1, and nobody's configuration is read.
const SSH: &str = "Host *\n  HostName 127.0.0.1\n  Port 1\n";

struct Site {
    folder: TempDir,
}

impl Site {
    fn new(topology: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etcd = "    - { name: e1, address: 10.0.0.21, roles: [etcd] }\n";
        let etcd = if topology == "external" { etcd } else { "" };
        let text = CLUSTER.replace("TOPOLOGY", topology).replace("ETCD", etcd);
        fs::write(folder.path().join("cluster.yaml"), text).unwrap();
        fs::write(folder.path().join("ssh_config"), SSH).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, command: &[&str], more: &[&str]) -> Outcome {
        let [file, ssh, logs] = ["cluster.yaml", "ssh_config", "logs"]
            .map(|name| self.path(name).display().to_string());
        let reach = ["--file", &file, "--ssh-config", &ssh, "--log-dir", &logs];
        apiproxy(&[&["bootstrap"], command, &reach[..], more].concat())
    }
}

const COMMANDS: [&[&str]; 5] =
    [&["status"], &["certs"], &["certs", "renew"], &["kubeconfig"], &["reset"]];

#[test]
fn a_bad_request_reaches_no_host_and_leaves_no_log() {
    let site = Site::new("stacked");
    let logs = site.path("logs").display().to_string();
    for command in COMMANDS {
        let run = |more: &[&str]| {
            apiproxy(&[&["bootstrap"], command, &["--log-dir", &logs][..], more].concat())
        };
        run(&["--file", "/nowhere.yaml"]).refused(2, "/nowhere.yaml");
        run(&[]).refused(2, "apiproxy bootstrap new");
    }
    site.run(&["certs"], &["--host", "nobody"]).refused(2, "no host is called `nobody`");
    site.run(&["reset"], &["--host", "w[9-1]"]).refused(2, "--host w[9-1]");
    site.run(&["certs", "renew"], &["--days", "0"]).refused(2, "0 is not in 1..=36500");
    site.run(&["kubeconfig"], &["--server", "http://lb"]).refused(2, "https://HOST:PORT");
    assert!(!Path::new(&logs).exists());
}

#[test]
fn a_kubeconfig_that_is_there_is_left_alone() {
    let site = Site::new("stacked");
    let path = site.path("prod.kubeconfig");
    fs::write(&path, "mine").unwrap();
    let output = path.display().to_string();
    site.run(&["kubeconfig"], &["--output", &output]).refused(2, "is there already");
    // With --force it is asked for, and left alone as long as there is no other.
    let asked = site.run(&["kubeconfig"], &["--output", &output, "--force"]);
    asked.refused(1, "no control plane serves");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn the_status_of_hosts_that_cannot_be_reached_says_so_of_each() {
    for (topology, hosts) in [("stacked", 4), ("external", 5)] {
        let site = Site::new(topology);
        let text = site.run(&["status"], &[]);
        assert_eq!((text.code, text.stderr.as_str()), (Some(1), ""), "{text:?}");
        let rows = text.stdout.lines().filter(|line| line.contains("not reached")).count();
        assert_eq!(rows, hosts, "{text:?}");
        assert!(text.stdout.contains("things are not as they should be:\n"), "{text:?}");

        let json = site.run(&["status"], &["-o", "json"]);
        assert_eq!((json.code, json.stderr.as_str()), (Some(1), ""), "{json:?}");
        let status: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!((&status["cluster"], &status["healthy"]), (&"prod".into(), &false.into()));
        let listed = status["hosts"].as_array().unwrap();
        assert_eq!(listed.len(), hosts);
        for host in listed {
            let why = host["unreached"].as_str().unwrap();
            assert!(why.contains("refuses connections"), "{host}");
        }
        let faults = status["faults"].as_array().unwrap();
        let of_w2 = faults.iter().filter(|fault| fault.as_str().unwrap().starts_with("w2: "));
        assert_eq!(of_w2.count(), 1, "told once: {faults:?}");
    }
}

#[test]
fn certificates_of_hosts_that_cannot_be_reached_are_not_taken_for_good_ones() {
    let site = Site::new("external");
    let text = site.run(&["certs"], &["--host", "w1", "--host", "e1"]);
    assert_eq!((text.code, text.stderr.as_str()), (Some(1), ""), "{text:?}");
    let told: Vec<_> =
        text.stdout.lines().filter(|line| line.contains("refuses connections")).collect();
    assert!(
        matches!(told[..], [w1, e1] if w1.starts_with("w1: ") && e1.starts_with("e1: ")),
        "{told:?}"
    );
    let json = site.run(&["certs"], &["-o", "json"]);
    assert_eq!(json.code, Some(1));
    let table: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(table["certificates"], Value::Array(Vec::new()));
    let hosts = table["unreached"].as_array().unwrap().iter().map(|one| one["host"].as_str());
    assert_eq!(hosts.map(Option::unwrap).collect::<Vec<_>>(), ["cp1", "w1", "w2", "e1"]);
}

#[test]
fn nothing_is_renewed_or_reset_on_hosts_that_cannot_be_reached() {
    let site = Site::new("external");
    for (command, steps) in [(&["certs", "renew"][..], 3), (&["reset"], 4)] {
        let ended = site.run(command, &["--yes"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let first = format!("{steps} steps on ");
        assert!(ended.stdout.starts_with(&first), "{ended:?}");
        assert!(ended.stdout.contains("nothing could be planned"), "{ended:?}");
        assert!(ended.stdout.contains("refuses connections"), "{ended:?}");
    }
    let ended = site.run(&["reset"], &["--host", "cp1", "--yes"]);
    ended.refused(1, "w1 and others would be left without a control plane");
    // Some hosts leave a cluster that has to be seen.
    site.run(&["reset"], &["--host", "w1", "--yes"]).refused(1, "no control plane serves");
}

#[test]
fn help_says_what_is_done_and_what_is_left() {
    let help = |command: &[&str]| {
        let outcome = apiproxy(&[&["bootstrap"], command, &["--help"]].concat());
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
        outcome.stdout
    };
    assert!(help(&["reset"]).contains("backups stay"));
    assert!(help(&["certs"]).contains("certs renew"));
    assert!(help(&["kubeconfig"]).contains("kubectl config view --flatten"));
    assert!(help(&["status"]).contains("changes nothing"));
    assert!(help(&["certs", "renew"]).contains("on one host after the other"));
}
