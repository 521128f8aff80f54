//! Are these hosts fit for the cluster that is wished? One read-only script on each, facts, findings.

mod clock;
mod facts;
mod finding;
mod fix;
mod gather;
mod judge;
mod parse;

use serde::Serialize;

pub use clock::{Skew, skew};
pub use facts::{Disk, Facts, Listener, Module, Program, Reach};
pub use finding::{Finding, Fix, Level};
pub use fix::{Fixed, fix};
pub use gather::{Gathered, command, gather, unreachable};
pub use judge::judge;
pub use parse::{arch, parse, version};

use super::engine::Hosts;
use super::spec::Cluster;

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
}

/// Asks all hosts, so many at once, and judges what they say.
pub async fn examine(cluster: &Cluster, hosts: &Hosts, at_once: usize) -> Report {
    let (gathered, mut findings) = gather(cluster, hosts, at_once).await;
    findings.extend(judge(cluster, &gathered));
    Report::new(findings)
}
