//! Which roles go together on a host, and which a cluster needs.

use std::collections::BTreeSet;

use super::Check;
use super::hosts::Site;
use super::roster::Roster;
use crate::bootstrap::spec::{Role, Topology};

/// Most members that etcd is made for.
const MOST_MEMBERS: usize = 7;

/// Most nodes that Kubernetes is made for.
const MOST_NODES: usize = 5_000;

/// The roles of Nodes, and of hosts that are kept ready to become one.
pub(super) const NODES: [Role; 3] = [Role::ControlPlane, Role::Worker, Role::Spare];

impl Role {
    /// Is such a host a Node, or kept ready to become one?
    pub(super) fn is_node(self) -> bool {
        NODES.contains(&self)
    }
}

impl Check<'_> {
    /// Refuses roles that exclude each other.
    pub(super) fn role_mix(
        &mut self,
        site: &Site,
        roles: &BTreeSet<Role>,
        topology: Option<Topology>,
    ) {
        use Role::{ControlPlane, Etcd, External, Monitoring, Spare, Worker};
        let has = |role| roles.contains(&role);
        let outside = [External, Monitoring].into_iter().find(|role| has(*role));
        let node = [ControlPlane, Worker].into_iter().find(|role| has(*role));
        let (message, hint) = if roles.is_empty() {
            let hint =
                "give it one or more of controlPlane, etcd, worker, spare, external, monitoring";
            ("the host has no role".to_owned(), hint)
        } else if has(Spare) && roles.len() > 1 {
            let hint = "leave it `spare` alone: it is idle until `replace` or a restore uses it";
            ("a spare has no other role".to_owned(), hint)
        } else if let (Some(outside), Some(node)) = (outside, node) {
            let (outside, node) = (outside.as_str(), node.as_str());
            let message = format!("`{outside}` is outside of the cluster, `{node}` is in it");
            (message, "use another host for one of them")
        } else if has(Etcd) && topology == Some(Topology::Stacked) {
            let hint = "remove the role, or write `topology: external`";
            ("with `topology: stacked`, etcd lives on the control planes".to_owned(), hint)
        } else {
            return;
        };
        let spot = self.spot(site, "roles");
        self.fault_at(&spot, message, hint);
    }

    /// Refuses clusters that cannot work or would be worse than smaller ones.
    pub(super) fn role_counts(&mut self, roster: &Roster, topology: Option<Topology>) {
        self.one_is_here(roster);
        let (true, Some(topology)) = (roster.is_complete, topology) else {
            return;
        };
        let at = "spec.hosts";
        let control_planes = roster.count(&[Role::ControlPlane]);
        if control_planes == 0 {
            self.fault(
                at,
                "no host is a control plane",
                "give one, three or five the role `controlPlane`",
            );
        }
        let (members, role) = match topology {
            Topology::Stacked => (control_planes, "controlPlane"),
            Topology::External => (roster.count(&[Role::Etcd]), "etcd"),
        };
        if topology == Topology::External && members == 0 {
            let hint =
                "give one, three or five hosts the role `etcd`, or write `topology: stacked`";
            self.fault(at, "with `topology: external`, no host has the role `etcd`", hint);
        } else if members > 0 && (members % 2 == 0 || members > MOST_MEMBERS) {
            let quorum = members / 2 + 1;
            let loss = match members - quorum {
                0 => "none, as 1 does".to_owned(),
                loss if members % 2 == 0 => format!("{loss}, as {} do", members - 1),
                loss => format!("{loss}; each write waits for {quorum}"),
            };
            let message = format!(
                "{members} etcd members need {quorum} to agree and tolerate the loss of {loss}"
            );
            let hint = format!("have 1, 3, 5 or 7 hosts with the role `{role}`");
            self.fault(at, message, hint);
        }
        let nodes = roster.count(&NODES);
        if nodes > MOST_NODES {
            let hint = "make two clusters of it";
            self.fault(
                at,
                format!("{nodes} nodes are more than {MOST_NODES}, what Kubernetes is made for"),
                hint,
            );
        }
    }
    /// Refuses two hosts that are to be this machine.
    fn one_is_here(&mut self, roster: &Roster) {
        let mut here = roster.each().filter(|(_, host)| host.ssh.local);
        if let (Some((_, one)), Some((_, other))) = (here.next(), here.next()) {
            let message = format!("{} and {} cannot both be this machine", one.name, other.name);
            let hint = "write `ssh: { local: true }` at the one host that is";
            self.fault("spec.hosts", message, hint);
        }
    }
}
