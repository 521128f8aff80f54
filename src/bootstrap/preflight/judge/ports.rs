//! Ports: free, or held by whom we expect.

use super::Case;
use crate::bootstrap::needs::{self, Port};
use crate::bootstrap::preflight::finding::Findings;

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let wanted = needs::ports(case.cluster, case.host);
    let mut free = 0;
    for port in &wanted {
        free += usize::from(judge_one(case, port, findings));
    }
    if free == wanted.len() && !wanted.is_empty() {
        findings.ok("port", "the ports are free, or held by the right programs");
    }
}

/// Is it free, or in the right hands?
fn judge_one(case: &Case<'_>, port: &Port, findings: &mut Findings<'_>) -> bool {
    let facts = &case.gathered.facts;
    let listeners = facts.listeners.iter().filter(|listener| listener.port == port.number);
    // The kernel cuts a program's name at 15 bytes.
    let expected = |owner: &str| {
        port.holders.iter().any(|holder| holder.starts_with(owner) || owner.starts_with(holder))
    };
    for listener in listeners {
        let Port { number, holders } = port;
        match listener.owner.as_deref() {
            Some(owner) if expected(owner) => {}
            Some(owner) => {
                findings.error(
                    "port",
                    format!(
                        "port {number} is held by {owner} ({}), and {} needs it",
                        listener.address,
                        holders.join(" or "),
                    ),
                    format!("stop {owner}, or move it to another port"),
                );
                return false;
            }
            None if facts.joined() || facts.files.contains("/var/lib/etcd/member") => {}
            None => {
                findings.error(
                    "port",
                    format!("port {number} is held, and {} needs it", holders.join(" or ")),
                    format!("see by whom with `ss -ltnp sport = {number}`, and stop it"),
                );
                return false;
            }
        }
    }
    true
}
