//! What the kernel says of processes and of the machine.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// The tick of `/proc/stat`: `USER_HZ` is 100 on every architecture that Linux runs this on.
const TICK: Duration = Duration::from_millis(10);

/// A process and its children.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let tasks = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(tasks).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Time on a CPU of all threads of the processes.
pub(crate) fn cpu(pids: &[u32]) -> Duration {
    let threads = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")));
    let nanoseconds = threads.flatten().flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Resident memory of the processes in KiB. What they share counts for each.
pub(crate) fn resident(pids: &[u32]) -> u64 {
    let sizes = pids.iter().filter_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    sizes.sum()
}

/// How long all CPUs together have been busy since the machine started.
pub(crate) fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u32> =
        line.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap_or(0)).collect();
    // user, nice, system, idle, iowait, irq, softirq: proc(5).
    [0, 1, 2, 5, 6].into_iter().map(|field| TICK * ticks.get(field).copied().unwrap_or(0)).sum()
}

/// The machine in a line.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split(':').nth(1)).map_or("CPU unknown", str::trim);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let system = system.unwrap_or("system unknown").trim_matches('"');
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} x {model}, {system}, Linux {}", kernel.trim())
}

/// What a command prints after `word`, up to the end of the line.
pub(crate) fn version(command: &mut Command, word: &str) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let (_, version) = text.lines().find_map(|line| line.split_once(word))?;
    Some(version.trim_start_matches(':').trim().to_owned())
}
