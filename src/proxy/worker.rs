//! A data thread: one single-threaded runtime, its connections, and the mailbox that other threads
//! hand connections to.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::connect::Restraint;
use super::connection::Unserved;
use super::listener::Listening;
use super::relay::{PipeMemory, Pipes};
use super::table::Table;
use super::{Live, Permit, connect, connection, sweep};
use crate::balance::Turn;
use crate::drain::Phases;
use crate::metrics::{ConnectTimes, DataPath};
use crate::model::{CloseReason, Hints, Reader};

/// Why a data thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The operating system gives no thread.
    #[error("cannot start a data thread: {0}")]
    Thread(io::Error),
    /// The runtime (epoll, eventfd) cannot be made, usually for want of file descriptors.
    #[error("cannot start the runtime of a data thread: {0}")]
    Runtime(io::Error),
    /// A listener cannot be registered with the runtime.
    #[error("cannot listen in a data thread: {0}")]
    Listener(io::Error),
}

/// What closing the last connections may take.
const LAST_MOMENTS: Duration = Duration::from_millis(250);

/// What all data threads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) live: Live,
    pub(super) snapshot: Reader,
    pub(super) hints: Hints,
    pub(super) pipes: PipeMemory,
    pub(super) metrics: DataPath,
}

/// What a data thread is asked from outside.
enum Message {
    /// Take over a connection accepted elsewhere.
    Serve(Unserved<StdStream>, Permit),
    /// Answer, to show that the thread is alive.
    Ping(oneshot::Sender<()>),
    /// Accept at these listeners too.
    Open(Vec<std::net::TcpListener>, oneshot::Sender<io::Result<()>>),
    /// Let other listeners be bound beside those that are open, or no longer.
    Share(bool, oneshot::Sender<io::Result<()>>),
    /// Close the listeners with these addresses.
    Close(Vec<SocketAddr>),
    /// End when the last connection has, and then at the latest.
    Retire(Instant),
}

/// The receiving side of a data thread.
pub(super) struct Mailbox {
    receiver: mpsc::UnboundedReceiver<Message>,
    door: Door,
}

/// The sending side, with the thread's load.
#[derive(Clone, Debug)]
pub(super) struct Door {
    sender: mpsc::UnboundedSender<Message>,
    load: Arc<AtomicUsize>,
}

impl Default for Mailbox {
    fn default() -> Self {
        // Unbounded in type only: permits bound the connections that can be under way.
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { receiver, door: Door { sender, load: Arc::default() } }
    }
}

impl Mailbox {
    pub(super) fn door(&self) -> Door {
        self.door.clone()
    }
}

/// A running data thread.
#[derive(Debug)]
pub struct WorkerHandle {
    door: Door,
    ended: watch::Receiver<bool>,
}

impl WorkerHandle {
    /// Asks the thread for a sign of life; false when its loop has ended. Bound the wait yourself.
    pub async fn ping(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.door.sender.send(Message::Ping(answer)).is_ok() && answered.await.is_ok()
    }

    /// Accepts at these listeners too: at all of them, or at none.
    ///
    /// # Errors
    /// The thread has no descriptors left to wait for them, or it has ended.
    pub async fn open(&self, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        self.ask(|answer| Message::Open(listeners, answer)).await
    }

    /// Lets listeners at the same ports be bound beside those that are open
    /// ([`crate::net::listen_beside`]), or no longer.
    ///
    /// # Errors
    /// The kernel refuses, or the thread has ended.
    pub async fn share_ports(&self, shared: bool) -> io::Result<()> {
        self.ask(|answer| Message::Share(shared, answer)).await
    }

    async fn ask(
        &self,
        message: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Message,
    ) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the data thread has ended");
        self.door.sender.send(message(answer)).map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Closes the listeners with these addresses; their connections live on.
    pub fn close(&self, addresses: Vec<SocketAddr>) {
        // A thread that has ended has no listener.
        let _ = self.door.sender.send(Message::Close(addresses));
    }

    /// Lets the thread end when its last connection has ended, and at this moment at the latest. Close
    /// its listeners first.
    pub fn retire(&self, until: Instant) {
        // A thread that has ended need not.
        let _ = self.door.sender.send(Message::Retire(until));
    }

    /// Waits until the thread has closed its last connection.
    pub async fn ended(&self) {
        // The sender is dropped with the thread's stack.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// What a data thread starts with.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) mailbox: Mailbox,
    pub(super) doors: Vec<Door>,
    pub(super) listeners: Vec<std::net::TcpListener>,
    pub(super) phases: Phases,
}

/// The state of one data thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) turn: RefCell<Turn>,
    pub(super) restraint: RefCell<Restraint>,
    pub(super) table: Table,
    pub(super) pipes: Pipes,
    pub(super) connect_times: ConnectTimes,
    doors: Vec<Door>,
    own: Door,
    /// Notified when the last connection has ended.
    idle: Notify,
}

/// Counts a connection of its thread for as long as it lives.
struct Load(Rc<Worker>);

impl Drop for Load {
    fn drop(&mut self) {
        if self.0.own.load.fetch_sub(1, Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Worker {
    /// Gives an accepted connection to the least loaded thread.
    pub(super) fn dispatch(self: &Rc<Self>, stream: TcpStream, permit: Permit) {
        let door = self.doors.iter().min_by_key(|door| door.load.load(Relaxed));
        match door {
            Some(door) if !Arc::ptr_eq(&door.load, &self.own.load) => match stream.into_std() {
                Ok(stream) => {
                    door.load.fetch_add(1, Relaxed);
                    let stream = Unserved::new(stream);
                    if door.sender.send(Message::Serve(stream, permit)).is_err() {
                        door.load.fetch_sub(1, Relaxed);
                        debug!("a data thread has ended; its connection is closed");
                    }
                }
                Err(error) => debug!(%error, "cannot hand a connection over"),
            },
            _ => {
                self.own.load.fetch_add(1, Relaxed);
                self.serve(stream, permit);
            }
        }
    }

    /// Serves a connection that another thread accepted.
    fn take_over(self: &Rc<Self>, stream: Unserved<StdStream>, permit: Permit) {
        let Some(stream) = stream.served() else { return };
        match TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, permit),
            Err(error) => {
                drop(Load(self.clone()));
                debug!(%error, "cannot take a connection over");
            }
        }
    }

    /// Serves a connection whose load has been counted already.
    fn serve(self: &Rc<Self>, stream: TcpStream, permit: Permit) {
        let (load, client) = (Load(self.clone()), Unserved::new(stream));
        tokio::task::spawn_local(async move {
            let connected = connect::connect(&load.0).await;
            if let Some(record) = connection::open(&load.0, client, connected) {
                connection::carry(&load.0, &record).await;
            }
            drop(permit);
        });
    }

    /// Waits until the thread has no connection.
    async fn emptied(&self) {
        loop {
            let idle = self.idle.notified();
            if self.own.load.load(Relaxed) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Starts a data thread and waits until it serves, or says why not.
pub(super) fn start(builder: thread::Builder, start: Start) -> Result<WorkerHandle, WorkerError> {
    let door = start.mailbox.door();
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let (end, ended) = watch::channel(false);
    builder
        .spawn(move || {
            let _end = end;
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())
                .map_err(WorkerError::Runtime);
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(run(start, &ready));
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })
        .map_err(WorkerError::Thread)?;
    is_ready.recv().unwrap_or_else(|_| {
        Err(WorkerError::Thread(io::Error::other("it ended before it was ready")))
    })?;
    Ok(WorkerHandle { door, ended })
}

/// Serves on the current local runtime until the drain is over.
pub(super) async fn run(
    start: Start,
    ready: &std::sync::mpsc::SyncSender<Result<(), WorkerError>>,
) {
    let Start { shared, mailbox, doors, listeners, mut phases } = start;
    let Mailbox { mut receiver, door: own } = mailbox;
    let pipes = Pipes::new(shared.pipes.clone());
    let connect_times = shared.metrics.connect_times();
    let worker = Rc::new(Worker {
        shared,
        turn: RefCell::new(Turn::new(fastrand::u64(..))),
        restraint: RefCell::new(Restraint::new()),
        table: Table::default(),
        pipes,
        connect_times,
        doors,
        own,
        idle: Notify::new(),
    });
    let mut listening = Listening::new(worker.clone(), phases.clone());
    if let Err(error) = listening.open(listeners) {
        let _ = ready.send(Err(WorkerError::Listener(error)));
        return;
    }
    let _ = ready.send(Ok(()));
    let mut essential = JoinSet::new();
    essential.spawn_local(sweep::run(worker.clone()));
    let mail = worker.clone();
    let (retire, mut retired) = oneshot::channel();
    essential.spawn_local(async move {
        let mut retire = Some(retire);
        loop {
            let message = tokio::select! {
                () = listening.failed() => return,
                message = receiver.recv() => message,
            };
            match message {
                None => return,
                Some(Message::Serve(stream, permit)) => mail.take_over(stream, permit),
                // An asker that gave up waiting needs no answer.
                Some(Message::Ping(answer)) => drop(answer.send(())),
                Some(Message::Open(listeners, answer)) => {
                    let _ = answer.send(listening.open(listeners));
                }
                Some(Message::Share(shared, answer)) => {
                    let _ = answer.send(listening.share(shared));
                }
                Some(Message::Close(addresses)) => listening.close(&addresses),
                Some(Message::Retire(until)) => {
                    retire.take().map(|retire| retire.send(until));
                }
            }
        }
    });
    let until = tokio::select! {
        biased;
        () = phases.draining() => None,
        Ok(until) = &mut retired => Some(until),
        // None of them ends while the proxy serves: this is a defect. The whole must not go on
        // without a part that matters. What hears of the drain before this task does may end.
        _ = essential.join_next() => if phases.current().is_over() { None } else { return },
    };
    tokio::select! {
        () = phases.ending() => {}
        () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        () = worker.emptied() => {}
    }
    worker.table.close_all(CloseReason::Shutdown);
    // Clients that wait for a backend still are not waited for.
    let _ = timeout(LAST_MOMENTS, worker.emptied()).await;
}
