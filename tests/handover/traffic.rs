//! Clients of the echoing backends that miss no byte and tell every refusal and reset.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

/// Longer than any request takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that a kept connection makes one after another before it pauses, as a client does that
/// lists several kinds of objects.
const BURST: u32 = 5;

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    opened: AtomicU64,
    moved: AtomicU64,
    faults: Mutex<Vec<String>>,
}

/// What has come of it.
#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Connections opened for one request each.
    pub(crate) opened: u64,
    /// Connections that were closed while they were idle, and opened again.
    pub(crate) moved: u64,
    pub(crate) faults: Vec<String>,
}

/// A load on a thread of its own.
pub(crate) struct Traffic {
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// So many connections with a burst of requests every `period` each, and so many connections for one
    /// request each a second.
    pub(crate) fn start(
        target: SocketAddr,
        kept: usize,
        period: Duration,
        new_a_second: u32,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn({
            let counts = counts.clone();
            move || {
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for _ in 0..kept {
                        tasks.spawn(keep(target, period, counts.clone()));
                    }
                    tasks.spawn(open(target, new_a_second, counts));
                    // Nothing is ever sent, so this is the end of the sender.
                    let _ = stopped.await;
                });
            }
        });
        Self { counts, stop: Some(stop), thread: Some(thread) }
    }

    /// Requests answered so far, on both kinds of connections.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Relaxed)
    }

    /// Ends the load.
    pub(crate) fn stop(mut self) -> Outcome {
        self.end();
        Outcome {
            requests: self.counts.requests.load(Relaxed),
            opened: self.counts.opened.load(Relaxed),
            moved: self.counts.moved.load(Relaxed),
            faults: self.counts.faults.lock().unwrap().clone(),
        }
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

fn fault(counts: &Counts, what: &str, error: &io::Error) {
    counts.faults.lock().unwrap().push(format!("{what}: {error}"));
}

/// Sends random bytes and wants them back; on a new connection, after the greeting. The client speaks
/// first, as with TLS and HTTP.
async fn exchange(stream: &mut TcpStream, greets: bool) -> io::Result<()> {
    let bytes: Vec<u8> = (0..fastrand::usize(1..4000)).map(|_| fastrand::u8(..)).collect();
    let mut back = vec![0; bytes.len() + usize::from(greets)];
    let (mut reader, mut writer) = stream.split();
    timeout(PATIENCE, async {
        tokio::try_join!(writer.write_all(&bytes), reader.read_exact(&mut back))
    })
    .await??;
    let greeted = !greets || back[0].is_ascii_digit();
    let exact = back[usize::from(greets)..] == bytes;
    if greeted && exact { Ok(()) } else { Err(io::Error::other("other bytes came back")) }
}

/// One kept connection; opened again when it was closed while it was idle.
async fn keep(target: SocketAddr, period: Duration, counts: Arc<Counts>) {
    loop {
        let mut stream = match TcpStream::connect(target).await {
            Ok(stream) => stream,
            Err(error) => {
                fault(&counts, "a kept connection", &error);
                tokio::time::sleep(period).await;
                continue;
            }
        };
        let mut greets = true;
        loop {
            let mut burst = Ok(());
            for _ in 0..BURST {
                burst = exchange(&mut stream, greets).await;
                if burst.is_err() {
                    break;
                }
                counts.requests.fetch_add(1, Relaxed);
                greets = false;
            }
            if let Err(error) = burst {
                fault(&counts, "a request", &error);
                break;
            }
            let next = Instant::now() + period.mul_f64(0.8 + 0.4 * fastrand::f64());
            tokio::select! {
                // Who has been told to go asks nothing more.
                biased;
                end = stream.read_u8() => {
                    counts.moved.fetch_add(1, Relaxed);
                    match end {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                        Err(error) => fault(&counts, "an idle connection", &error),
                        Ok(byte) => fault(&counts, "idle", &io::Error::other(format!("a byte {byte}"))),
                    }
                    break;
                }
                () = sleep_until(next) => {}
            }
        }
    }
}

/// New connections at a steady pace.
async fn open(target: SocketAddr, a_second: u32, counts: Arc<Counts>) {
    let mut ticks = interval(Duration::from_secs(1) / a_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    loop {
        ticks.tick().await;
        let counts = counts.clone();
        requests.spawn(async move {
            let once = async {
                let mut stream = TcpStream::connect(target).await?;
                exchange(&mut stream, true).await
            };
            match once.await {
                Ok(()) => {
                    counts.opened.fetch_add(1, Relaxed);
                    counts.requests.fetch_add(1, Relaxed);
                }
                Err(error) => fault(&counts, "a new connection", &error),
            }
        });
        while requests.try_join_next().is_some() {}
    }
}
