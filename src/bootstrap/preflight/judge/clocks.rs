//! The clock, against ours.

use std::time::Duration;

use super::Case;
use crate::bootstrap::preflight::clock::Skew;
use crate::bootstrap::preflight::finding::Findings;

/// etcd warns of its peers' clocks from a second on.
const WARN: Duration = Duration::from_secs(1);

/// A certificate is valid from the second it was made, and join tokens, leases and Events are
/// compared across hosts. kubeadm has no check; five seconds is what NTP holds with ease.
const ERROR: Duration = Duration::from_secs(5);

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let Some(skew) = case.gathered.skew else {
        findings.warn("clock-skew", "its clock was not read", "see whether `date +%s%N` works");
        return;
    };
    // What lies within the round trip proves nothing.
    let sure = skew.off.saturating_sub(skew.uncertain);
    let direction = if skew.ahead { "ahead of" } else { "behind" };
    let what = format!("its clock is {} {direction} ours", told(skew.off));
    if sure >= ERROR {
        findings.error("clock-skew", what, remedy(case, skew));
    } else if sure >= WARN {
        findings.warn("clock-skew", what, remedy(case, skew));
    } else {
        findings.ok("clock-skew", format!("its clock agrees with ours to {}", told(skew.off)));
        if case.gathered.facts.synchronised == Some(false) {
            findings.warn(
                "clock-unsynchronised",
                "nothing keeps its clock in time",
                "install chrony or systemd-timesyncd",
            );
        }
    }
}

fn remedy(case: &Case<'_>, skew: Skew) -> &'static str {
    let others = || case.all.values().filter_map(|other| other.skew);
    if others().count() > 1 && others().all(|other| other.between(skew) < WARN) {
        return "all hosts agree with each other: set the clock of this machine";
    }
    match case.gathered.facts.synchronised {
        Some(true) => "NTP says it is in time: see whether its time servers are the right ones",
        _ => "run `timedatectl set-ntp true` on it, with chrony or systemd-timesyncd installed",
    }
}

/// The two largest units.
fn told(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days {} h", seconds / 86400, seconds / 3600 % 24),
    }
}
