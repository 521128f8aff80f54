//! Builds all components, in order.

use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::listeners::{bind_admin, within_file_limit};
use super::reload::{self, Reloader};
use super::{Bound, Commands, Control, Given, StartError, control};
use crate::config::Config;
use crate::control::Sockets;
use crate::drain::Drain;
use crate::events::Events;
use crate::health::Method;
use crate::metrics::Metrics;
use crate::model::{Hints, InForce, Snapshot, store};
use crate::proxy::{Live, Settings};
use crate::{admin, discovery, health, proxy};

/// Builds the proxy: reads the probes' certificates, binds every listener, starts the data threads.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn build(config: &Config) -> Result<Bound, StartError> {
    build_on(config, Given::default())
}

/// The same with sockets that are open already, and a process to take over from.
///
/// # Errors
/// As [`build`].
#[expect(clippy::too_many_lines, reason = "one list of who gets what, in order")]
pub fn build_on(config: &Config, mut given: Given) -> Result<Bound, StartError> {
    let settings = settings(config)?;
    let (method, methods) = watch::channel(Method::new(&config.health_check)?);
    let (open, listeners): (Vec<_>, Vec<_>) = given.bind(&config.listen)?.into_iter().unzip();
    if open.is_empty() {
        return Err(StartError::NoListener);
    }
    let addresses: Vec<_> = open.iter().map(|open| open.address).collect();
    let (admin_listener, admin_address) = bind_admin(config.admin.listen, &mut given)?;
    let metrics = Metrics::new()?;
    crate::control::show_counters(&metrics);
    let started = Instant::now().into_std();
    let (writer, reader) = store(first_snapshot(config, &given, started));
    let events = Events::default();
    let (hints, hint_receiver) = Hints::channel();
    let drain = if given.predecessor.is_some() { Drain::starting() } else { Drain::default() };
    let sockets = Sockets::default();
    let socket = given.control().or_else(|| control::claim(config.admin.control_socket.as_deref()));
    if let Some(socket) = &socket {
        control::keep(&sockets, &listeners, &admin_listener, socket)
            .map_err(StartError::Runtime)?;
    }
    let live = Live::new(settings);
    let workers = proxy::start(proxy::Parts {
        listeners,
        live: live.clone(),
        threads: config.threads.get(),
        snapshot: reader.clone(),
        hints,
        phases: drain.phases(),
        metrics: metrics.data_path(),
    })?;
    let workers = Rc::new(workers);
    let (in_force, seen) = watch::channel(InForce::new(addresses.clone()));
    let writer = Rc::new(writer);
    let roster = Rc::new(discovery::Roster::new(writer.clone(), &config.backends, events.clone()));
    let view = admin::View {
        snapshot: reader.clone(),
        drain: drain.clone(),
        events: events.clone(),
        identity: admin::Identity { started, handover_generation: given.generation },
        in_force: seen,
        sources: roster.states(),
    };
    let admin =
        admin::Parts { view: view.clone(), metrics: metrics.clone(), workers: workers.clone() };
    let (places, found_at) = watch::channel(config.discovery.clone());
    let discovery = discovery::Parts {
        writer: writer.clone(),
        roster: roster.clone(),
        places: found_at,
        own: discovery::Own::new(in_force.subscribe(), admin_address),
        events: events.clone(),
    };
    discovery::recall(&discovery);
    let (moves_now, moves) = watch::channel(reload::moves(config));
    let (reload, reloads) = mpsc::channel(control::WAITING_RELOADS);
    let socket = socket.map(|listener| {
        let parts = crate::control::Parts {
            writer: writer.clone(),
            view,
            rules: moves.clone(),
            reloads: reload,
            sockets: sockets.clone(),
            generation: given.generation,
            metrics: metrics.clone(),
        };
        (listener, parts)
    });
    let parts = reload::Parts {
        listeners: open,
        fixed: given.is_instead(),
        sockets,
        live: live.clone(),
        method,
        places,
        roster,
        workers: workers.clone(),
        in_force,
        metrics: metrics.clone(),
        moves: moves_now,
        events: events.clone(),
    };
    let reloader = Reloader::new(config, parts);
    let health = health::Parts {
        method: methods,
        writer,
        hints: hint_receiver,
        metrics: metrics.clone(),
        events: events.clone(),
    };
    let (asks, commands) = Commands::channel();
    let control = Control {
        admin_listener,
        admin,
        health,
        discovery,
        reloader,
        commands,
        events,
        moves,
        metrics,
        workers,
        socket,
        reloads,
    };
    let (admin, commands) = (admin_address, asks);
    let Given { predecessor, stood_by, .. } = given;
    Ok(Bound { addresses, admin, drain, reader, live, commands, predecessor, stood_by, control })
}

fn first_snapshot(config: &Config, given: &Given, now: std::time::Instant) -> Snapshot {
    let mut entries = discovery::entries(&config.backends, now);
    given.restore(&mut entries, now);
    Snapshot { generation: 0, zone: config.zone.clone(), policy: config.balance, entries }
}

fn settings(config: &Config) -> Result<Settings, StartError> {
    let connections = within_file_limit(config.connections, true)?;
    Ok(Settings { connect: config.connect, connections, rebalance: config.rebalance })
}
