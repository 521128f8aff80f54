//! Are these hosts fit for the cluster that is wished? One read-only script on each, facts, findings.

mod clock;
mod facts;
mod finding;
mod fix;
mod gather;
mod judge;
mod parse;

use std::collections::BTreeMap;

use serde::Serialize;

pub use clock::{Skew, skew};
pub use facts::{Disk, Facts, Listener, Module, Program, Reach};
pub use finding::{Finding, Fix, Level};
pub use fix::{Fixed, fix};
pub use gather::{Gathered, command, gather, unreachable};
pub use judge::judge;
pub use parse::{arch, parse, version};

use super::engine::{Hosts, StepError};
use super::spec::Cluster;

/// What `apply` installs by itself: its own steps tell what is wrong with it.
const INSTALLED: [&str; 5] = ["containerd", "etcd", "runtime", "tool", "version"];

/// What was found on all hosts: the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Can `apply` begin: is nothing an error?
    pub fit: bool,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// All findings, the worst first, in the order of the file among themselves.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report of these findings.
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.level);
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        Self { fit: errors == 0, errors, warnings, findings }
    }

    /// The hosts that must not be changed as they are, each with what is wrong and what to do.
    pub fn unfit(&self) -> BTreeMap<String, StepError> {
        let mut hosts: BTreeMap<String, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
        let errors = self.findings.iter().filter(|finding| finding.level == Level::Error);
        for finding in errors.filter(|finding| !INSTALLED.contains(&finding.code)) {
            let (reasons, remedies) = hosts.entry(finding.host.clone()).or_default();
            reasons.push(&finding.what);
            remedies.push(&finding.remedy);
        }
        let refusal = |(host, (reasons, remedies)): (String, (Vec<&str>, Vec<&str>))| {
            let reason = format!("{host}: {}", reasons.join("; "));
            (host, StepError::Refused { reason, remedy: remedies.join("; ") })
        };
        hosts.into_iter().map(refusal).collect()
    }
}

/// Asks all hosts, so many at once, and judges what they say.
pub async fn examine(cluster: &Cluster, hosts: &Hosts, at_once: usize) -> Report {
    let (gathered, mut findings) = gather(cluster, hosts, at_once).await;
    findings.extend(judge(cluster, &gathered));
    Report::new(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_unfit_for_what_apply_does_not_mend() {
        let finding = |host: &str, level, code| Finding {
            host: host.to_owned(),
            level,
            code,
            what: format!("{code} found"),
            remedy: format!("mend {code}"),
            fixable: false,
            fix: None,
        };
        let report = Report::new(vec![
            finding("e1", Level::Error, "port"),
            finding("e1", Level::Error, "clock-skew"),
            finding("e2", Level::Warning, "swap"),
            finding("e3", Level::Error, "containerd"),
        ]);
        let unfit = report.unfit();
        let text = unfit["e1"].to_string();
        assert_eq!(text, "e1: port found; clock-skew found; mend port; mend clock-skew");
        assert_eq!(unfit.len(), 1);
    }
}
