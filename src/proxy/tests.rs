//! Whole connections through a data thread whose clock is paused: real sockets, virtual hours.

mod connecting;
mod ending;
mod turns;

use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::relay::PipeMemory;
use super::worker::{self, Mailbox, Shared, Start};
use super::{Live, Settings};
use crate::config::{Connect, Connections, Rebalance};
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::model::{
    Active, Backend, BackendName, CloseReason, Condition, Doubt, Entry, Hint, Hints, Policy,
    Snapshot, State, Writer, store,
};
use crate::net;

/// A data thread in this one, with one backend that the test plays itself.
struct Bench {
    server: TcpListener,
    proxy: std::net::SocketAddr,
    backend: Arc<Backend>,
    writer: Writer,
    hints: tokio::sync::mpsc::Receiver<Hint>,
    metrics: Metrics,
    /// Keeps connections away from the other backend.
    busy: Vec<Active>,
    _drain: Drain,
}

impl Bench {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let backend = Arc::new(Backend::new(BackendName::new("cp1"), address.into(), None));
        let now = Instant::now().into_std();
        let condition = Condition { state: State::Ready, ..Condition::unknown(now) };
        let entry = Entry::new(backend.clone(), [address].into(), condition);
        // Another one that is ready, so that the first one's connections may be reset, but so busy
        // that it gets none.
        let other = Entry {
            backend: Arc::new(Backend::new(BackendName::new("cp2"), address.into(), None)),
            ..entry.clone()
        };
        let busy = (0..100).map(|_| other.backend.occupy()).collect();
        let (writer, reader) = store(Snapshot {
            generation: 0,
            zone: None,
            policy: Policy::LeastConnections,
            entries: vec![entry, other],
        });
        let (hints, hint_receiver) = Hints::channel();
        let seconds = Duration::from_secs;
        let connections = Connections {
            max: NonZeroUsize::new(1000).unwrap(),
            keepalive: seconds(15),
            user_timeout: seconds(5),
            drain_timeout: seconds(60),
        };
        let metrics = Metrics::new().unwrap();
        let shared = Arc::new(Shared {
            live: Live::new(Settings {
                connect: Connect { timeout: seconds(1), hedge_after: Duration::from_millis(200) },
                connections,
                rebalance: Rebalance {
                    enabled: true,
                    after: seconds(30),
                    window: seconds(300),
                    quiet_for: seconds(2),
                },
            }),
            snapshot: reader,
            hints,
            pipes: PipeMemory::new(1),
            metrics: metrics.data_path(None),
        });
        let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let proxy = listener.local_addr().unwrap();
        let mailbox = Mailbox::default();
        let drain = Drain::default();
        let start = Start {
            shared,
            doors: vec![mailbox.door()],
            mailbox,
            listeners: vec![listener],
            phases: drain.phases(),
        };
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        spawn_local(async move { worker::run(start, &ready).await });
        tokio::task::yield_now().await;
        is_ready.recv().unwrap().unwrap();
        Self { server, proxy, backend, writer, hints: hint_receiver, metrics, busy, _drain: drain }
    }

    /// A client and the server's end of its connection.
    async fn connection(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy).await.unwrap();
        let (server, _) = self.server.accept().await.unwrap();
        (client, server)
    }

    /// Publishes that the backend died: its probes have failed for two seconds.
    fn declare_dead(&self) {
        let now = Instant::now().into_std();
        self.writer.update(|snapshot| {
            let condition = &mut snapshot.entries[0].condition;
            condition.state = State::Dead;
            condition.since = now;
            condition.failing_since = now.checked_sub(Duration::from_secs(2));
            condition.reset_from = Some(now);
        });
    }
}

/// Runs a test on a local runtime with a paused clock. It moves on only when nothing else can
/// happen, which the sockets of this process know at once.
fn paused<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(LocalOptions::default());
    runtime.unwrap().block_on(test())
}

async fn exchange(from: &mut TcpStream, to: &mut TcpStream, text: &[u8]) {
    from.write_all(text).await.unwrap();
    let mut received = vec![0; text.len()];
    to.read_exact(&mut received).await.unwrap();
    assert_eq!(received, text);
}

#[test]
fn a_connection_silent_for_hours_still_carries_bytes() {
    paused(|| async {
        let bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        exchange(&mut client, &mut server, b"hello").await;
        exchange(&mut server, &mut client, b"world").await;
        for silence in [15 * 60, 24 * 3600] {
            tokio::time::sleep(Duration::from_secs(silence)).await;
            exchange(&mut server, &mut client, b"an event").await;
            exchange(&mut client, &mut server, b"a request").await;
            exchange(&mut server, &mut client, b"an answer").await;
        }
        assert_eq!(bench.backend.counters.active(), 1);
    });
}

#[test]
fn silence_after_client_bytes_raises_a_doubt_within_a_second_or_so() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        let sent = Instant::now();
        exchange(&mut client, &mut server, b"a request").await;
        let Some(Hint::Doubt { doubt, backend, since }) = bench.hints.recv().await else {
            panic!("no doubt");
        };
        assert_eq!((doubt, backend.name.as_str()), (Doubt::Silence, "cp1"));
        assert!(since >= sent.into_std());
        let after = sent.elapsed().as_millis();
        assert!((1000..1100).contains(&after), "after {after} ms");
    });
}

#[test]
fn an_answer_in_time_raises_none() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        for _ in 0..100 {
            exchange(&mut client, &mut server, b"a request").await;
            tokio::time::sleep(Duration::from_millis(600)).await;
            exchange(&mut server, &mut client, b"an answer").await;
        }
        assert!(bench.hints.try_recv().is_err());
    });
}

#[test]
fn unanswered_clients_of_a_dead_backend_are_reset_at_once_and_silent_ones_later() {
    paused(|| async {
        let bench = Bench::new().await;
        let (mut asking, mut server) = bench.connection().await;
        let (mut watching, mut other) = bench.connection().await;
        exchange(&mut other, &mut watching, b"an event").await;
        exchange(&mut asking, &mut server, b"a request").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let dead_at = Instant::now();
        bench.declare_dead();
        let error = asking.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(dead_at.elapsed() < Duration::from_millis(200));
        let error = watching.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let after = dead_at.elapsed().as_secs_f64();
        assert!((5.0..10.3).contains(&after), "after {after} s");
        assert_eq!(bench.backend.counters.closes(CloseReason::BackendDead), 2);
        let error = server.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "both legs");
    });
}

#[test]
fn nothing_is_reset_while_no_other_backend_is_ready() {
    paused(|| async {
        let bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        exchange(&mut client, &mut server, b"a request").await;
        bench.writer.update(|snapshot| snapshot.entries[1].condition.state = State::NotReady);
        bench.declare_dead();
        tokio::time::sleep(Duration::from_hours(1)).await;
        exchange(&mut server, &mut client, b"an answer after all").await;
    });
}

#[test]
fn a_half_closed_connection_is_reaped_after_a_minute_of_silence_only() {
    paused(|| async {
        let bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "FIN as FIN");
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            exchange(&mut server, &mut client, b"still talking").await;
        }
        let silent_from = Instant::now();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "FIN");
        let after = silent_from.elapsed().as_secs();
        assert!((60..=65).contains(&after), "after {after} s");
        assert_eq!(bench.backend.counters.closes(CloseReason::HalfClosed), 1);
    });
}

#[test]
fn a_reader_that_pauses_longer_than_half_closed_patience_gets_every_byte() {
    const LENGTH: usize = 1 << 20;
    paused(|| async {
        let bench = Bench::new().await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut client = socket.connect(bench.proxy).await.unwrap();
        let (mut server, _) = bench.server.accept().await.unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(LENGTH).collect();
        server.write_all(&bytes).await.unwrap();
        server.shutdown().await.unwrap();
        for minutes in [2, 60] {
            tokio::time::sleep(Duration::from_mins(minutes)).await;
            let mut some = vec![0; 1000];
            client.read_exact(&mut some).await.unwrap();
        }
        let counters = &bench.backend.counters;
        assert_eq!(counters.bytes(crate::model::Direction::Down), LENGTH as u64, "FIN is queued");
        assert_eq!(counters.closes(CloseReason::HalfClosed), 0);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest == bytes[2000..], "{} of {}", rest.len(), LENGTH - 2000);
        // It never says FIN itself: now that it has everything, the minute counts.
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(counters.closes(CloseReason::HalfClosed), 1);
    });
}

#[test]
fn a_reset_of_a_stalled_client_is_seen() {
    paused(|| async {
        let bench = Bench::new().await;
        let (client, mut server) = bench.connection().await;
        // The client reads nothing: the server can send until every buffer is full.
        let flood = vec![7; 1 << 20];
        let sender = spawn_local(async move {
            let mut sent = 0;
            loop {
                match server.write(&flood).await {
                    Ok(count) => sent += count,
                    Err(error) => return (sent, error.kind()),
                }
            }
        });
        let counters = &bench.backend.counters;
        let mut last = 1;
        while last != counters.bytes(crate::model::Direction::Down) {
            last = counters.bytes(crate::model::Direction::Down);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(!sender.is_finished(), "the sender is held back");
        net::reset_on_close(&client);
        drop(client);
        let (sent, kind) = sender.await.unwrap();
        assert!(sent > 0);
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset);
        assert_eq!(counters.closes(CloseReason::ClientReset), 1);
    });
}

#[test]
fn the_last_words_of_a_backend_that_resets_reach_the_client() {
    paused(|| async {
        let bench = Bench::new().await;
        let (mut client, mut server) = bench.connection().await;
        exchange(&mut client, &mut server, b"a request").await;
        server.write_all(b"go away").await.unwrap();
        // Sent after the server stopped reading: it answers with a reset.
        client.write_all(b"unread").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(server);
        let mut words = [0; 7];
        client.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"go away");
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "RST as RST");
        let _alive = Rc::new(bench);
    });
}

/// So many connections, each with a request that has been answered.
async fn crowd(bench: &Bench, size: usize) -> Vec<(TcpStream, TcpStream)> {
    let mut crowd = Vec::new();
    for _ in 0..size {
        let (mut client, mut server) = bench.connection().await;
        exchange(&mut client, &mut server, &record(100)).await;
        exchange(&mut server, &mut client, &record(200)).await;
        crowd.push((client, server));
    }
    crowd
}

/// A TLS record of application data.
fn record(length: u8) -> Vec<u8> {
    let mut bytes = vec![23, 3, 3, 0, length];
    bytes.resize(5 + usize::from(length), 0xaa);
    bytes
}

/// How many of the clients have been told FIN, and nothing else.
fn told_to_go(crowd: &[(TcpStream, TcpStream)]) -> usize {
    let gone = |(client, _): &&(TcpStream, TcpStream)| match client.try_read(&mut [0; 1]) {
        Ok(0) => true,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
        other => panic!("neither open nor closed in order: {other:?}"),
    };
    crowd.iter().filter(gone).count()
}

/// The other backend comes back without any connection.
fn other_recovers(bench: &mut Bench) {
    bench.busy.clear();
    let now = Instant::now().into_std();
    bench.writer.update(|snapshot| snapshot.entries[1].condition.recovered_at = Some(now));
}

#[test]
fn half_of_the_quiet_connections_move_to_a_recovered_backend_within_the_window() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let crowd = crowd(&bench, 60).await;
        other_recovers(&mut bench);
        tokio::time::sleep(Duration::from_secs(29)).await;
        assert_eq!(told_to_go(&crowd), 0, "not before `after`");
        tokio::time::sleep(Duration::from_secs(150)).await;
        let halfway = told_to_go(&crowd);
        tokio::time::sleep(Duration::from_hours(1)).await;
        let moved = told_to_go(&crowd);
        assert!((18..=42).contains(&moved), "{moved} of 60");
        assert!(halfway < moved, "spread over the window");
        assert_eq!(bench.backend.counters.closes(CloseReason::Rebalanced), moved as u64);
        assert_eq!(bench.backend.counters.active(), 60 - moved);
    });
}

#[test]
fn busy_connections_do_not_move() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let mut crowd = crowd(&bench, 20).await;
        // A request without an answer; half a record; and requests every second.
        for (client, server) in &mut crowd[..5] {
            exchange(client, server, &record(100)).await;
            exchange(server, client, &record(30)).await;
        }
        for (client, server) in &mut crowd[5..10] {
            exchange(server, client, &record(100)[..50]).await;
            let _ = client;
        }
        other_recovers(&mut bench);
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for (client, server) in &mut crowd[10..] {
                exchange(client, server, &record(100)).await;
                exchange(server, client, &record(100)).await;
            }
        }
        assert_eq!(told_to_go(&crowd), 0);
    });
}

#[test]
fn an_unready_backend_is_left_at_quiet_moments_within_the_drain_timeout() {
    paused(|| async {
        let bench = Bench::new().await;
        let mut crowd = crowd(&bench, 40).await;
        let state = |state| {
            bench.writer.update(|snapshot| snapshot.entries[0].condition.state = state);
        };
        state(State::NotReady);
        tokio::time::sleep(Duration::from_secs(20)).await;
        let early = told_to_go(&crowd);
        assert!((1..40).contains(&early), "{early} of 40 after a third of the time");
        state(State::Ready);
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(told_to_go(&crowd), early, "ready again: nobody else has to go");
        state(State::NotReady);
        crowd.retain(|(client, _)| client.try_read(&mut [0; 1]).is_err());
        // One is busy all the time: it goes when its time is over, and then some.
        let (mut client, mut server) = crowd.pop().unwrap();
        exchange(&mut client, &mut server, &record(100)).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(told_to_go(&crowd), crowd.len());
        exchange(&mut server, &mut client, b"part of an answer").await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "FIN");
    });
}

#[test]
fn an_unready_backend_is_not_left_for_nothing() {
    paused(|| async {
        let bench = Bench::new().await;
        let crowd = crowd(&bench, 5).await;
        bench.writer.update(|snapshot| {
            for entry in &mut snapshot.entries {
                entry.condition.state = State::NotReady;
            }
        });
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(told_to_go(&crowd), 0);
    });
}
