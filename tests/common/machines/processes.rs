//! Who runs on this host, and whose child is who.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

/// The processes of systemd-nspawn whose machine's name begins so.
pub(super) fn machines(prefix: &str) -> Vec<u32> {
    let option = format!("--machine={prefix}");
    let is_one = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        words.next().is_some_and(|program| program.ends_with("systemd-nspawn"))
            && words.any(|word| word.starts_with(&option))
    };
    all().into_keys().filter(is_one).collect()
}

/// The children of a process.
pub(super) fn children(pid: u32) -> Vec<u32> {
    all().into_iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child).collect()
}

/// A process and all that come from it. In a machine that is everyone: who loses the parent becomes a
/// child of the machine's init, or of that of a container in it.
pub(super) fn descendants(pid: u32) -> Vec<u32> {
    let parents = all();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(parents.iter().filter(|(_, p)| **p == parent).map(|(child, _)| *child));
        at += 1;
    }
    found
}

/// Is the process stopped, or no longer there?
pub(super) fn is_stopped(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| matches!(state, 'T' | 'Z' | 'X'))
}

/// The number that a process has in the innermost namespace that it is in.
pub(super) fn number_inside(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let numbers: Vec<_> = line.split_whitespace().collect();
    if numbers.len() < 2 { None } else { numbers.last()?.parse().ok() }
}

/// Sends a signal, if the process is still there.
pub(super) fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    let _ = kill.arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// Sends a signal to many at once.
pub(super) fn signal_all(pids: &[u32], name: &str) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}")).args(pids.iter().map(u32::to_string));
    let _ = kill.stderr(Stdio::null()).status();
}

/// Every process with its parent.
fn all() -> BTreeMap<u32, u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.1))).collect()
}

/// A process's state and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name, in brackets, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
