//! Random faults under 200 streams of which every byte is checked, until nothing is left to go wrong.
//!
//! It takes a minute, or `SOAK_SECONDS`; the long form is
//! `SOAK_SECONDS=1800 cargo test --release --test soak -- --nocapture`. It tells its seed;
//! `SOAK_SEED` makes the same faults again.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]
#![expect(unreachable_pub, reason = "the modules of a test are nobody else's")]

mod common;
#[path = "soak/content.rs"]
mod content;
#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/pulse.rs"]
mod pulse;
#[path = "soak/raw.rs"]
mod raw;
#[path = "soak/streams.rs"]
mod streams;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use apiproxy::demo::Dialer;
use common::{Cluster, Proxy, report, wait_for};
use fastrand::Rng;
use faults::Faults;
use pulse::Ledger;
use raw::{RawKind, Wire};
use streams::{Kind, Stream};
use tokio::sync::oneshot;

const SERVERS: usize = 4;

/// How many streams of each kind.
const STREAMS: [(&str, Kind, usize); 8] = [
    ("download", Kind::Download, 25),
    ("bulk", Kind::Bulk, 4),
    ("slow reader", Kind::SlowReader, 15),
    ("echo", Kind::Echo, 25),
    ("upload", Kind::Upload, 15),
    ("watch", Kind::Watch, 40),
    ("requests", Kind::Requests, 25),
    ("idle", Kind::Idle, 20),
];
const RAW_STREAMS: [(&str, RawKind, usize); 3] = [
    ("both ways", RawKind::BothWays, 20),
    ("resetter", RawKind::Resetter, 8),
    ("half-closer", RawKind::HalfCloser, 7),
];

/// How long a stream may stand still while one and the same server is well. A silent one on a hung
/// server is let go within about 15 s: two probes, and 5 to 10 s of grace; the rest is for a busy
/// machine.
const BOUND: Duration = Duration::from_secs(25);

/// Growth of the resident memory that is put down to the allocator, KiB, once as many connections
/// have been open as ever will be.
const GROWTH: u64 = 8 * 1024;

/// Ends of the idle pipes that the data thread may keep: four pipes.
const KEPT: usize = 8;

/// Bytes.
const GIB: f64 = 1_073_741_824.0;

const LONG: Duration = Duration::from_secs(30);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect(name))
}

/// What the proxy holds of its system.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    /// Without pipes.
    files: usize,
    /// Ends of pipes.
    pipes: usize,
    threads: usize,
    resident: u64,
}

impl Holdings {
    fn of(proxy: &Proxy) -> Self {
        let folder = format!("/proc/{}", proxy.child.id());
        let threads = fs::read_dir(format!("{folder}/task")).unwrap().count();
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident = line.trim().trim_end_matches(" kB").parse().unwrap();
        let links = fs::read_dir(format!("{folder}/fd")).unwrap();
        let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let (pipes, files): (Vec<_>, Vec<_>) =
            links.partition(|link| link.to_string_lossy().starts_with("pipe:"));
        Self { files: files.len(), pipes: pipes.len(), threads, resident }
    }
}

/// All streams, on a thread of their own. Dropping it ends them.
struct Clients {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clients {
    fn start(cluster: &Cluster, proxy: &Proxy, ledger: &Arc<Ledger>, rng: &mut Rng) -> Self {
        let dialer = Dialer::new(proxy.listen, &cluster.authority, None).unwrap();
        let wire = Wire::new(proxy.listen, &cluster.authority);
        let mut stream = |name, number| Stream {
            dialer: dialer.clone(),
            pulse: ledger.pulse(name, number),
            rng: rng.fork(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (name, kind, count) in STREAMS {
            for number in 0..count {
                runtime.spawn(stream(name, number).run(kind));
            }
        }
        for (name, kind, count) in RAW_STREAMS {
            for number in 0..count {
                runtime.spawn(wire.clone().run(stream(name, number), kind));
            }
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            // Nothing is ever sent, so this is the end of the sender.
            let _ = runtime.block_on(stopped);
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn streams_survive_random_faults_and_nothing_is_left_behind() {
    let length = Duration::from_secs(setting("SOAK_SECONDS").unwrap_or(60));
    let seed = setting("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    report(&format!("soak: {} s, SOAK_SEED={seed}", length.as_secs()));
    let mut rng = Rng::with_seed(seed);

    let cluster = Cluster::new(SERVERS);
    let mut proxy = cluster.proxy(
        "interval: 2s,",
        "connections: { drainTimeout: 10s }\nrebalance: { after: 1s, window: 5s, quietFor: 200ms }\n",
    );
    cluster.client(&proxy).ask().unwrap();
    let carried = |proxy: &Proxy| {
        proxy.status().backends.iter().map(|backend| backend.connections).sum::<usize>()
    };
    wait_for("the first connection is over", LONG, || (carried(&proxy) == 0).then_some(()));
    let before = Holdings::of(&proxy);

    let start = Instant::now();
    let ledger = Ledger::new(start);
    let mut faults = Faults::new(rng.u64(..), SERVERS);
    let clients = Clients::start(&cluster, &proxy, &ledger, &mut rng);
    let (mut warm, mut peak, mut stillest) = (None, before, Duration::ZERO);
    let mut next_look = start;
    while start.elapsed() < length {
        faults.step(&cluster.servers);
        if let Some(since) = faults.well_since() {
            let (still, name) = ledger.stillest(since);
            stillest = stillest.max(still);
            assert!(still < BOUND, "{name} for {still:?}; SOAK_SEED={seed}");
        }
        assert_eq!(ledger.faults(), Vec::<String>::new(), "SOAK_SEED={seed}");
        if Instant::now() >= next_look {
            next_look += Duration::from_secs(1);
            let now = Holdings::of(&proxy);
            peak.files = peak.files.max(now.files);
            peak.threads = peak.threads.max(now.threads);
            peak.resident = peak.resident.max(now.resident);
            if start.elapsed() >= length / 3 {
                warm.get_or_insert(peak);
            }
        }
        assert!(proxy.child.try_wait().unwrap().is_none(), "the proxy ended");
        thread::sleep(Duration::from_millis(50));
    }
    faults.heal_all(&cluster.servers);
    proxy.wait_ready(SERVERS);
    drop(clients);
    check_end(&proxy, before, warm.unwrap_or(peak), peak);

    assert_eq!(ledger.faults(), Vec::<String>::new(), "SOAK_SEED={seed}");
    let count = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    report(&format!(
        "soak: {} faults and {} blackouts; {} streams and requests whole, {} cut; {} MB compared; \
         {} connections made; longest stand-still {:.1} s",
        faults.made,
        faults.blackouts,
        count(&ledger.finished),
        count(&ledger.cut),
        count(&ledger.bytes) / 1_000_000,
        proxy.metric("apiproxy_connections_total", &["connected"]),
        stillest.as_secs_f64(),
    ));
    let carried = proxy.metric("apiproxy_bytes_total", &[]) / GIB;
    let spliced = proxy.metric("apiproxy_spliced_bytes_total", &[]);
    report(&format!("soak: {carried:.2} GiB carried, {:.2} GiB spliced", spliced / GIB));
    assert!(spliced > 0.0, "nothing was spliced");
    assert_eq!(ledger.idle_kinds(), Vec::<&str>::new(), "no stream of these came to its end");
}

/// All clients are gone and all servers are well: is everything as it was?
fn check_end(proxy: &Proxy, before: Holdings, warm: Holdings, peak: Holdings) {
    wait_for("all connections are over", LONG, || {
        let backends = proxy.status().backends;
        backends.iter().all(|backend| backend.connections == 0).then_some(())
    });
    assert!(proxy.metric("apiproxy_connections_active", &[]).abs() < f64::EPSILON);
    // A probe or an answer to us may be under way.
    wait_for("files and threads are as before", LONG, || {
        let now = Holdings::of(proxy);
        let pipes = now.pipes <= before.pipes + KEPT;
        (pipes && now.files <= before.files && now.threads <= before.threads).then_some(())
    });
    proxy.wait_ready(SERVERS);
    let after = Holdings::of(proxy);
    report(&format!("soak: before {before:?}, peak {peak:?}, after {after:?}"));
    let most = warm.resident + GROWTH;
    assert!(peak.resident <= most, "{} KiB, more than {most}", peak.resident);
    assert!(!proxy.log_text().contains("panicked"));
    let made = proxy.metric("apiproxy_connections_total", &["connected"]);
    let closed = proxy.metric("apiproxy_connections_closed_total", &[]);
    assert!((made - closed).abs() < 0.5, "{made} made and {closed} closed");
}
