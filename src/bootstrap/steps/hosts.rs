//! What every host needs before kubeadm or etcd: its last step on each host is `prepared`.

mod case;
mod containerd;
pub(super) mod files;
mod images;
pub mod kernel;
mod kubelet;
mod look;
mod programs;
mod proxy;
mod shelf;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use case::{Case, Found};
use look::Looks;

use crate::bootstrap::engine::{Check, Context, Step, StepError, StepId};
use crate::bootstrap::needs;
use crate::bootstrap::render::RenderError;
use crate::bootstrap::spec::{Artifacts, Cluster, Host};

pub use look::{Look, MARKS, Unit, command};
pub use programs::{install_files, install_packages};
pub use shelf::Shelf;

/// The steps of all hosts. `program` is this very program, which every host gets.
pub fn steps(cluster: &Arc<Cluster>, program: &Path) -> Vec<Arc<dyn Step>> {
    let shared = Arc::new(Shared {
        cluster: Arc::clone(cluster),
        shelf: Arc::new(Shelf::new(cluster, program)),
        looks: Looks::default(),
    });
    let of_host = |host: &Host| {
        parts(cluster, host)
            .into_iter()
            .map(|part| {
                let (shared, host) = (Arc::clone(&shared), host.clone());
                Arc::new(HostStep { shared, host, part }) as Arc<dyn Step>
            })
            .collect::<Vec<_>>()
    };
    cluster.hosts.iter().flat_map(of_host).collect()
}

/// What is done on a host, in this order.
fn parts(cluster: &Cluster, host: &Host) -> Vec<Part> {
    let node = needs::is_node(host);
    let mut parts = vec![Part::Kernel];
    let etcd = needs::runs_etcd_itself(cluster, host) || needs::holds_drills(cluster, host);
    if node || etcd {
        parts.push(Part::Programs);
    }
    if node {
        parts.push(Part::Containerd);
        if matches!(cluster.artifacts, Artifacts::Directory(_)) {
            parts.push(Part::Images);
        }
        parts.push(Part::Kubelet);
    }
    parts.extend([Part::Proxy, Part::Prepared]);
    parts
}

/// What the steps share.
#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    shelf: Arc<Shelf>,
    looks: Looks,
}

/// A step's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Kernel,
    Programs,
    Containerd,
    Images,
    Kubelet,
    Proxy,
    Prepared,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Programs => "programs",
            Self::Containerd => "containerd",
            Self::Images => "images",
            Self::Kubelet => "kubelet-unit",
            Self::Proxy => "apiproxy",
            Self::Prepared => "prepared",
        }
    }

    /// What must be done before it on the same host.
    fn after(self) -> &'static [Self] {
        match self {
            Self::Kernel | Self::Proxy => &[],
            Self::Programs => &[Self::Kernel],
            Self::Containerd | Self::Kubelet => &[Self::Programs],
            Self::Images => &[Self::Containerd],
            Self::Prepared => &[
                Self::Kernel,
                Self::Programs,
                Self::Containerd,
                Self::Images,
                Self::Kubelet,
                Self::Proxy,
            ],
        }
    }

    /// How it stands with it; none when that cannot be told before what comes before it.
    fn look(self, case: &Case<'_>) -> Result<Option<Found>, StepError> {
        match self {
            Self::Kernel => Ok(Some(kernel::look(case))),
            Self::Programs => programs::look(case).map(Some),
            Self::Containerd => containerd::look(case),
            Self::Images if !case.look.unit("containerd.service").active => Ok(None),
            Self::Images => images::look(case).map(Some),
            Self::Kubelet if case.look.program("kubelet").is_none() => Ok(None),
            Self::Kubelet => kubelet::look(case).map(Some),
            Self::Proxy => proxy::look(case).map(Some),
            Self::Prepared => Ok(Some(Found::default())),
        }
    }

    async fn apply(self, case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
        match self {
            Self::Kernel => kernel::apply(case, cx).await,
            Self::Programs => programs::apply(case, cx).await,
            Self::Containerd => containerd::apply(case, cx).await,
            Self::Images => images::apply(case, cx).await,
            Self::Kubelet => kubelet::apply(case, cx).await,
            Self::Proxy => proxy::apply(case, cx).await,
            Self::Prepared => Ok(()),
        }
    }
}

/// One part of one host.
#[derive(Debug)]
struct HostStep {
    shared: Arc<Shared>,
    host: Host,
    part: Part,
}

impl HostStep {
    fn id_of(&self, part: Part) -> StepId {
        StepId::new(&self.host.name, part.name())
    }

    /// The parts that come before this one on this host.
    fn before(&self) -> Vec<Part> {
        let mut parts = parts(&self.shared.cluster, &self.host);
        parts.retain(|part| self.part.after().contains(part));
        parts
    }

    fn judge(&self, case: &Case<'_>) -> Result<Check, StepError> {
        match self.part.look(case)? {
            None => {
                let before = self.before();
                let last = before.last().copied().unwrap_or(Part::Kernel);
                Ok(Check::After(self.id_of(last)))
            }
            Some(found) if self.part == Part::Prepared => {
                for part in self.before() {
                    if part.look(case)?.is_none_or(|found| found.change().is_some()) {
                        return Ok(Check::After(self.id_of(part)));
                    }
                }
                Ok(found.change().map_or(Check::Done, Check::Needed))
            }
            Some(found) => Ok(found.change().map_or(Check::Done, Check::Needed)),
        }
    }
}

impl Step for HostStep {
    fn id(&self) -> StepId {
        self.id_of(self.part)
    }

    fn title(&self) -> String {
        let host = &self.host.name;
        match self.part {
            Part::Kernel => format!("set the name, the kernel and no swap on {host}"),
            Part::Programs => format!("install the programs of {host}"),
            Part::Containerd => format!("configure and start containerd on {host}"),
            Part::Images => format!("import images on {host}"),
            Part::Kubelet => format!("set up kubelet's unit on {host}"),
            Part::Proxy => format!("put apiproxy on {host}"),
            Part::Prepared => format!("{host} is prepared"),
        }
    }

    fn needs(&self) -> Vec<StepId> {
        self.before().into_iter().map(|part| self.id_of(part)).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        Box::pin(async move {
            let Shared { cluster, shelf, looks } = &*self.shared;
            let look = looks.at(cx, cluster, &self.host).await?;
            self.judge(&Case { cluster, host: &self.host, look: &look, shelf })
        })
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let Shared { cluster, shelf, looks } = &*self.shared;
            let look = looks.at(cx, cluster, &self.host).await?;
            let case = Case { cluster, host: &self.host, look: &look, shelf };
            looks.forget(&self.host.name);
            let applied = self.part.apply(&case, cx).await;
            looks.forget(&self.host.name);
            applied
        })
    }
}

/// A file that cannot be rendered stops the step.
fn rendered(error: &RenderError) -> StepError {
    let text = error.to_string();
    let (reason, remedy) = text.rsplit_once("; ").unwrap_or((&text, "change the file"));
    StepError::Refused { reason: reason.to_owned(), remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests;
