//! The steps of a restore in their order.

use std::sync::Arc;

use super::later::Later;
use super::{Part, RestoreStep, Restoring};
use crate::bootstrap::engine::{Step, StepId};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{Host, Role, SourceFile};
use crate::bootstrap::steps::{backup, etcd};

/// What is done on a host that will carry a member before anything stops.
const PREPARING: [&str; 7] =
    ["kernel", "programs", "containerd", "images", "kubelet-unit", "apiproxy", PREPARED];
const PREPARED: &str = "prepared";

/// The hosts of a restore by what is done on them.
struct Hosts<'a> {
    shared: &'a Arc<Restoring>,
    /// Where the checks of the whole are made.
    first: Host,
    members: Vec<Host>,
    /// The members, and those whose place others take.
    stopping: Vec<Host>,
    planes: Vec<Host>,
    nodes: Vec<Host>,
}

/// The steps of a restore. `ordinary` are those that prepare hosts, of which the members' are taken.
pub fn steps(
    shared: &Arc<Restoring>,
    keys: &Arc<etcd::Keys>,
    ordinary: Vec<Arc<dyn Step>>,
    sources: &[SourceFile],
) -> Vec<Arc<dyn Step>> {
    let Some(hosts) = Hosts::of(shared) else { return Vec::new() };
    let preparing = ordinary.into_iter().filter(|step| {
        let StepId { host, name } = step.id();
        hosts.is_member(&host) && PREPARING.contains(&name.as_str())
    });
    let mut steps: Vec<_> = preparing.collect();
    hosts.stop(&mut steps);
    hosts.rebuild(keys, &mut steps);
    hosts.back(&mut steps);
    let last = hosts.back_up(sources, &mut steps);
    hosts.close(&last, &mut steps);
    steps
}

fn ids(hosts: &[Host], name: &str) -> Vec<StepId> {
    hosts.iter().map(|host| StepId::new(&host.name, name)).collect()
}

impl<'a> Hosts<'a> {
    fn of(shared: &'a Arc<Restoring>) -> Option<Self> {
        let there = |host: &&Host| !shared.away.contains(&host.name);
        let is_node = |host: &&Host| needs::is_node(host) && !host.roles.contains(&Role::Spare);
        let cluster = &shared.cluster;
        let members: Vec<Host> = cluster.etcd_hosts().cloned().collect();
        Some(Self {
            shared,
            first: members.first()?.clone(),
            stopping: members.iter().chain(&shared.leaving).cloned().collect(),
            planes: cluster.with_role(Role::ControlPlane).filter(there).cloned().collect(),
            nodes: cluster.hosts.iter().filter(there).filter(is_node).cloned().collect(),
            members,
        })
    }

    fn is_member(&self, name: &str) -> bool {
        self.members.iter().any(|host| host.name == name)
    }

    fn step(
        &self,
        host: &Host,
        part: Part,
        needs: Vec<StepId>,
        follows: Vec<StepId>,
    ) -> Arc<RestoreStep> {
        let (shared, host) = (self.shared.clone(), host.clone());
        Arc::new(RestoreStep { shared, host, part, needs, follows })
    }

    /// A part that is only asked whether it is done.
    fn gate(&self, host: &Host, part: Part) -> Arc<RestoreStep> {
        self.step(host, part, Vec::new(), Vec::new())
    }

    fn compared(&self) -> StepId {
        StepId::new(&self.first.name, Part::Checked.name())
    }

    fn stop(&self, steps: &mut Vec<Arc<dyn Step>>) {
        let prepared = ids(&self.members, PREPARED);
        let before = [&prepared[..], &ids(&self.planes, Part::Halted.name())].concat();
        for host in &self.planes {
            steps.push(self.step(host, Part::Halted, prepared.clone(), Vec::new()));
        }
        for host in &self.stopping {
            steps.push(self.step(host, Part::Stopped, before.clone(), Vec::new()));
        }
    }

    /// The data, the ordinary steps of etcd in their turn, and the comparison.
    fn rebuild(&self, keys: &Arc<etcd::Keys>, steps: &mut Vec<Arc<dyn Step>>) {
        let stopped = ids(&self.stopping, Part::Stopped.name());
        for host in &self.members {
            let certificates = StepId::new(&host.name, etcd::CERTIFICATES);
            let before = [&stopped[..], &[certificates]].concat();
            steps.push(self.step(host, Part::Data, before, Vec::new()));
        }
        for step in etcd::steps(&self.shared.cluster, keys, etcd::Renewal::WhenDue) {
            let StepId { host: name, name: what } = step.id();
            let known = self.members.iter().chain(&self.planes).find(|host| host.name == name);
            let Some(host) = known else { continue };
            let (needs, gate) = match what.as_str() {
                etcd::CERTIFICATES => (stopped.clone(), self.gate(host, Part::Stopped)),
                etcd::MEMBER => {
                    (ids(&self.members, Part::Data.name()), self.gate(host, Part::Data))
                }
                etcd::HEALTHY => {
                    (ids(&self.members, etcd::MEMBER), self.gate(&self.first, Part::Data))
                }
                etcd::CLIENT => (vec![self.compared()], self.gate(&self.first, Part::Checked)),
                _ => continue,
            };
            steps.push(Arc::new(Later { step, needs, follows: Vec::new(), gate }));
        }
        let healthy = vec![StepId::new(&self.first.name, etcd::HEALTHY)];
        steps.push(self.step(&self.first, Part::Checked, healthy, Vec::new()));
    }

    /// Control planes and kubelets.
    fn back(&self, steps: &mut Vec<Arc<dyn Step>>) {
        let compared = vec![self.compared()];
        for host in &self.planes {
            steps.push(self.step(host, Part::Files, compared.clone(), Vec::new()));
            let own = [etcd::CLIENT, Part::Files.name()];
            let own = own.map(|name| StepId::new(&host.name, name));
            let before = [&compared[..], &own].concat();
            steps.push(self.step(host, Part::Back, before, Vec::new()));
        }
        let back = ids(&self.planes, Part::Back.name());
        for host in &self.nodes {
            steps.push(self.step(host, Part::Kubelet, compared.clone(), back.clone()));
        }
    }

    /// Backups as the file wishes them, and one at once; what the end waits for.
    fn back_up(&self, sources: &[SourceFile], steps: &mut Vec<Arc<dyn Step>>) -> StepId {
        let backups: Vec<_> = backup::steps(&self.shared.cluster, sources)
            .into_iter()
            .filter(|step| !self.shared.away.contains(&step.id().host))
            .collect();
        let names: Vec<_> = backups.iter().map(|step| step.id()).collect();
        let known = |ids: Vec<StepId>| ids.into_iter().filter(|id| names.contains(id));
        let settled = [Part::Files, Part::Back].map(|part| ids(&self.planes, part.name())).concat();
        for step in backups {
            let needs = known(step.needs()).chain([self.compared()]).collect();
            let follows = known(step.follows()).chain(settled.clone()).collect();
            let gate = self.gate(&self.first, Part::Checked);
            steps.push(Arc::new(Later { step, needs, follows, gate }));
        }
        let taken = StepId::new(&self.first.name, backup::BACKUP);
        if !names.contains(&taken) {
            return self.compared();
        }
        let others = names.iter().filter(|id| **id != taken).cloned().collect();
        let fresh = self.step(&self.first, Part::Fresh, vec![taken], others);
        let last = fresh.id();
        steps.push(fresh);
        last
    }

    fn close(&self, last: &StepId, steps: &mut Vec<Arc<dyn Step>>) {
        let back = ids(&self.planes, Part::Back.name());
        let follows = [back, ids(&self.nodes, Part::Kubelet.name())].concat();
        let planes = self.planes.iter().filter(|host| !self.is_member(&host.name));
        for host in self.stopping.iter().chain(planes) {
            steps.push(self.step(host, Part::Closed, vec![last.clone()], follows.clone()));
        }
    }
}
