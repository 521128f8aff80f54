//! The control work of each cluster, for as long as it is served.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

use super::cluster::Common;
use super::error::StartError;
use crate::drain::Phases;
use crate::events::{self, Events};
use crate::model::{ClusterName, Reader};
use crate::proxy::WorkerHandle;
use crate::{discovery, health};

/// The control work of one cluster.
pub(super) struct Task {
    /// Which it is.
    pub(super) leaving: Rc<Cell<bool>>,
    pub(super) health: health::Parts,
    pub(super) discovery: discovery::Parts,
    pub(super) reader: Reader,
    pub(super) events: Events,
    pub(super) moves: watch::Receiver<events::Rules>,
    pub(super) workers: Rc<Vec<WorkerHandle>>,
    pub(super) phases: Phases,
    /// It is no longer in the configuration.
    pub(super) retired: watch::Receiver<bool>,
}

impl Task {
    /// Runs until the last thread of a cluster has ended that is no longer served.
    ///
    /// # Errors
    /// A thread or a part of the work has ended that nobody told to.
    async fn run(self) -> Result<Rc<Cell<bool>>, StartError> {
        let Self { leaving, health, discovery, reader, events, moves, workers, phases, retired } =
            self;
        let mut is_retired = retired.clone();
        let (mut draining, mut unwanted) = (phases.clone(), retired);
        // Who is wanted is nobody's business any more when the end has begun: after a handover, all
        // connections leave.
        let following = async {
            tokio::select! {
                biased;
                () = draining.draining() => pending().await,
                _ = unwanted.wait_for(|retired| *retired) => pending().await,
                () = discovery::run(discovery) => {}
            }
        };
        let died = async {
            let ended = workers.iter().map(|worker| Box::pin(worker.ended()));
            futures_util::future::select_all(ended).await;
            // A thread that hears of the drain first may end before this task hears of it.
            if *is_retired.borrow_and_update() {
                for worker in workers.iter() {
                    worker.ended().await;
                }
            } else if phases.current().is_over() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            () = died => if leaving.get() { Ok(leaving) } else { Err(StartError::WorkerDied) },
            () = health::run(health) => Err(StartError::ControlDied),
            () = following => Err(StartError::ControlDied),
            () = events::watch(reader, events, moves) => Err(StartError::ControlDied),
        }
    }
}

/// Does the control work of the clusters that come, until something ends that nobody told to.
pub(super) async fn tend(mut tasks: mpsc::UnboundedReceiver<Task>, common: Common) -> StartError {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(task) = tasks.recv() => {
                running.spawn_local(task.run());
            }
            Some(ended) = running.join_next() => match ended {
                Ok(Ok(leaving)) => {
                    let shown = common.shown.all();
                    let name = shown.iter().find(|one| Rc::ptr_eq(&one.leaving, &leaving));
                    let name = name.and_then(|one| one.name.clone());
                    drop(shown);
                    common.shown.remove(&leaving);
                    common.commanded.remove(&leaving);
                    info!(cluster = name.as_ref().map(ClusterName::as_str), "cluster has left");
                }
                Ok(Err(error)) => return error,
                Err(_) => return StartError::ControlDied,
            },
            else => pending().await,
        }
    }
}
