//! Control planes: the first of a cluster is made, every other joins through one that serves, and none
//! is special afterwards.

pub mod addons;
pub mod decide;
pub mod enter;
pub mod leave;
pub mod look;
mod processes;
pub mod settings;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::remove;
use super::shared::Shared;
use crate::bootstrap::engine::{Change, Check, Context, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{Host, Role, Topology};
use decide::{Way, decide};
use look::{Look, Standing};

/// The name of the step after which a host is a control plane, whole and verified.
pub const STEP: &str = "control-plane";

/// The step that gives this host its client certificate for an external etcd.
const ETCD_CLIENT: &str = "etcd-client";

/// The endpoint of every node that serves it itself.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A control plane of the file.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    shared: Arc<Shared>,
    host: Host,
}

/// The steps of the control planes and of what a cluster needs once.
pub fn steps(shared: &Arc<Shared>) -> Vec<Arc<dyn Step>> {
    let cluster = &shared.cluster;
    let step = |host: &Host| -> Arc<dyn Step> { Arc::new(ControlPlane::of(shared, host)) };
    let mut steps: Vec<_> = cluster.with_role(Role::ControlPlane).map(step).collect();
    for host in cluster.with_role(Role::ControlPlane) {
        steps.push(Arc::new(settings::Settings::new(shared, host)));
    }
    if let Some(first) = cluster.with_role(Role::ControlPlane).next() {
        steps.push(addons::step(shared, first));
    }
    steps
}

impl ControlPlane {
    /// That of this host.
    pub(super) fn of(shared: &Arc<Shared>, host: &Host) -> Self {
        Self { shared: shared.clone(), host: host.clone() }
    }

    /// What is to be done on a host that runs the cluster already, if anything.
    fn touch(&self, look: &Look) -> Option<String> {
        let cluster = &self.shared.cluster;
        if let Some(fault) = look.fault(cluster, &self.host) {
            return Some(fault);
        }
        if look.endpoint != Some(LOOPBACK) {
            let name = &cluster.endpoint.name;
            return Some(format!("{name} does not lead to {LOOPBACK} in its /etc/hosts"));
        }
        look.begun
            .is_some()
            .then(|| "what an earlier run began is there, and not checked yet".to_owned())
    }

    async fn found(&self, cx: &Context) -> Result<Check, StepError> {
        let cluster = &self.shared.cluster;
        let look = self.shared.look(cx, &self.host.name).await?;
        match look.standing(cluster, &self.host) {
            Standing::Serving => Ok(match self.touch(&look) {
                None => Check::Done,
                Some(why) => Check::Needed(Change::new(why)),
            }),
            Standing::Ill(reason) => Err(StepError::Unverified(format!(
                "{}: its kube-apiserver is not ready: {reason}; see `crictl ps -a` and `journalctl -u \
                 kubelet` there",
                self.host.name
            ))),
            _ if look.busy => Ok(Check::Needed(Change::new("kubeadm is still at work there"))),
            _ => self.planned(cx).await,
        }
    }

    async fn planned(&self, cx: &Context) -> Result<Check, StepError> {
        let why = match decide(&self.host.name, &self.shared.standings(cx).await) {
            Way::Stay => return Ok(Check::Done),
            Way::Init { again: false } => {
                "there is no cluster yet: it is made here, or joined".to_owned()
            }
            Way::Init { again: true } => "`kubeadm init` was stopped half way".to_owned(),
            Way::Join { via, clean: false } => {
                format!("it is not in the cluster: joins through {via}")
            }
            Way::Join { via, clean: true } => {
                format!("`kubeadm join` was stopped half way: reset, and joined anew through {via}")
            }
            Way::After(other) => return Ok(Check::After(StepId::new(other, STEP))),
            Way::Refuse { reason, remedy } => return Err(StepError::Refused { reason, remedy }),
        };
        Ok(Check::Needed(Change::new(why)))
    }
}

impl Step for ControlPlane {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("make {} a control plane", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        let mut needs = vec![StepId::new(&self.host.name, "prepared")];
        if self.shared.cluster.topology == Topology::External {
            let first = self.shared.cluster.etcd_hosts().next();
            needs.extend(first.map(|host| StepId::new(&host.name, "etcd-healthy")));
            needs.push(StepId::new(&self.host.name, ETCD_CLIENT));
        }
        if self.shared.cluster.topology == Topology::Stacked {
            let first = self.shared.removed_first.iter();
            needs.extend(first.map(|name| StepId::new(name, remove::STEP)));
        }
        needs
    }

    fn lane(&self) -> Lane {
        Lane::Single
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        self.found(cx).boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            self.shared.changed(&self.host.name);
            let outcome = self.enter(cx).await;
            self.shared.changed(&self.host.name);
            outcome
        }
        .boxed()
    }
}
