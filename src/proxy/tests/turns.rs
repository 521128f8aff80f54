//! Bulk beside a small message: who gets a turn when.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread;

use super::*;
use crate::model::Direction;

const MIB: u64 = 1024 * 1024;

/// Lets every task run once that is ready now. Unlike the runtime's own yield it does not have sockets
/// looked at anew: the runtime does so at a pace of its own, once in 61 tasks.
async fn next_round() {
    let mut begun = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut begun, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The end of a connection, for a thread of its own.
fn blocking(stream: TcpStream) -> std::net::TcpStream {
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

/// Bulk that is always ready: a server that sends for as long as there is room.
struct Bulk {
    bench: Rc<Bench>,
    written: Arc<AtomicU64>,
}

impl Bulk {
    async fn start(bench: &Rc<Bench>) -> Self {
        let (client, server) = bench.connection().await;
        let (mut client, mut server) = (blocking(client), blocking(server));
        // Both end with the connection.
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            while client.read(&mut buffer).is_ok_and(|count| count > 0) {}
        });
        let written = Arc::new(AtomicU64::new(0));
        let count = written.clone();
        thread::spawn(move || {
            let bytes = vec![7; 64 * 1024];
            while server.write_all(&bytes).is_ok() {
                count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        });
        Self { bench: bench.clone(), written }
    }

    fn relayed(&self) -> u64 {
        self.bench.backend.counters.bytes(Direction::Down)
    }

    /// Holds the data thread up until some turns' worth waits, or as much as the kernel takes so far.
    fn fill_up(&self) {
        let written = || self.written.load(Ordering::Relaxed);
        let mut before = written();
        while before < self.relayed() + 4 * MIB {
            thread::sleep(Duration::from_millis(5));
            let now = written();
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// Waits until it has used a turn up, with more to come.
    async fn use_a_turn_up(&self) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            self.fill_up();
            let before = self.relayed();
            next_round().await;
            if self.relayed() >= before + MIB {
                return;
            }
            assert!(std::time::Instant::now() < end, "bulk does not get going");
        }
    }
}

/// How many turns bulk takes, once it has used one up, before a small message is passed on that came
/// meanwhile: the most in so many rounds.
async fn turns_before_a_small_message(rounds: usize) -> usize {
    let bench = Rc::new(Bench::new().await);
    let (small, _server) = bench.connection().await;
    let mut small = blocking(small);
    let bulk = Bulk::start(&bench).await;
    let mut most = 0;
    for _ in 0..rounds {
        bulk.use_a_turn_up().await;
        let passed_on = bench.backend.counters.bytes(Direction::Up);
        small.write_all(b"x").unwrap();
        let mut turns = 0;
        while bench.backend.counters.bytes(Direction::Up) == passed_on {
            let before = bulk.relayed();
            next_round().await;
            turns += usize::from(bulk.relayed() > before);
        }
        most = most.max(turns);
    }
    most
}

#[test]
fn bulk_gives_way_after_its_turn_until_sockets_were_looked_at() {
    // A task of its own: whenever the runtime comes back to the main one, it looks at sockets.
    let most = paused(|| async { spawn_local(turns_before_a_small_message(100)).await.unwrap() });
    // One may have been due when the message came, and one is in the same round as the message.
    assert!(most <= 2, "bulk took {most} turns before a small message was passed on");
}
