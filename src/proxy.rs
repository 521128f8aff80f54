//! The data plane: accepts clients, connects them to a backend and relays bytes until one end is
//! done. Everything of one connection happens on one data thread.

mod budget;
mod connect;
mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod listener;
mod permits;
mod relay;
mod settings;
mod sweep;
mod table;
mod worker;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use crate::drain::Phases;
use crate::metrics::DataPath;
use crate::model::{Hints, Reader};

pub use permits::{Permit, Permits};
pub use relay::PipeMemory;
pub use settings::{Live, Settings};
pub use worker::{WorkerError, WorkerHandle};

use worker::{Mailbox, Shared};

/// What the data plane is built from.
#[derive(Debug)]
pub struct Parts {
    /// The cluster, if the process serves several: for the names of its threads.
    pub cluster: Option<String>,
    /// Bound listeners.
    pub listeners: Vec<TcpListener>,
    /// What a reload can change.
    pub live: Live,
    /// Data threads.
    pub threads: usize,
    /// What pipes may take, together with those of other clusters.
    pub pipes: PipeMemory,
    /// The current snapshot.
    pub snapshot: Reader,
    /// Where suspicion goes.
    pub hints: Hints,
    /// When to stop.
    pub phases: Phases,
    /// Counters and histograms.
    pub metrics: DataPath,
}

/// Starts the data threads. The first one accepts; with more than one, it hands each connection to
/// the least loaded.
///
/// # Errors
/// A thread or its runtime cannot be made.
pub fn start(parts: Parts) -> Result<Vec<WorkerHandle>, WorkerError> {
    let shared = Arc::new(Shared {
        live: parts.live,
        snapshot: parts.snapshot,
        hints: parts.hints,
        pipes: parts.pipes,
        metrics: parts.metrics,
    });
    let mailboxes: Vec<Mailbox> = (0..parts.threads).map(|_| Mailbox::default()).collect();
    let doors = mailboxes.iter().map(Mailbox::door).collect::<Vec<_>>();
    let mut listeners = parts.listeners;
    let mut workers = Vec::with_capacity(parts.threads);
    for (number, mailbox) in mailboxes.into_iter().enumerate() {
        let listeners = std::mem::take(&mut listeners);
        let worker = worker::start(
            thread::Builder::new().name(match &parts.cluster {
                Some(cluster) => format!("data-{number}-{cluster}"),
                None => format!("data-{number}"),
            }),
            worker::Start {
                shared: shared.clone(),
                mailbox,
                doors: doors.clone(),
                listeners,
                phases: parts.phases.clone(),
            },
        )?;
        workers.push(worker);
    }
    Ok(workers)
}

#[cfg(test)]
mod tests;
