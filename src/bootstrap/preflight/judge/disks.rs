//! Disks: free space, and how fast small writes reach the one of etcd.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::finding::Findings;

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let node = needs::is_node(case.host);
    let etcd = needs::carries_etcd(case.cluster, case.host);
    let mut wanted: Vec<(&str, u64)> = Vec::new();
    if node {
        wanted.push(("/var/lib/containerd", needs::NODE_DISK));
        wanted.push(("/var/lib/kubelet", 1 << 30));
    }
    if etcd {
        wanted.push(("/var/lib/etcd", needs::ETCD_DISK));
    }
    wanted.push(("/", 1 << 30));
    let mut well = true;
    for (folder, least) in wanted {
        let Some(disk) = case.gathered.facts.disks.get(folder) else { continue };
        let (free, mount) = (told(disk.free), &disk.mount);
        if disk.free < 200 << 20 {
            well = false;
            findings.error(
                "disk-full",
                format!("{free} are free on {mount}, where {folder} will be"),
                "make room, or mount another disk there",
            );
        } else if disk.free < least {
            well = false;
            findings.warn(
                "disk-space",
                format!("{free} are free on {mount}, where {folder} wants {}", told(least)),
                "make room, or mount another disk there",
            );
        }
    }
    if well {
        findings.ok("disk-space", "there is room on its disks");
    }
    if etcd {
        latency(&case.gathered.facts.sync, findings);
    }
}

fn latency(writes: &[u64], findings: &mut Findings<'_>) {
    let Some(p99) = percentile(writes, 99) else {
        findings.warn(
            "disk-sync",
            "how fast writes reach the disk of etcd was not measured",
            "see whether `dd oflag=dsync` works in /var/lib",
        );
        return;
    };
    let milliseconds = format!("{}.{} ms", p99 / 1000, p99 % 1000 / 100);
    if p99 > needs::SYNC_P99_MICROS {
        findings.warn(
            "disk-sync",
            format!("1 of 100 small writes takes {milliseconds} to reach the disk of etcd, which wants 10"),
            "give /var/lib/etcd an SSD of its own; on a slow disk members lose their leader",
        );
    } else {
        findings.ok("disk-sync", format!("small writes reach the disk in {milliseconds} (p99)"));
    }
}

/// The smallest value that this many per cent do not exceed (nearest rank).
fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn told(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        1..10 => format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024),
        gib => format!("{gib} GiB"),
    }
}
