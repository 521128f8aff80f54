//! Facts of all hosts and the cluster that is wished -> findings. Pure.

mod clocks;
mod disks;
mod kernel;
mod names;
mod ports;
mod programs;
mod reach;
mod system;

use std::collections::BTreeMap;

use super::finding::{Finding, Findings};
use super::gather::Gathered;
use crate::bootstrap::spec::{Cluster, Host};

/// What is known of all hosts while one of them is judged.
struct Case<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    gathered: &'a Gathered,
    all: &'a BTreeMap<String, Gathered>,
}

/// All findings about the hosts that answered, in the order of the file.
pub fn judge(cluster: &Cluster, all: &BTreeMap<String, Gathered>) -> Vec<Finding> {
    let answered = cluster.hosts.iter().filter_map(|host| Some((host, all.get(&host.name)?)));
    answered
        .flat_map(|(host, gathered)| judge_one(&Case { cluster, host, gathered, all }))
        .collect()
}

fn judge_one(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Findings::of(&case.host.name);
    let rules: [fn(&Case<'_>, &mut Findings<'_>); 8] = [
        system::judge,
        names::judge,
        clocks::judge,
        kernel::judge,
        ports::judge,
        disks::judge,
        programs::judge,
        reach::judge,
    ];
    for rule in rules {
        rule(case, &mut findings);
    }
    findings.into_vec()
}

#[cfg(test)]
mod tests;
