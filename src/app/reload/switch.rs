//! What of a reload can fail, before anything depends on it: certificates, limits, listeners and the
//! threads of new clusters.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use super::{Refusal, Reloader, is_named_as};
use crate::app::cluster::{Cluster, Plan};
use crate::app::error::{Attempt, StartError};
use crate::app::listeners::{self, Open};
use crate::app::prepare;
use crate::app::tend::Task;
use crate::config::{self, Config, Listen};
use crate::health::Method;
use crate::net;
use crate::proxy::{Settings, WorkerHandle};

/// What a cluster of the new configuration goes by.
pub(super) struct Step {
    pub(super) settings: Settings,
    /// `None`: as before.
    pub(super) method: Option<Method>,
    /// Where its clients are accepted.
    pub(super) listeners: Vec<Open>,
    missing: Vec<Listen>,
}

/// Listeners, and the threads that they are served by.
type At = (Rc<Vec<WorkerHandle>>, Vec<SocketAddr>);

/// All that is there for the new configuration.
pub(super) struct Switched {
    /// Of each of its clusters.
    pub(super) steps: Vec<Step>,
    /// Those that are new, in the same order; they take clients already.
    pub(super) started: Vec<(Cluster, Task)>,
    /// Listeners to be closed, of clusters that stay.
    pub(super) unwanted: Vec<At>,
}

#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
fn refuse(error: impl ToString) -> Refusal {
    Refusal(vec![error.to_string()])
}

impl Reloader {
    fn running(&self, config: &config::Cluster) -> Option<&Cluster> {
        self.parts.clusters.iter().find(|one| is_named_as(Some(one), config))
    }

    /// Reads the certificates and looks at the limits.
    pub(super) fn steps(&self, config: &Config) -> Result<Vec<Step>, Refusal> {
        let connections = |config: &Config| {
            config.clusters.iter().map(|cluster| cluster.connections.max).collect::<Vec<_>>()
        };
        let is_news = connections(config) != connections(&self.current);
        let settings = prepare::settings(&config.clusters, is_news).map_err(refuse)?;
        let step = |(new, settings): (&config::Cluster, Settings)| {
            let running = self.running(new);
            let is_known = running.is_some_and(|old| old.current.health_check == new.health_check);
            let method = (!is_known).then(|| Method::new(&new.health_check)).transpose();
            let method = method.map_err(|error| refuse(format!("health check: {error}")))?;
            let mut stay = Vec::new();
            let mut missing = Vec::new();
            let old = running.map(|running| running.listeners.as_slice()).unwrap_or_default();
            for wanted in &new.listen {
                match old.iter().find(|open| open.wanted.address == wanted.address) {
                    Some(open) => stay.push(*open),
                    None => missing.push(*wanted),
                }
            }
            if self.parts.fixed {
                (stay, missing) = (old.to_vec(), Vec::new());
            }
            Ok(Step { settings, method, listeners: stay, missing })
        };
        config.clusters.iter().zip(settings).map(step).collect()
    }

    /// Opens the listeners that are new, and starts the clusters that are.
    pub(super) async fn switch(
        &self,
        config: &Config,
        mut steps: Vec<Step>,
    ) -> Result<Switched, Refusal> {
        let common = &self.parts.common;
        let unwanted = self.unwanted(config, &steps);
        let missing: Vec<_> = steps.iter().flat_map(|step| step.missing.iter().copied()).collect();
        let mut bound = self.bind(&missing, &unwanted).await.map_err(refuse)?;
        let mark = common.sockets.mark();
        let mut opened: Vec<At> = Vec::new();
        let mut started = Vec::new();
        for (new, step) in config.clusters.iter().zip(&mut steps) {
            // Only a default address may be missing, and only one cluster can have those.
            let count = match config.clusters.as_slice() {
                [_] => bound.len(),
                _ => step.missing.len(),
            };
            let (open, sockets): (Vec<_>, Vec<_>) = bound.drain(..count).unzip();
            let added = open.iter().map(|open| open.address).collect();
            step.listeners.extend(open);
            match self.open(new, step, sockets).await {
                Ok(Some(new)) => started.push(new),
                Ok(None) => {
                    let running = self.running(new).map(|running| running.workers.clone());
                    opened.extend(running.map(|workers| (workers, added)));
                }
                Err(refusal) => {
                    for (workers, addresses) in opened {
                        workers.first().inspect(|worker| worker.close(addresses));
                    }
                    for (cluster, _) in started {
                        Cluster::retire(cluster, common);
                    }
                    common.sockets.truncate(mark);
                    return Err(refusal);
                }
            }
        }
        // Those of clusters that go are closed with them.
        let stays = |(workers, _): &At| {
            let mut stay = config.clusters.iter().filter_map(|new| self.running(new));
            stay.any(|running| Rc::ptr_eq(&running.workers, workers))
        };
        let unwanted = unwanted.into_iter().filter(stays).collect();
        Ok(Switched { steps, started, unwanted })
    }

    /// The listeners that the new configuration does not want.
    fn unwanted(&self, config: &Config, steps: &[Step]) -> Vec<At> {
        let of = |running: &Cluster| {
            let mut both = config.clusters.iter().zip(steps);
            let step = both.find(|(new, _)| is_named_as(Some(running), new)).map(|(_, step)| step);
            let stays = |open: &&Open| !step.is_some_and(|step| step.listeners.contains(open));
            let addresses = running.listeners.iter().filter(stays).map(|open| open.address);
            (running.workers.clone(), addresses.collect())
        };
        self.parts.clusters.iter().map(of).collect()
    }

    /// Lets a cluster that is served accept at these listeners too; starts one that is not.
    async fn open(
        &self,
        new: &config::Cluster,
        step: &mut Step,
        sockets: Vec<TcpListener>,
    ) -> Result<Option<(Cluster, Task)>, Refusal> {
        if step.listeners.is_empty() {
            return Err(refuse("none of the addresses in `listen` can be had"));
        }
        let common = &self.parts.common;
        let cannot = |error| refuse(format!("cannot listen: {error}"));
        common.sockets.add_all(&sockets).map_err(cannot)?;
        let Some(running) = self.running(new) else {
            let plan = Plan {
                config: new,
                method: step
                    .method
                    .take()
                    .map_or_else(|| Method::new(&new.health_check), Ok)
                    .map_err(refuse)?,
                settings: step.settings,
                open: step.listeners.clone(),
                listeners: sockets,
                given: None,
            };
            return Cluster::start(plan, common).map(Some).map_err(refuse);
        };
        // The first data thread accepts.
        if let (Some(worker), false) = (running.workers.first(), sockets.is_empty()) {
            let opened = worker.open(sockets).await;
            opened.map_err(|error| refuse(format!("cannot listen in a data thread: {error}")))?;
        }
        Ok(None)
    }

    /// Binds the listeners that are new. One that overlaps with one of the `unwanted`, which are to be
    /// closed, stands beside it until then, so that nobody is refused in between.
    async fn bind(
        &self,
        missing: &[Listen],
        unwanted: &[At],
    ) -> Result<Vec<(Open, TcpListener)>, StartError> {
        let meets = |(_, old): &&At| {
            missing.iter().any(|new| {
                old.iter().any(|old| *old == new.address || listeners::overlap(new.address, *old))
            })
        };
        let met: Vec<_> = unwanted.iter().filter(meets).collect();
        let met: Vec<_> = met.iter().filter_map(|(workers, _)| workers.first()).collect();
        if met.is_empty() {
            return listeners::bind_by(missing, Attempt::Reload, net::listen);
        }
        let mut shared = Ok(());
        for worker in &met {
            shared = shared.and(worker.share_ports(true).await);
        }
        let bound = shared
            .map_err(StartError::Runtime)
            .and_then(|()| listeners::bind_by(missing, Attempt::Reload, net::listen_beside));
        for worker in met {
            // Some of them may be shared, also when not all are.
            worker.share_ports(false).await.map_err(StartError::Runtime)?;
        }
        bound
    }
}
