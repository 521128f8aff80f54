//! A snapshot, a stream of records, and a whole data plane with one backend on loopback.
#![expect(clippy::unwrap_used, reason = "a step that fails ends the benchmark")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::config::{Connect, Connections, Rebalance};
use apiproxy::drain::Drain;
use apiproxy::metrics::Metrics;
use apiproxy::model::{
    Backend, BackendName, Condition, Entry, Hint, Hints, Policy, Snapshot, State, Writer, store,
};
use apiproxy::net;
use apiproxy::proxy::{self, Live, PipeMemory, Settings};
use tokio::sync::mpsc;

/// The header of a request: a record of 8 bytes.
const REQUEST: [u8; 5] = [23, 3, 3, 0, 8];

/// So many ready backends, each with some connections.
pub(crate) fn snapshot(policy: Policy, count: usize) -> Snapshot {
    let address =
        |number: usize| SocketAddr::from(([10, 0, 0, u8::try_from(number).unwrap()], 6443));
    let entries: Vec<Entry> = (0..count).map(|number| entry(address(number))).collect();
    for (number, entry) in entries.iter().enumerate() {
        // The guards would take them back.
        (0..=number).for_each(|_| std::mem::forget(entry.backend.occupy()));
    }
    Snapshot { generation: 0, zone: None, policy, entries }
}

fn entry(address: SocketAddr) -> Entry {
    let backend = Backend::new(BackendName::new(address.to_string()), address.into(), None);
    let condition = Condition { state: State::Ready, ..Condition::unknown(Instant::now()) };
    Entry::new(Arc::new(backend), [address].into(), condition)
}

/// So many bytes of TLS records of one length; the last one is cut.
pub(crate) fn records(content: u16, length: usize) -> Vec<u8> {
    let [high, low] = content.to_be_bytes();
    let mut record = vec![23, 3, 3, high, low];
    record.resize(record.len() + usize::from(content), 0xa5);
    record.into_iter().cycle().take(length).collect()
}

/// The data plane on a thread of its own, and a backend on another.
pub(crate) struct Plane {
    pub(crate) proxy: SocketAddr,
    pub(crate) backend: SocketAddr,
    /// What the data plane takes for its end when it is gone.
    _kept: (Drain, Writer, mpsc::Receiver<Hint>),
}

impl Plane {
    pub(crate) fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = server.local_addr().unwrap();
        let records: &'static [u8] = records(1 << 14, 256 * 1024).leak();
        thread::spawn(move || {
            for stream in server.incoming() {
                // A client that is gone ends its own thread.
                let stream = stream?;
                thread::spawn(move || drop(answer_all(stream, records)));
            }
            io::Result::Ok(())
        });
        let policy = Policy::LeastConnections;
        let first = Snapshot { generation: 0, zone: None, policy, entries: vec![entry(backend)] };
        let (writer, snapshot) = store(first);
        let (hints, doubts) = Hints::channel();
        let drain = Drain::default();
        let listener = net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let proxy = listener.local_addr().unwrap();
        let seconds = Duration::from_secs;
        proxy::start(proxy::Parts {
            cluster: None,
            pipes: PipeMemory::new(1),
            listeners: vec![listener],
            live: Live::new(Settings {
                connect: Connect { timeout: seconds(1), hedge_after: Duration::from_millis(200) },
                connections: Connections {
                    max: NonZeroUsize::new(1000).unwrap(),
                    keepalive: seconds(15),
                    user_timeout: seconds(5),
                    drain_timeout: seconds(60),
                },
                rebalance: Rebalance {
                    enabled: true,
                    after: seconds(30),
                    window: seconds(300),
                    quiet_for: seconds(2),
                },
            }),
            threads: 1,
            snapshot,
            hints,
            phases: drain.phases(),
            metrics: Metrics::new().unwrap().data_path(None),
        })
        .unwrap();
        Self { proxy, backend, _kept: (drain, writer, doubts) }
    }
}

/// Answers each request, a record with the length of its answer.
fn answer_all(mut stream: TcpStream, records: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST.len() + 8];
    loop {
        stream.read_exact(&mut request)?;
        let length = request.last_chunk().copied().map(u64::from_be_bytes);
        let mut left = usize::try_from(length.unwrap()).unwrap();
        while left > 0 {
            let step = left.min(records.len());
            stream.write_all(&records[..step])?;
            left -= step;
        }
    }
}

/// A client's connection.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Asks for so many bytes and reads them all.
    pub(crate) fn exchange(&mut self, answer: u64) {
        let mut left = usize::try_from(answer).unwrap();
        self.buffer.resize(left.min(256 * 1024), 0);
        let request = [&REQUEST[..], &answer.to_be_bytes()].concat();
        self.stream.write_all(&request).unwrap();
        while left > 0 {
            let room = left.min(self.buffer.len());
            let count = self.stream.read(&mut self.buffer[..room]).unwrap();
            assert!(count > 0, "the answer ends early");
            left -= count;
        }
    }
}
