//! Builds all components, in order.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::listeners::Bindings;
use super::prepare::{Loaded, Prepared};
use super::reload::{self, Reloader};
use super::{Bound, Commands, Control, Given, StartError, control};
use crate::config::Config;
use crate::control::Sockets;
use crate::drain::Drain;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::model::{Hints, InForce, Snapshot, store};
use crate::proxy::Live;
use crate::{admin, discovery, health, proxy};

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
#[expect(clippy::too_many_lines, reason = "one list of who gets what, in order")]
pub fn build_on(prepared: Prepared, mut given: Given) -> Result<Bound, StartError> {
    let Prepared { loaded, settings, bindings, admin: admin_listener, admin_address } = prepared;
    let Loaded { config, method, at } = loaded;
    let (method, methods) = watch::channel(method);
    let Bindings { open, listeners, outgoing } = bindings;
    let addresses: Vec<_> = open.iter().map(|open| open.address).collect();
    let metrics = Metrics::new()?;
    crate::control::show_counters(&metrics);
    let started = Instant::now().into_std();
    let (writer, reader) = store(first_snapshot(&config, &given, started));
    let events = Events::default();
    let (hints, hint_receiver) = Hints::channel();
    let drain = if given.predecessor.is_some() { Drain::starting() } else { Drain::default() };
    let sockets = Sockets::default();
    let path = config.admin.control_socket.as_deref();
    let socket = given.control(path).or_else(|| control::claim(path));
    if let Some(socket) = &socket {
        control::keep(&sockets, &listeners, &admin_listener, socket)
            .and_then(|()| sockets.add_all(&outgoing))
            .map_err(StartError::Runtime)?;
    }
    let live = Live::new(settings);
    let outgoing_at = outgoing.iter().map(TcpListener::local_addr).collect::<io::Result<_>>();
    let outgoing_at = outgoing_at.map_err(StartError::Runtime)?;
    let workers = proxy::start(proxy::Parts {
        listeners: listeners.into_iter().chain(outgoing).collect(),
        live: live.clone(),
        threads: config.threads.get(),
        snapshot: reader.clone(),
        hints,
        phases: drain.phases(),
        metrics: metrics.data_path(),
    })?;
    let workers = Rc::new(workers);
    let (in_force, seen) = watch::channel(InForce::new(addresses.clone(), at));
    let writer = Rc::new(writer);
    let roster = Rc::new(discovery::Roster::new(writer.clone(), &config.backends, events.clone()));
    let view = admin::View {
        snapshot: reader.clone(),
        drain: drain.clone(),
        events: events.clone(),
        identity: admin::Identity::new(started, given.generation),
        in_force: seen,
        sources: roster.states(),
        replaced: Rc::default(),
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
    let (moves_now, moves) = watch::channel(reload::moves(&config));
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
        fixed_admin: given.is_admin_instead(),
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
    let reloader = Reloader::new(&config, parts);
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
    Ok(Bound {
        addresses,
        admin,
        drain,
        reader,
        live,
        commands,
        predecessor,
        outgoing: outgoing_at,
        stood_by,
        control,
    })
}

fn first_snapshot(config: &Config, given: &Given, now: std::time::Instant) -> Snapshot {
    let mut entries = discovery::entries(&config.backends, now);
    given.restore(&mut entries, now);
    Snapshot { generation: 0, zone: config.zone.clone(), policy: config.balance, entries }
}
