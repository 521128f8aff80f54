//! Builds all components, in order.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::cluster::{Cluster, Common, Plan};
use super::listeners::{self, Bindings, Open};
use super::prepare::{Loaded, Prepared};
use super::reload::{self, Reloader};
use super::tend::Task;
use super::{Bound, Commands, Control, Given, StartError, control};
use crate::config::{self, Config};
use crate::control::{Prospect, Sockets};
use crate::drain::Drain;
use crate::events::Events;
use crate::health::Method;
use crate::metrics::Metrics;
use crate::model::InForce;
use crate::proxy::{PipeMemory, Settings, WorkerHandle};
use crate::{admin, discovery};

/// Builds the proxy: reads the probes' certificates, binds every listener, starts the data threads.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn build(config: &Config) -> Result<Bound, StartError> {
    let given = Given::default();
    build_on(Prepared::new(Loaded::new(config.clone())?, &given)?, given)
}

/// The same from what is prepared, with a process to take over from, if one is given.
///
/// # Errors
/// As [`build`].
pub fn build_on(prepared: Prepared, mut given: Given) -> Result<Bound, StartError> {
    let Prepared { loaded, settings, bindings, admin: admin_listener, admin_address } = prepared;
    let Loaded { config, methods, at } = loaded;
    let metrics = Metrics::new()?;
    crate::control::show_counters(&metrics);
    let started = Instant::now().into_std();
    let drain = if given.predecessor.is_some() { Drain::starting() } else { Drain::default() };
    let sockets = Sockets::default();
    let path = config.admin.control_socket.as_deref();
    let socket = given.control(path).or_else(|| control::claim(path));
    if let Some(socket) = &socket {
        control::keep(&sockets, &bindings.listeners, &admin_listener, socket)
            .and_then(|()| sockets.add_all(&bindings.outgoing))
            .map_err(StartError::Runtime)?;
    }
    let addresses: Vec<_> = bindings.open.iter().map(|open| open.address).collect();
    let (in_force, seen) = watch::channel(InForce::new(addresses.clone(), at));
    let common = Common {
        metrics: metrics.clone(),
        events: Events::default(),
        drain: drain.clone(),
        threads: config.threads.get(),
        pipes: PipeMemory::new(config.threads.get() * config.clusters.len()),
        in_force,
        admin: admin_address,
        sockets,
        shown: admin::Clusters::default(),
        commanded: crate::control::Clusters::default(),
    };
    let (tasks, to_tend) = mpsc::unbounded_channel();
    let parts = config.clusters.iter().zip(methods).zip(settings);
    let plans = parts.map(|((config, method), settings)| (config, method, settings)).collect();
    let Started { clusters, outgoing, prospects } =
        start(plans, bindings, &given, &common, &tasks)?;
    let view = admin::View {
        clusters: common.shown.clone(),
        drain: drain.clone(),
        events: common.events.clone(),
        identity: admin::Identity::new(started, given.generation),
        in_force: seen,
        replaced: Rc::default(),
    };
    let admin = admin::Parts { view: view.clone(), metrics: metrics.clone() };
    let (reload, reloads) = mpsc::channel(control::WAITING_RELOADS);
    let socket = socket.map(|listener| {
        let parts = crate::control::Parts {
            clusters: common.commanded.clone(),
            view,
            reloads: reload,
            sockets: common.sockets.clone(),
            generation: given.generation,
            metrics,
        };
        (listener, parts)
    });
    let parts = reload::Parts {
        clusters,
        tasks,
        fixed: given.is_instead(),
        fixed_admin: given.is_admin_instead(),
        common: common.clone(),
    };
    let reloader = Reloader::new(&config, parts);
    let (asks, commands) = Commands::channel();
    let control = Control {
        admin_listener,
        admin,
        tasks: to_tend,
        reloader,
        commands,
        common,
        socket,
        reloads,
    };
    let Given { predecessor, stood_by, .. } = given;
    Ok(Bound {
        addresses,
        admin: admin_address,
        drain,
        commands: asks,
        predecessor,
        prospects,
        outgoing,
        stood_by,
        control,
    })
}

/// The clusters, once their data threads run.
struct Started {
    clusters: Vec<Cluster>,
    outgoing: Vec<(Rc<Vec<WorkerHandle>>, Vec<SocketAddr>)>,
    prospects: Vec<Prospect>,
}

/// Starts each cluster with what has been bound for it.
fn start(
    plans: Vec<(&config::Cluster, Method, Settings)>,
    bindings: Bindings,
    given: &Given,
    common: &Common,
    tasks: &mpsc::UnboundedSender<Task>,
) -> Result<Started, StartError> {
    let Bindings { open, listeners, outgoing } = bindings;
    let counts: Vec<_> = plans.iter().map(|(config, ..)| config.listen.len()).collect();
    let bound = listeners::by_cluster(open.into_iter().zip(listeners).collect(), &counts);
    let mut outgoing: Vec<_> = outgoing.into_iter().map(Some).collect();
    let mut started = Started { clusters: Vec::new(), outgoing: Vec::new(), prospects: Vec::new() };
    for ((config, method, settings), bound) in plans.into_iter().zip(bound) {
        let (open, mut listeners): (Vec<Open>, Vec<_>) = bound.into_iter().unzip();
        // Each of those of the process that is taken over from meets one of its listeners.
        let meets = |listener: &TcpListener| {
            let address = listener.local_addr();
            address.is_ok_and(|a| open.iter().any(|open| listeners::overlap(open.address, a)))
        };
        let beside = outgoing.iter_mut().filter(|other| other.as_ref().is_some_and(meets));
        let beside: Vec<_> = beside.filter_map(Option::take).collect();
        let at: io::Result<_> = beside.iter().map(TcpListener::local_addr).collect();
        let at = at.map_err(StartError::Runtime)?;
        listeners.extend(beside);
        let plan = Plan { config, method, settings, open, listeners, given: Some(given) };
        let (cluster, task) = Cluster::start(plan, common)?;
        cluster.announce(common);
        discovery::recall(&task.discovery);
        started.outgoing.push((cluster.workers.clone(), at));
        let prospect = Prospect { name: config.name.clone(), reader: cluster.reader() };
        started.prospects.push(prospect);
        started.clusters.push(cluster);
        // Who tends them comes later.
        let _ = tasks.send(task);
    }
    Ok(started)
}
