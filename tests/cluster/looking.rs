//! What changes nothing: `status`, `certs` and `kubeconfig`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use crate::case::Case;
use crate::common::machines::Lab;
use crate::common::run;

/// `status` for programs, with the exit code that fits what it says.
#[track_caller]
fn status(case: &Case) -> Value {
    let outcome = case.operator.run(&["status", "--output", "json"]);
    let status: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let healthy = status["healthy"].as_bool().unwrap();
    assert_eq!(outcome.code, Some(i32::from(!healthy)), "{outcome:?}");
    status
}

fn texts<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    list.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}

/// All is well, with these hosts, members of etcd and workers.
#[track_caller]
pub(crate) fn all_is_well(case: &Case, hosts: &[&str], members: &[&str], workers: &[&str]) {
    let status = status(case);
    assert_eq!(status["faults"], Value::Array(Vec::new()), "{status:#}");
    assert_eq!(texts(&status["hosts"], "name"), hosts);
    let mut found = texts(&status["members"], "name");
    found.sort_unstable();
    assert_eq!(found, members);
    assert_eq!(texts(&status["proxies"], "host"), workers);
    let planes = status["proxies"].as_array().unwrap().iter().map(|proxy| &proxy["servers"]);
    for servers in planes {
        assert!(texts(servers, "state").iter().all(|state| *state == "ready"), "{servers:#}");
    }
}

/// This control plane is away: `status` says so, to people as well, and shows the rest.
#[track_caller]
pub(crate) fn one_is_away(case: &Case, away: &str) {
    let status = status(case);
    let hosts = status["hosts"].as_array().unwrap();
    for host in hosts {
        assert_eq!(host["unreached"].is_string(), host["name"] == away, "{host:#}");
    }
    let members = status["members"].as_array().unwrap();
    for member in members {
        assert_eq!(member["healthy"], member["name"] != away, "{member:#}");
    }
    let faults: Vec<_> = status["faults"].as_array().unwrap().iter().collect();
    let told = |text: &str| faults.iter().any(|fault| fault.as_str().unwrap().contains(text));
    assert!(
        told(&format!("see {away} as dead")) && told("2 of 3 members are healthy"),
        "{faults:#?}"
    );

    let outcome = case.operator.run(&["status"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""), "{outcome:?}");
    let line = |name: &str| {
        let mut lines = outcome.stdout.lines();
        lines.find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default()
    };
    assert!(line(away).contains("not reached"), "{outcome:?}");
    assert!(outcome.stdout.contains("things are not as they should be:\n"), "{outcome:?}");
}

/// `certs` has all certificates of these hosts, and none ends soon.
#[track_caller]
pub(crate) fn certificates_are_shown(case: &Case, hosts: &[&str]) {
    let outcome = case.operator.run(&["certs", "--output", "json"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let table: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let rows = table["certificates"].as_array().unwrap();
    for host in hosts {
        let own: Vec<_> = rows.iter().filter(|row| row["host"] == *host).collect();
        assert!(own.len() > 1, "{host}: {own:#?}");
        assert!(own.iter().all(|row| row["daysLeft"].as_i64() > Some(300)), "{own:#?}");
    }
    let text = case.operator.run(&["certs", "--host", hosts[0]]);
    assert_eq!(text.code, Some(0), "{text:?}");
    assert!(text.stdout.contains("/etc/kubernetes/pki/apiserver.crt"), "{text:?}");
    assert!(hosts[1..].iter().all(|host| !text.stdout.contains(host)), "{text:?}");
}

/// The admin's kubeconfig is for its owner alone, and works from here.
#[track_caller]
pub(crate) fn kubeconfig_works(case: &Case, nodes: &[&str]) {
    let path = case.operator.folder().join("admin.kubeconfig");
    let file = path.display().to_string();
    let words = ["kubeconfig", "--output", &file];
    case.done(&words);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut kubectl = Command::new(Lab::kubectl());
    kubectl.args(["--kubeconfig", &file, "get", "nodes", "--output", "name"]);
    let found = run(kubectl.env("HOME", case.operator.folder()));
    let wanted: Vec<_> = nodes.iter().map(|node| format!("node/{node}")).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted);
    case.operator.run(&words).refused(2, "is there already; give another --output, or --force");
}
