//! Clients: one exchange, many at once, and what runs in the background meanwhile.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::interrupt;
use crate::wire;

/// Most that a client reads at once.
const CHUNK: u64 = 256 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn exchange(&mut self, answer: u64) -> io::Result<Duration> {
        self.buffer.resize(usize::try_from(answer.min(CHUNK)).map_err(io::Error::other)?, 0);
        let began = Instant::now();
        wire::ask(&mut self.stream, answer).await?;
        wire::hear(&mut self.stream, answer, &mut self.buffer).await?;
        Ok(began.elapsed())
    }

    /// Asks without waiting for the answer.
    pub(crate) async fn ask(&mut self, answer: u64) -> io::Result<()> {
        wire::ask(&mut self.stream, answer).await
    }

    /// Reads so much of an answer's rest, a piece at each tick.
    pub(crate) async fn sip(&mut self, bytes: u64, piece: u64, tick: Duration) -> io::Result<()> {
        self.buffer.resize(usize::try_from(piece).map_err(io::Error::other)?, 0);
        let mut left = bytes;
        while left > 0 {
            let step = left.min(piece);
            // What is left never looks like the beginning of an answer.
            let mut filled = 0;
            while filled < step {
                let room = usize::try_from(step - filled).map_err(io::Error::other)?;
                let read =
                    tokio::io::AsyncReadExt::read(&mut self.stream, &mut self.buffer[..room]);
                match read.await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => filled += count as u64,
                }
            }
            left -= step;
            tokio::time::sleep(tick).await;
        }
        Ok(())
    }
}

/// Runs so many tasks at once to their ends.
pub(crate) async fn at_once<T, F>(count: u64, task: impl Fn(u64) -> F) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut tasks: JoinSet<io::Result<T>> = (0..count).map(task).collect();
    let mut results = Vec::new();
    while let Some(done) = tasks.join_next().await {
        results.push(done.map_err(io::Error::other)??);
    }
    Ok(results)
}

/// Connections that have each been answered once.
pub(crate) async fn connections(address: SocketAddr, count: u64) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    // Not all at once: that is a scenario of its own.
    while (clients.len() as u64) < count {
        let next = 50.min(count - clients.len() as u64);
        let batch = at_once(next, |_| async move {
            let mut client = Client::connect(address).await?;
            client.exchange(1024).await?;
            client.buffer = Vec::new();
            Ok(client)
        });
        clients.extend(batch.await?);
    }
    Ok(clients)
}

/// Clients that ask again and again until the time is over; how long each answer took.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    clients: u64,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    let connections = connections(address, clients).await?;
    let until = Instant::now() + time;
    let mut tasks = JoinSet::new();
    for mut client in connections {
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                times.push(client.exchange(1024).await?);
            }
            io::Result::Ok(times)
        });
    }
    gather(tasks).await
}

/// Clients that ask at a pace of their own, however long the others take.
pub(crate) async fn paced(
    address: SocketAddr,
    clients: u32,
    pace: Duration,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    let connections = connections(address, clients.into()).await?;
    let begin = tokio::time::Instant::now() + pace;
    let mut tasks = JoinSet::new();
    for (number, mut client) in (0..).zip(connections) {
        tasks.spawn(async move {
            let mut times = Vec::new();
            let mut ticks = tokio::time::interval_at(begin + pace * number / clients, pace);
            while begin.elapsed() < time {
                ticks.tick().await;
                times.push(client.exchange(1024).await?);
            }
            io::Result::Ok(times)
        });
    }
    gather(tasks).await
}

async fn gather(mut tasks: JoinSet<io::Result<Vec<Duration>>>) -> io::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done.map_err(io::Error::other)??);
    }
    times.sort_unstable();
    Ok(times)
}

/// Clients on a thread of their own, so that measured ones do not wait for them. They end when
/// told, or when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Background {
    /// Streams of answers of so many bytes, as fast as they come.
    pub(crate) fn bulk(address: SocketAddr, streams: u64, answer: u64) -> Self {
        Self::start(move |stop| async move {
            let task = |_| {
                let stop = stop.clone();
                async move {
                    let mut client = Client::connect(address).await?;
                    while !stop.load(Relaxed) {
                        client.exchange(answer).await?;
                    }
                    Ok(())
                }
            };
            at_once(streams, task).await.map(drop)
        })
    }

    /// Readers that ask for so many bytes and take 64 KiB at each tick.
    pub(crate) fn slow(address: SocketAddr, readers: u64, answer: u64, tick: Duration) -> Self {
        Self::start(move |stop| async move {
            let task = |_| {
                let stop = stop.clone();
                async move {
                    let piece = CHUNK / 4;
                    let mut client = Client::connect(address).await?;
                    client.ask(answer).await?;
                    let mut left = answer;
                    while left > 0 && !stop.load(Relaxed) {
                        client.sip(left.min(piece), piece, tick).await?;
                        left -= left.min(piece);
                    }
                    Ok(())
                }
            };
            at_once(readers, task).await.map(drop)
        })
    }

    fn start<F>(load: impl FnOnce(Arc<AtomicBool>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>>,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || interrupt::run(load(flag)));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it, and tells whether all went well until then.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.stop.store(true, Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("a client panicked")),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // What is measured has failed already.
            drop(thread.join());
        }
    }
}
