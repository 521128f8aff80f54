//! Who reaches whom.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::facts::Reach;
use crate::bootstrap::preflight::finding::Findings;

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let peers = needs::peers(case.cluster, case.host);
    let (mut well, mut untried) = (0, false);
    for (name, address, port) in &peers {
        let target = format!("port {port} of {name} ({address})");
        match case.gathered.facts.reach.get(&(*address, *port)) {
            Some(Reach::Open | Reach::Refused) => well += 1,
            Some(Reach::Silent) => findings.error(
                "reach",
                format!("no answer from {target}"),
                format!("let TCP {port} through from {}: a firewall drops it", case.host.address),
            ),
            Some(Reach::Unreachable) => findings.error(
                "reach",
                format!("no way to {target}"),
                "see to the routes between the two, and whether that host is up",
            ),
            Some(Reach::Untried) | None => untried = true,
        }
    }
    if untried {
        findings.warn(
            "reach",
            "whether it reaches the other hosts was not tried",
            "install bash or nc on it",
        );
    } else if well == peers.len() && well > 0 {
        findings.ok("reach", format!("it reaches the {well} ports of other hosts that it needs"));
    }
}
