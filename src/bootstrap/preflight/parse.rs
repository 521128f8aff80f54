//! What the script wrote -> [`Facts`]: total, whatever the bytes.

use std::net::IpAddr;

use super::facts::{Disk, Facts, Listener, Module, Program, Reach};
use crate::bootstrap::spec::Version;

/// The facts in the script's output. Lines that are none are passed over.
pub fn parse(output: &str) -> Facts {
    let mut facts = Facts::default();
    let (mut begin, mut end) = (None, None);
    for line in output.lines() {
        let Some((kind, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim();
        match kind {
            "begin" => begin = begin.or_else(|| nanoseconds(rest)),
            "end" => end = nanoseconds(rest),
            _ if rest.is_empty() => {}
            _ => fact(&mut facts, kind, rest),
        }
    }
    facts.clock = begin.zip(end);
    facts
}

/// Without `%N`, busybox writes the letter.
fn nanoseconds(text: &str) -> Option<i128> {
    if text.len() >= 19 {
        return text.parse().ok();
    }
    let seconds: i64 = text.trim_end_matches("%N").trim_end_matches('N').parse().ok()?;
    Some(i128::from(seconds) * 1_000_000_000)
}

fn fact(facts: &mut Facts, kind: &str, rest: &str) {
    let text = rest.to_owned();
    let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
    match kind {
        "user" => facts.user = rest.parse().ok(),
        "os" => match word {
            "ID" => tail.clone_into(&mut facts.os),
            "VERSION_ID" => tail.clone_into(&mut facts.os_version),
            "PRETTY_NAME" => tail.clone_into(&mut facts.os_name),
            _ => {}
        },
        "kernel" => facts.kernel = text,
        "arch" => arch(rest).clone_into(&mut facts.arch),
        "cpus" => facts.cpus = rest.parse().ok(),
        "memory" => facts.memory = kilobytes(rest),
        "hostname" => facts.hostname = text,
        "machine-id" => facts.machine_id = text,
        "product-uuid" => facts.product_uuid = text,
        "init" => facts.init = text,
        "systemd" => facts.systemd = text,
        "synchronised" => facts.synchronised = Some(rest == "yes"),
        "swap" => facts.swap.push(text),
        "cgroup" => facts.cgroup = rest.parse().ok(),
        "controllers" => facts.controllers = rest.split_whitespace().map(Into::into).collect(),
        "selinux" => facts.selinux = Some(text),
        "apparmor" => facts.apparmor = rest == "Y",
        "held" => drop(facts.held.insert(text)),
        "file" => drop(facts.files.insert(text)),
        "firewall" => drop(facts.firewalls.insert(text)),
        "nameserver" => facts.nameservers.push(text),
        "address" => facts.addresses.extend(rest.parse::<IpAddr>()),
        "sync" => facts.sync.extend(microseconds(rest)),
        "port" => facts.listeners.extend(listener(word, tail)),
        "hexport" => facts.listeners.extend(hexadecimal(rest)),
        _ => pair(facts, kind, word, tail),
    }
}

/// Facts that have a name of their own.
fn pair(facts: &mut Facts, kind: &str, name: &str, tail: &str) {
    let (name, value) = (name.to_owned(), tail.trim());
    match kind {
        "module" => facts.modules.extend(module(value).map(|module| (name, module))),
        "sysctl" => drop(facts.sysctls.insert(name, value.to_owned())),
        "disk" => facts.disks.extend(disk(value).map(|disk| (name, disk))),
        "candidate" => drop(facts.candidates.insert(name, value.to_owned())),
        "source" => drop(facts.sources.insert(name, value.to_owned())),
        "name" => drop(facts.names.insert(name, value == "found")),
        "program" => facts.programs.extend(program(value).map(|program| (name, program))),
        "reach" => facts.reach.extend(reach(&name, value)),
        _ => {}
    }
}

/// The machine in the words of Go; others as they are.
pub fn arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kilobytes(text: &str) -> Option<u64> {
    text.parse::<u64>().ok()?.checked_mul(1024)
}

/// `0.000123` and `1.2e-05` seconds, as dd writes them.
fn microseconds(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    let time = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(time.as_micros()).ok()
}

fn module(state: &str) -> Option<Module> {
    Some(match state {
        "loaded" => Module::Loaded,
        "available" => Module::Available,
        "missing" => Module::Missing,
        _ => return None,
    })
}

/// `0.0.0.0:22` and `users:(("sshd",pid=1,fd=3))`, as ss writes them.
fn listener(local: &str, users: &str) -> Option<Listener> {
    let (address, port) = local.rsplit_once(':')?;
    let owner = users.split('"').nth(1).map(ToOwned::to_owned);
    let address = address.trim_matches(['[', ']']).to_owned();
    Some(Listener { address, port: port.parse().ok()?, owner })
}

/// A port of `/proc/net/tcp`.
fn hexadecimal(port: &str) -> Option<Listener> {
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(Listener { address: "*".to_owned(), port, owner: None })
}

/// Free and whole size in kilobytes, and where it is mounted.
fn disk(text: &str) -> Option<Disk> {
    let mut words = text.splitn(3, ' ');
    let (free, size) = (kilobytes(words.next()?)?, kilobytes(words.next()?)?);
    Some(Disk { free, size, mount: words.next()?.to_owned() })
}

/// Path, package or `-`, and what it says of its version.
fn program(text: &str) -> Option<Program> {
    let mut words = text.splitn(3, ' ');
    let (path, package) = (words.next()?.to_owned(), words.next()?);
    let version = words.next().and_then(version);
    let package = (package != "-").then(|| package.to_owned());
    Some(Program { path, package, version })
}

/// The first version in a text: `containerd github.com/containerd/containerd 1.6.20~ds1`.
pub fn version(text: &str) -> Option<Version> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.';
    text.split(|c| !part(c)).find_map(|word| word.trim_end_matches('.').parse().ok())
}

fn reach(target: &str, outcome: &str) -> Option<((IpAddr, u16), Reach)> {
    let (address, port) = target.rsplit_once('/')?;
    let outcome = match outcome {
        "open" => Reach::Open,
        "refused" => Reach::Refused,
        "silent" => Reach::Silent,
        "unreachable" => Reach::Unreachable,
        "untried" => Reach::Untried,
        _ => return None,
    };
    Some(((address.parse().ok()?, port.parse().ok()?), outcome))
}

#[cfg(test)]
mod tests;
