//! The steps of a restore in their order.

use std::sync::Arc;

use super::later::Later;
use super::{Part, RestoreStep, Restoring};
use crate::bootstrap::engine::{Step, StepId};
use crate::bootstrap::needs;
use crate::bootstrap::spec::{Host, Role, SourceFile};
use crate::bootstrap::steps::{backup, control_plane, etcd, workers};

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
    if shared.is_stacked() {
        hosts.begin(&mut steps);
        hosts.join(&mut steps);
    } else {
        hosts.rebuild(keys, &mut steps);
        hosts.back(&mut steps);
    }
    hosts.ghosts(&mut steps);
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
        // One that comes new has nothing that could stop. Of an external etcd it is asked all the same.
        let is_old = |host: &&Host| !shared.is_stacked() || !shared.restore.is_new(&host.name);
        let cluster = &shared.cluster;
        let members: Vec<Host> = cluster.etcd_hosts().cloned().collect();
        Some(Self {
            shared,
            first: members.iter().find(|host| host.name == shared.first())?.clone(),
            stopping: members.iter().filter(is_old).chain(&shared.leaving).cloned().collect(),
            planes: cluster.with_role(Role::ControlPlane).filter(there).cloned().collect(),
            nodes: cluster.hosts.iter().filter(there).filter(is_node).cloned().collect(),
            members,
        })
    }

    fn is_member(&self, name: &str) -> bool {
        self.members.iter().any(|host| host.name == name)
    }

    fn is_stopping(&self, name: &str) -> bool {
        self.stopping.iter().any(|host| host.name == name)
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

    /// The control planes that stop: those of the file, and of a stacked etcd those that leave.
    fn halting(&self) -> Vec<Host> {
        if !self.shared.is_stacked() {
            return self.planes.clone();
        }
        self.stopping.clone()
    }

    fn stop(&self, steps: &mut Vec<Arc<dyn Step>>) {
        let prepared = ids(&self.members, PREPARED);
        // One that comes new and joins has nothing that would be moved.
        let asked = |host: &&Host| {
            self.shared.is_rebuilt(&host.name) || !self.shared.restore.is_new(&host.name)
        };
        let asked: Vec<_> = self.members.iter().filter(asked).cloned().collect();
        for host in &asked {
            steps.push(self.step(host, Part::Fit, prepared.clone(), Vec::new()));
        }
        let fit = [&prepared[..], &ids(&asked, Part::Fit.name())].concat();
        let halting = self.halting();
        let before = [&fit[..], &ids(&halting, Part::Halted.name())].concat();
        for host in &halting {
            steps.push(self.step(host, Part::Halted, fit.clone(), Vec::new()));
        }
        for host in &self.stopping {
            steps.push(self.step(host, Part::Stopped, before.clone(), Vec::new()));
        }
    }

    /// The first member of a stacked etcd, with its control plane.
    fn begin(&self, steps: &mut Vec<Arc<dyn Step>>) {
        let of = |part: Part| StepId::new(&self.first.name, part.name());
        let stopped = ids(&self.stopping, Part::Stopped.name());
        let fit = [&stopped[..], &[of(Part::Fit)]].concat();
        for (part, needs) in [
            (Part::Files, fit.clone()),
            (Part::Data, [&fit[..], &[of(Part::Files)]].concat()),
            (Part::First, vec![of(Part::Data)]),
            (Part::Checked, vec![of(Part::First)]),
            (Part::Back, vec![of(Part::Checked)]),
            (Part::Kubelet, vec![of(Part::Back)]),
            (Part::Forgotten, vec![of(Part::Kubelet)]),
        ] {
            steps.push(self.step(&self.first, part, needs, Vec::new()));
        }
    }

    /// The other control planes of a stacked etcd join; every worker's proxy learns of those that there are.
    fn join(&self, steps: &mut Vec<Arc<dyn Step>>) {
        let forgotten = StepId::new(&self.first.name, Part::Forgotten.name());
        let others = || self.planes.iter().filter(|host| host.name != self.first.name);
        for host in others().filter(|host| !self.shared.restore.is_new(&host.name)) {
            steps.push(self.step(host, Part::Cleared, vec![forgotten.clone()], Vec::new()));
        }
        let all = &self.shared.shared;
        let joined = ids(&others().cloned().collect::<Vec<_>>(), control_plane::STEP);
        for step in control_plane::steps(all).into_iter().chain(workers::steps(all)) {
            let StepId { host: name, name: what } = step.id();
            let (mut needs, mut follows) = (vec![forgotten.clone()], Vec::new());
            let mut gate = self.gate(&self.first, Part::Forgotten);
            match what.as_str() {
                control_plane::STEP => {
                    let Some(host) = others().find(|host| host.name == name) else { continue };
                    if !self.shared.restore.is_new(&name) {
                        needs.push(StepId::new(&name, Part::Cleared.name()));
                        gate = self.gate(host, Part::Cleared);
                    }
                }
                workers::config::STEP if self.nodes.iter().any(|host| host.name == name) => {
                    follows.clone_from(&joined);
                }
                _ => continue,
            }
            steps.push(Arc::new(Later { step, needs, follows, gate }));
        }
        for host in self.workers() {
            let before = [&joined[..], &[StepId::new(&host.name, workers::config::STEP)]].concat();
            steps.push(self.step(host, Part::Kubelet, vec![forgotten.clone()], before));
        }
    }

    fn workers(&self) -> impl Iterator<Item = &Host> {
        self.nodes.iter().filter(|host| !host.roles.contains(&Role::ControlPlane))
    }

    /// The steps after which all nodes see the restored cluster.
    fn settled(&self) -> Vec<StepId> {
        if self.shared.is_stacked() {
            let kubelet = |host: &Host| StepId::new(&host.name, Part::Kubelet.name());
            return ids(&self.planes, control_plane::STEP)
                .into_iter()
                .chain(self.workers().map(kubelet))
                .collect();
        }
        let back = [Part::Files, Part::Back].map(|part| ids(&self.planes, part.name())).concat();
        [back, ids(&self.nodes, Part::Kubelet.name())].concat()
    }

    fn ghosts(&self, steps: &mut Vec<Arc<dyn Step>>) {
        steps.push(self.step(&self.first, Part::Ghosts, vec![self.compared()], self.settled()));
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
        let settled = self.settled();
        for step in backups {
            // On a control plane that joins there is no member before.
            let joins = StepId::new(&step.id().host, control_plane::STEP);
            let joins = Some(joins).filter(|id| steps.iter().any(|step| step.id() == *id));
            let needs = known(step.needs()).chain([self.compared()]).chain(joins).collect();
            let follows = known(step.follows()).chain(settled.clone()).collect();
            let gate = self.gate(&self.first, Part::Checked);
            steps.push(Arc::new(Later { step, needs, follows, gate }));
        }
        let taken = StepId::new(&self.first.name, backup::BACKUP);
        if !names.contains(&taken) {
            return self.compared();
        }
        let others = names.iter().filter(|id| **id != taken).cloned();
        let ghosts = StepId::new(&self.first.name, Part::Ghosts.name());
        let others = others.chain([ghosts]).collect();
        let fresh = self.step(&self.first, Part::Fresh, vec![taken], others);
        let last = fresh.id();
        steps.push(fresh);
        last
    }

    fn close(&self, last: &StepId, steps: &mut Vec<Arc<dyn Step>>) {
        let ghosts = StepId::new(&self.first.name, Part::Ghosts.name());
        let follows = [self.settled(), vec![ghosts]].concat();
        let rest = self.planes.iter().chain([&self.first]);
        let rest: Vec<_> = rest.filter(|host| !self.is_stopping(&host.name)).cloned().collect();
        let mut told = std::collections::BTreeSet::new();
        let all = self.stopping.iter().chain(&rest).chain(&self.shared.given_up);
        for host in all.filter(|host| told.insert(&host.name)) {
            steps.push(self.step(host, Part::Closed, vec![last.clone()], follows.clone()));
        }
    }
}
