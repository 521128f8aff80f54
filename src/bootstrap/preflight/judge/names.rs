//! Names: hostname, machine id, addresses, DNS.

use super::Case;
use crate::bootstrap::needs;
use crate::bootstrap::preflight::facts::Facts;
use crate::bootstrap::preflight::finding::{Findings, Fix, Level};

pub(super) fn judge(case: &Case<'_>, findings: &mut Findings<'_>) {
    let (facts, name) = (&case.gathered.facts, &case.host.name);
    if facts.hostname == *name {
        findings.ok("hostname", format!("its name is {name}"));
    } else if facts.joined() {
        findings.error(
            "hostname",
            format!("it calls itself {:?}, and has joined a cluster by that name", facts.hostname),
            format!("name it {:?} in the file, or reset the host first", facts.hostname),
        );
    } else {
        let what = format!("it calls itself {:?}, the file {name:?}", facts.hostname);
        findings.fixable(Level::Warning, "hostname", what, Fix::Hostname(name.clone()));
    }
    unique(case, findings);
    addresses(case, findings);
    dns(facts, findings);
}

/// The first other host of the file for which this holds.
fn other<'a>(case: &Case<'a>, same: impl Fn(&Facts) -> bool) -> Option<&'a str> {
    let others = case.all.iter().filter(|(name, _)| **name != case.host.name);
    others.filter(|(_, gathered)| same(&gathered.facts)).map(|(name, _)| name.as_str()).next()
}

fn unique(case: &Case<'_>, findings: &mut Findings<'_>) {
    let facts = &case.gathered.facts;
    if let Some(twin) = other(case, |f| !f.hostname.is_empty() && f.hostname == facts.hostname)
        && facts.hostname == case.host.name
    {
        findings.error(
            "hostname-twin",
            format!("{twin} calls itself {:?} too", facts.hostname),
            format!("see whether the address of {twin} is really another machine"),
        );
    }
    if facts.machine_id.is_empty() {
        findings.error(
            "machine-id",
            "it has no machine id",
            "run `systemd-machine-id-setup` on it, then reboot it",
        );
    } else if let Some(twin) = other(case, |f| f.machine_id == facts.machine_id) {
        findings.error(
            "machine-id",
            format!("it has the same machine id as {twin}: one is a copy of the other"),
            "run `rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup` on one, \
             then reboot it",
        );
    }
    let uuid = &facts.product_uuid;
    if let Some(twin) = other(case, |f| f.product_uuid == *uuid).filter(|_| !uuid.is_empty()) {
        findings.warn(
            "product-uuid",
            format!("it has the same product_uuid as {twin}"),
            "give each virtual machine a UUID of its own; some network plugins need it",
        );
    }
}

fn addresses(case: &Case<'_>, findings: &mut Findings<'_>) {
    let (facts, address) = (&case.gathered.facts, case.host.address);
    if facts.addresses.is_empty() || facts.addresses.contains(&address) {
        return;
    }
    if needs::is_node(case.host) || needs::may_carry_etcd(case.cluster, case.host) {
        findings.error(
            "address",
            format!("none of its interfaces has the address {address}"),
            "give the address in the file that the host itself has: kubelet and etcd bind to it",
        );
    }
}

fn dns(facts: &Facts, findings: &mut Findings<'_>) {
    let unknown: Vec<_> =
        facts.names.iter().filter(|(_, found)| !**found).map(|(name, _)| name.as_str()).collect();
    if unknown.is_empty() {
        if !facts.names.is_empty() {
            findings.ok("dns", "it resolves the names of the repositories");
        }
        return;
    }
    let servers = match facts.nameservers.as_slice() {
        [] => "no DNS server is set".to_owned(),
        servers => format!("its DNS servers are {}", servers.join(", ")),
    };
    // Behind an HTTP proxy it need not.
    findings.warn(
        "dns",
        format!("it cannot resolve {}; {servers}", unknown.join(", ")),
        "mend /etc/resolv.conf, give a mirror, or use `artifacts: {from: directory}`",
    );
}
