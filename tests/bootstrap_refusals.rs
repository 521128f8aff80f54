//! `apiproxy bootstrap` where it cannot go on, or is not to: what is told, with what to do about it, before
//! any host is changed, in text and as events.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Outcome, apiproxy, command, outcome_within};
use serde_json::Value;

/// Longer than a look at this machine takes while others work on it.
const PATIENCE: Duration = Duration::from_mins(3);

/// Nobody listens on port 1, and nobody's configuration is read.
const SSH: &str = "Host *\n  HostName 127.0.0.1\n  Port 1\n";

const HEAD: &str = "apiVersion: apiproxy.io/v1alpha1
kind: Cluster
metadata: { name: prod }
spec:
";

const HOSTS: &str = "  hosts:
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }
    - { name: w1, address: 10.0.0.31, roles: [worker] }
    - { name: s1, address: 10.0.0.41, roles: [spare] }
";

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// With this below `spec`.
    fn new(spec: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cluster.yaml"), format!("{HEAD}{spec}")).unwrap();
        fs::write(folder.path().join("ssh_config"), SSH).unwrap();
        Self { folder }
    }

    fn plain() -> Self {
        Self::new(&format!("  kubernetesVersion: v1.34.2\n{HOSTS}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path("cluster.yaml")).unwrap()
    }

    fn run(&self, words: &[&str]) -> Outcome {
        let mut command = command(&[&["bootstrap"], words].concat());
        let path = |name| self.path(name);
        command.arg("--file").arg(path("cluster.yaml")).arg("--ssh-config").arg(path("ssh_config"));
        command.arg("--log-dir").arg(path("logs"));
        outcome_within(&mut command, PATIENCE)
    }

    fn offline(&self, words: &[&str]) -> Outcome {
        let file = self.path("cluster.yaml").display().to_string();
        apiproxy(&[&["bootstrap"], words, &["--file", &file][..]].concat())
    }
}

/// The last event of a run.
fn last(outcome: &Outcome) -> Value {
    let events: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap_or_else(|| panic!("no event: {outcome:?}"));
    let summaries = events.iter().filter(|event| event["event"] == "summary").count();
    assert_eq!((summaries, &last["event"]), (1, &"summary".into()), "{outcome:?}");
    last.clone()
}

#[test]
fn who_cannot_be_asked_is_told_so_before_any_host_is_reached() {
    let site = Site::plain();
    for words in [
        &["apply"][..],
        &["replace", "w1", "s1"],
        &["replace", "w1"],
        &["upgrade", "--to", "v1.35.1"],
        &["reset"],
        &["reset", "--host", "w1", "-o", "json"],
        &["certs", "renew"],
    ] {
        let begun = Instant::now();
        let outcome = site.run(words);
        outcome.refused(
            2,
            "there is no terminal to ask on: see the plan with --dry-run, and give --yes",
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{outcome:?}");
    }
    assert!(!site.path("logs").exists());
    let both = site.run(&["apply", "--yes", "--dry-run"]);
    both.refused(2, "cannot be used with");
}

#[test]
fn the_last_event_is_a_summary_whatever_comes_of_a_run() {
    let site = Site::plain();
    for words in [&["apply", "--yes"][..], &["reset", "--yes"], &["certs", "renew", "--yes"]] {
        let outcome = site.run(&[words, &["-o", "json"]].concat());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let summary = last(&outcome);
        assert_eq!((&summary["done"], &summary["applied"]), (&false.into(), &0.into()));
        assert!(summary["failed"].as_u64().unwrap() > 0, "{summary}");
    }
    // What fails before there is a plan ends so too.
    for words in [
        &["reset", "--host", "w1", "--yes"][..],
        &["replace", "w1", "s1", "--yes"],
        &["upgrade", "--to", "v1.35.1", "--yes"],
        &["apply", "--prune", "--yes"],
    ] {
        let outcome = site.run(&[words, &["-o", "json"]].concat());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let summary = last(&outcome);
        assert_eq!(summary["done"], false);
        let error = summary["error"].as_str().unwrap();
        assert!(outcome.stderr.contains(error), "{outcome:?}");
        assert!(PathBuf::from(summary["log"].as_str().unwrap()).exists());
    }
}

#[test]
fn nothing_to_do_is_a_summary_too() {
    if !rustix::process::geteuid().is_root() {
        skip!("this machine is looked at as root");
    }
    let spec = "  kubernetesVersion: v1.34.2\n  ssh: { local: true }\n  hosts:\n    \
                - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }\n";
    let site = Site::new(spec);
    // Whatever there is of a cluster on this machine is only looked at.
    let outcome = site.run(&["reset", "--dry-run", "-o", "json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let summary = last(&outcome);
    let steps = summary["unchanged"].as_u64().unwrap() + summary["skipped"].as_u64().unwrap();
    assert_eq!((steps, &summary["applied"], &summary["failed"]), (1, &0.into(), &0.into()));
    assert_eq!(summary["done"] == true, summary["skipped"] == 0);
}

#[test]
fn the_plan_names_hosts_that_are_not_fit() {
    if !rustix::process::geteuid().is_root() {
        skip!("this machine is looked at as root");
    }
    // What an apiserver needs is held.
    let squatter = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = squatter.local_addr().unwrap().port();
    let spec = format!(
        "  kubernetesVersion: v1.34.2\n  endpoint: {{ port: {port} }}\n  ssh: {{ local: true }}\n  hosts:\n    \
         - {{ name: cp1, address: 10.0.0.11, roles: [controlPlane] }}\n"
    );
    let site = Site::new(&spec);
    let text = site.run(&["plan"]);
    let held = format!("port {port} is held");
    let line = text.stdout.lines().find(|line| line.contains(&held));
    let line = line.unwrap_or_else(|| panic!("{text:?}"));
    assert!(line.starts_with("not fit, and left alone: cp1: "), "{line}");
    assert!(text.stderr.starts_with("looking at 1 host"), "it is piped, and tells: {text:?}");
    let json = site.run(&["plan", "-o", "json"]);
    let plan: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(plan["unfit"][0]["host"], "cp1");
    assert!(plan["unfit"][0]["why"].as_str().unwrap().contains(&held), "{plan}");
}

#[test]
fn a_version_that_upgrade_refuses_is_not_written_either() {
    let site = Site::plain();
    let before = site.text();
    for (version, why) in [
        ("v1.34.1", "runs v1.34.2, which is newer than v1.34.1; Kubernetes cannot be taken back"),
        ("v1.36.0", "v1.34.2 cannot become v1.36.0 at once: one minor release at a time; upgrade"),
    ] {
        let words = ["upgrade", "--to", version, "--file-only"];
        site.run(&words).refused(1, why);
        site.run(&[&words[..], &["--write"]].concat()).refused(1, "nothing was written");
        assert_eq!(site.text(), before);
    }
    let outcome = site.run(&["upgrade", "--to", "v1.35.0", "--file-only", "--write"]);
    assert_eq!((outcome.code, site.text().contains("v1.35.0")), (Some(0), true), "{outcome:?}");
}

#[test]
fn what_the_file_names_on_this_machine_is_looked_at_first() {
    let site = Site::new(&format!(
        "  kubernetesVersion: v1.34.2\n{HOSTS}  network: {{ cni: {{ manifest: ./cni.yaml }} }}\n"
    ));
    let all = [
        &["check"][..],
        &["plan"],
        &["apply", "--yes"],
        &["replace", "w1", "s1", "--yes"],
        &["upgrade", "--to", "v1.35.1", "--yes"],
    ];
    for words in all {
        let _ = fs::remove_file(site.path("cni.yaml"));
        site.run(words).refused(2, "cluster.yaml:10:31: `spec.network.cni.manifest`: ");
        fs::write(site.path("cni.yaml"), "<html>\n<body>404: [</body>\n").unwrap();
        site.run(words).refused(2, "fetch it anew");
    }
    assert!(!site.path("logs").exists());
    // Who does not use it is not kept by it.
    assert_eq!(site.run(&["status"]).code, Some(1));
    assert_eq!(site.run(&["replace", "w1", "s1", "--file-only"]).code, Some(0));
}

#[test]
fn a_release_without_packages_is_refused_at_its_line() {
    let old = |more: &str| Site::new(&format!("  kubernetesVersion: v1.23.17\n{HOSTS}{more}"));
    let told =
        "cluster.yaml:5:22: `spec.kubernetesVersion`: pkgs.k8s.io has packages from v1.24 on";
    for more in ["", "  artifacts: { from: packages }\n", "  artifacts: { registry: r.local }\n"] {
        let outcome = old(more).run(&["check"]);
        outcome.refused(2, told);
        assert!(
            outcome.stderr.contains("hint: write `artifacts: { from: directory"),
            "{outcome:?}"
        );
    }
    let mirror = "  artifacts: { kubernetesMirror: 'https://mirror.local/k8s' }\n";
    assert_eq!(old(mirror).run(&["plan", "--host", "w1"]).code, Some(1), "it goes to the hosts");
}

#[test]
fn a_login_in_an_address_is_refused_and_never_shown() {
    for artifacts in [
        "{ kubernetesMirror: 'https://ops:hunter2@mirror.local/k8s' }",
        "{ distributionMirror: 'deb http://ops:hunter2@mirror.local/debian bookworm main' }",
        "{ kubernetesMirror: 'ftp://ops:hunter2@mirror.local' }",
        "{ registry: 'ops:hunter2@r.local:5000' }",
        "\n    distributionMirror: |\n      deb http://ops:hunter2@mirror.local/debian bookworm main",
        "{ from: directory, path: 'https://ops:hunter2@mirror.local', nonsense: 1 }",
    ] {
        let site =
            Site::new(&format!("  kubernetesVersion: v1.34.2\n{HOSTS}  artifacts: {artifacts}\n"));
        let outcome = site.run(&["check"]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        let all = outcome.stderr.clone() + &outcome.stdout;
        assert!(!all.contains("hunter2"), "{artifacts}: {all}");
        if !artifacts.contains("nonsense") {
            assert!(all.contains("a user or password has no place in an address"), "{all}");
            assert!(all.contains("hint: "), "{all}");
        }
    }
}

#[test]
fn every_command_takes_the_same_forms_of_output() {
    let site = Site::plain();
    for form in ["text", "json", "table"] {
        let list = site.offline(&["artifacts", "list", "-o", form]);
        assert_eq!(list.code, Some(0), "{list:?}");
        assert_eq!(list.stdout.starts_with('{'), form == "json");
        assert_eq!(site.run(&["status", "-o", form]).code, Some(1));
        assert_eq!(site.run(&["certs", "-o", form]).code, Some(1));
    }
    site.offline(&["artifacts", "list", "-o", "yaml"]).refused(2, "possible values: text, json");
    site.run(&["status", "-o", "yaml"]).refused(2, "possible values: text, json");
}

#[test]
fn chosen_hosts_are_told_of_alone() {
    let site = Site::plain();
    let outcome = site.run(&["status", "--host", "w1", "-o", "json"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let status: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let hosts: Vec<_> = status["hosts"].as_array().unwrap().iter().map(|h| &h["name"]).collect();
    assert_eq!(hosts, ["w1"]);
    site.run(&["status", "--host", "nobody"]).refused(2, "no host is called `nobody`");
}

#[test]
fn hosts_that_do_not_answer_are_named_with_what_stays_on_them() {
    let site = Site::plain();
    let outcome = site.run(&["reset", "--yes"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for (host, left) in [("cp1", "etcd's keys and data"), ("w1", "/etc/kubernetes")] {
        let line = format!("{host} does not answer (port 22 refuses connections");
        let told: Vec<_> = outcome.stdout.lines().filter(|told| told.starts_with(&line)).collect();
        assert_eq!(told.len(), 2, "in the plan and at the end: {outcome:?}");
        assert!(told[0].contains(left), "{outcome:?}");
        assert!(told[0].contains("When it is back, run this again"), "{outcome:?}");
    }
    assert!(!outcome.stdout.contains("s1 does not answer"), "a spare is no part of it");
}
