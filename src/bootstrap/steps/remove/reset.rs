//! The whole cluster is taken apart: workers first, then control planes one by one.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::clean;
use crate::bootstrap::engine::{Change, Check, Context, Disruption, Lane, Step, StepError, StepId};
use crate::bootstrap::spec::{Host, Role};
use crate::bootstrap::steps::shared::Shared;

/// The name of the step.
pub const STEP: &str = "reset";

/// Takes a host out of Kubernetes without asking the cluster.
#[derive(Clone, Debug)]
pub struct Reset {
    shared: Arc<Shared>,
    host: Host,
}

/// The steps for all nodes of the file. An external etcd keeps its data: its own reset removes them.
pub fn steps(shared: &Arc<Shared>) -> Vec<Arc<dyn Step>> {
    let is_node = |host: &&Host| {
        host.roles.contains(&Role::ControlPlane) || host.roles.contains(&Role::Worker)
    };
    let step = |host: &Host| -> Arc<dyn Step> {
        Arc::new(Reset { shared: shared.clone(), host: host.clone() })
    };
    shared.cluster.hosts.iter().filter(is_node).map(step).collect()
}

impl Reset {
    fn is_control_plane(&self) -> bool {
        self.host.roles.contains(&Role::ControlPlane)
    }
}

impl Step for Reset {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STEP)
    }

    fn title(&self) -> String {
        format!("take Kubernetes off {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        Vec::new()
    }

    fn follows(&self) -> Vec<StepId> {
        if !self.is_control_plane() {
            return Vec::new();
        }
        let workers = self.shared.cluster.with_role(Role::Worker);
        let workers = workers.filter(|host| !host.roles.contains(&Role::ControlPlane));
        workers.map(|host| StepId::new(&host.name, STEP)).collect()
    }

    fn lane(&self) -> Lane {
        if self.is_control_plane() { Lane::Single } else { Lane::Parallel }
    }

    fn disruption(&self) -> Option<Disruption> {
        Some(if self.is_control_plane() { Disruption::ApiServer } else { Disruption::Node })
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let found = cx.run(&self.host.name, &clean::look()).await?.text();
            let found: Vec<_> = found.lines().collect();
            if found.is_empty() {
                return Ok(Check::Done);
            }
            Ok(Check::Needed(Change::new(format!("there are {}", found.join(", ")))))
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            clean::clean(cx, self.shared.documents.as_ref(), &self.host.name).await?;
            self.shared.changed(&self.host.name);
            Ok(())
        }
        .boxed()
    }
}
