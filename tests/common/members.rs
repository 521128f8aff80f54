//! How etcd of a restored cluster is looked at, with the etcdctl of one of its machines.

use std::collections::BTreeSet;

use super::Outcome;
use super::machines::Machine;

/// How far a restored revision is above that of its backup.
pub const BUMP: i64 = 1_000_000_000;

/// The revision of this machine's member.
pub fn revision(machine: &Machine, etcdctl: &str) -> i64 {
    let text = machine.exec(&format!("{etcdctl} endpoint status -w json"));
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status[0]["Status"]["header"]["revision"].as_i64().unwrap()
}

/// Who votes, as the member of this machine has it; all of them have to be well, and none may be a learner.
pub fn voters(machine: &Machine, etcdctl: &str) -> BTreeSet<String> {
    machine.exec(&format!("{etcdctl} endpoint health --cluster 2>&1"));
    let list = machine.exec(&format!("{etcdctl} member list"));
    assert!(!list.contains("true"), "none is a learner: {list}");
    list.lines().map(|line| line.split(", ").nth(2).unwrap().to_owned()).collect()
}

/// These names, as [`voters`] has them.
pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A command that has succeeded.
#[track_caller]
pub fn done(outcome: Outcome) -> Outcome {
    assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
    outcome
}
