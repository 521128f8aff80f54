//! What the steps of a cluster share: its file, how it is looked at, and how one joins it.

pub mod etc_hosts;
pub mod join;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::control_plane::look::{self, Look, Standing};
use super::documents::Documents;
use super::recent::Recent;
use super::workers::look as worker;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::kubernetes::{Api, Node, Report};
use crate::bootstrap::spec::{Cluster, Host, Role};

/// The pause between two looks of a step that waits for something.
pub const PACE: Duration = Duration::from_secs(2);

/// How long other control planes are waited for once one serves: a live one answers in that time, and which
/// is asked from then on does not depend on who was a little faster.
const MOMENT: Duration = Duration::from_secs(1);

/// What the steps of a cluster share.
#[derive(Debug)]
pub struct Shared {
    /// The cluster of the file.
    pub cluster: Arc<Cluster>,
    /// What is put on hosts.
    pub documents: Arc<dyn Documents>,
    control_planes: Recent<Look>,
    workers: Recent<worker::Look>,
    nodes: Recent<Vec<Node>>,
    authorities: Recent<String>,
    /// The control plane that served last: asked alone, so that a dead one costs its time once.
    served: Mutex<Option<String>>,
    /// The latest token that workers join with.
    pub(super) ticket: join::Tickets,
    /// The names of hosts that are taken out before others join: dead etcd members, beside which
    /// kubeadm refuses to add one.
    pub removed_first: BTreeSet<String>,
}

impl Shared {
    /// For the steps of this cluster.
    pub fn new(cluster: Arc<Cluster>, documents: Arc<dyn Documents>) -> Arc<Self> {
        Self::removing_first(cluster, documents, BTreeSet::new())
    }

    /// The same, when these are taken out before others join.
    pub fn removing_first(
        cluster: Arc<Cluster>,
        documents: Arc<dyn Documents>,
        removed_first: BTreeSet<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            removed_first,
            cluster,
            documents,
            control_planes: Recent::default(),
            workers: Recent::default(),
            nodes: Recent::default(),
            authorities: Recent::default(),
            served: Mutex::default(),
            ticket: join::Tickets::default(),
        })
    }

    /// The host of this name.
    ///
    /// # Errors
    /// The file has none.
    pub fn host(&self, name: &str) -> Result<&Host, StepError> {
        self.cluster.host(name).ok_or_else(|| StepError::Refused {
            reason: format!("the file has no host {name}"),
            remedy: "name one of its hosts".to_owned(),
        })
    }

    /// What is there of a control plane.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn look(&self, cx: &Context, name: &str) -> Result<Arc<Look>, StepError> {
        let host = self.host(name)?;
        let look = async {
            let output = cx.run(name, &look::command(&self.cluster, host)).await?;
            Ok(Look::read(&self.cluster, &Report::read(&output.stdout)))
        };
        self.control_planes.get(name, look).await
    }

    /// What is there of a worker.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn look_at_worker(
        &self,
        cx: &Context,
        name: &str,
    ) -> Result<Arc<worker::Look>, StepError> {
        let look = async {
            let files = self.documents.proxy(&self.cluster, self.host(name)?)?;
            let files = files.into_iter().map(|file| file.path);
            let output = cx.run(name, &worker::command(files)).await?;
            Ok(worker::Look::read(&self.cluster, &Report::read(&output.stdout)))
        };
        self.workers.get(name, look).await
    }

    /// The cluster's CA, in PEM.
    ///
    /// # Errors
    /// The control plane cannot be reached, or has none.
    pub async fn authority(&self, cx: &Context, via: &str) -> Result<Arc<String>, StepError> {
        self.authorities.get(via, self.ca(cx, via)).await
    }

    /// A host is being changed: looks at it count no more.
    pub fn changed(&self, name: &str) {
        self.control_planes.forget(name);
        self.workers.forget(name);
        self.nodes.forget("");
    }

    /// How every control plane of the file stands.
    pub async fn standings(&self, cx: &Context) -> BTreeMap<String, Standing> {
        let each = self.cluster.with_role(Role::ControlPlane);
        join_all(each.map(|host| self.standing(cx, host))).await.into_iter().collect()
    }

    async fn standing(&self, cx: &Context, host: &Host) -> (String, Standing) {
        let standing = match self.look(cx, &host.name).await {
            Ok(look) => look.standing(&self.cluster, host),
            Err(error) => Standing::Away(error.to_string()),
        };
        (host.name.clone(), standing)
    }

    /// How control planes stand until one is found that serves: first the one that did last, then all beside
    /// each other. Nobody waits for more than a moment for those that may be dead; all are told of if none
    /// serves.
    async fn standings_until_one_serves(
        &self,
        cx: &Context,
        last: Option<&str>,
    ) -> BTreeMap<String, Standing> {
        let control_planes = self.cluster.with_role(Role::ControlPlane);
        let (first, mut others): (Vec<_>, Vec<_>) =
            control_planes.partition(|host| last == Some(host.name.as_str()));
        let look = |host| self.standing(cx, host);
        let mut looks: FuturesUnordered<_> = first.into_iter().map(look).collect();
        let mut found = BTreeMap::new();
        let (mut serves, mut until) = (false, Instant::now() + MOMENT);
        loop {
            let next = if serves || !others.is_empty() {
                timeout_at(until, looks.next()).await.ok().flatten()
            } else {
                looks.next().await
            };
            match next {
                Some((name, standing)) => {
                    if standing == Standing::Serving && !serves {
                        (serves, until) = (true, Instant::now() + MOMENT);
                    }
                    found.insert(name, standing);
                    if serves && !others.is_empty() {
                        return found;
                    }
                }
                None if others.is_empty() => return found,
                None => looks.extend(others.drain(..).map(look)),
            }
        }
    }

    /// A control plane that serves; none if there is no cluster yet.
    ///
    /// # Errors
    /// There is a cluster, or may be one, but no control plane of it serves.
    pub async fn serving(&self, cx: &Context) -> Result<Option<String>, StepError> {
        let last = self.served.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let standings = self.standings_until_one_serves(cx, last.as_deref()).await;
        let serves = |(name, standing): (&String, &Standing)| {
            (*standing == Standing::Serving).then(|| name.clone())
        };
        let found = standings.iter().find_map(serves);
        self.served.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&found);
        if found.is_some() {
            return Ok(found);
        }
        let fault = |(name, standing): (&String, &Standing)| match standing {
            Standing::Ill(reason) => Some(format!("{name} is not ready ({reason})")),
            Standing::Away(reason) => Some(reason.clone()),
            _ => None,
        };
        let faults: Vec<_> = standings.iter().filter_map(fault).collect();
        if faults.is_empty() {
            return Ok(None);
        }
        Err(StepError::Refused {
            reason: format!("no control plane serves: {}", faults.join("; ")),
            remedy: "bring one of them back and try again".to_owned(),
        })
    }

    /// The cluster through a control plane that serves.
    ///
    /// # Errors
    /// None does.
    pub async fn through(&self, cx: &Context) -> Result<String, StepError> {
        self.serving(cx).await?.ok_or_else(|| StepError::Refused {
            reason: "there is no cluster yet".to_owned(),
            remedy: "see why the control planes were not made".to_owned(),
        })
    }

    /// The Nodes of the cluster; none if there is no cluster yet.
    ///
    /// # Errors
    /// No control plane serves.
    pub async fn nodes(&self, cx: &Context) -> Result<Option<Arc<Vec<Node>>>, StepError> {
        let look = async {
            match self.serving(cx).await? {
                Some(via) => Api::new(cx, &via).nodes().await.map(Some),
                None => Ok(None),
            }
        };
        // "No cluster yet" is kept as well: as an error that is turned back here.
        let found: Result<_, Option<StepError>> =
            self.nodes.get("", async { look.await.map_err(Some)?.ok_or(None) }).await;
        match found {
            Ok(nodes) => Ok(Some(nodes)),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error),
        }
    }

    /// Puts the endpoint's name into a host's `/etc/hosts`.
    ///
    /// # Errors
    /// The host cannot be reached, or the file not be written.
    pub async fn point_endpoint(
        &self,
        cx: &Context,
        host: &Host,
        address: std::net::IpAddr,
    ) -> Result<(), StepError> {
        use crate::bootstrap::transport::File;
        let transport = cx.host(&host.name)?;
        let found = transport.read(etc_hosts::PATH).await?;
        let current = found.map(|found| found.content).unwrap_or_default();
        let wanted = self.documents.hosts(&self.cluster, host, address, &current);
        if wanted != current {
            transport.write(&File::new(etc_hosts::PATH, wanted)).await?;
        }
        Ok(())
    }
}
