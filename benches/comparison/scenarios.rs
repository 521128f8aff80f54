//! What is measured: each scenario puts one kind of load on a peer and returns its figures.

mod busy;
mod connections;
mod memory;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::procfs;
use crate::tally::{Figure, float};

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    run: fn(&Context<'_>) -> io::Result<Vec<Figure>>,
}

/// All, in the order of the table.
pub(crate) const ALL: [Scenario; 10] = [
    Scenario { name: "small", run: busy::small },
    Scenario { name: "pingpong", run: busy::pingpong },
    Scenario { name: "bulk", run: busy::bulk },
    Scenario { name: "churn", run: connections::churn },
    Scenario { name: "storm", run: connections::storm },
    Scenario { name: "mixed", run: busy::mixed },
    Scenario { name: "slow", run: busy::slow },
    Scenario { name: "start", run: memory::start },
    Scenario { name: "idle", run: memory::idle },
    Scenario { name: "active", run: memory::active },
];

impl Scenario {
    /// Puts the load on a peer.
    pub(crate) fn run(&self, context: &Context<'_>) -> io::Result<Vec<Figure>> {
        (self.run)(context)
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Of what goes on for a time.
    time: Duration,
    /// The least that is carried at each kind of bulk.
    bulk: u64,
    /// The lengths of answers of bulk, in MB.
    answers: &'static [u64],
    churn: u64,
    storm: u64,
    idle: u64,
    active: u64,
}

impl Size {
    pub(crate) const FULL: Self = Self {
        time: Duration::from_secs(3),
        bulk: 800_000_000,
        answers: &[1, 20, 100],
        churn: 4000,
        storm: 1000,
        idle: 4000,
        active: 100,
    };

    pub(crate) const SHORT: Self = Self {
        time: Duration::from_millis(200),
        bulk: 8_000_000,
        answers: &[1, 4],
        churn: 100,
        storm: 100,
        idle: 200,
        active: 20,
    };
}

/// Whom the load is put on.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) address: SocketAddr,
    /// The peer's processes; none when there is no proxy.
    pub(crate) pids: &'a [u32],
    pub(crate) size: &'a Size,
}

/// What something took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of the proxy.
    cpu: Option<Duration>,
    /// Of all CPUs.
    machine: Duration,
    wall: Duration,
}

/// How long the last of the work may take to show in the kernel's counters.
const SETTLE: Duration = Duration::from_millis(20);

impl Context<'_> {
    /// Does something and counts what it takes.
    fn cost<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Cost)> {
        let (cpu, busy, began) = (procfs::cpu(self.pids), procfs::busy(), Instant::now());
        let done = work()?;
        let wall = began.elapsed();
        std::thread::sleep(SETTLE);
        let cpu = procfs::cpu(self.pids).saturating_sub(cpu);
        let cost = Cost {
            cpu: (!self.pids.is_empty()).then_some(cpu),
            machine: procfs::busy().saturating_sub(busy),
            wall,
        };
        Ok((done, cost))
    }

    /// The peer's memory in KiB, if there is a proxy.
    fn resident(&self) -> Option<f64> {
        (!self.pids.is_empty()).then(|| float(procfs::resident(self.pids)))
    }
}

impl Cost {
    /// The figures of something that was done so many times.
    fn each(&self, what: &str, count: u64) -> Vec<Figure> {
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / float(count);
        let cpu = self
            .cpu
            .map(|cpu| Figure::less(format!("{what}: CPU of the proxy"), "us", micros(cpu)));
        let machine = micros(self.machine);
        let rate = float(count) / self.wall.as_secs_f64();
        cpu.into_iter()
            .chain([
                Figure::less(format!("{what}: busy time of the machine"), "us", machine),
                Figure::more(format!("{what}: done"), "1/s", rate),
            ])
            .collect()
    }

    /// The figures of so many bytes.
    fn of_bytes(&self, what: &str, bytes: u64) -> Vec<Figure> {
        let gib = float(bytes) / float(1 << 30);
        let each = |time: Duration| time.as_secs_f64() / gib;
        let cpu = self
            .cpu
            .map(|cpu| Figure::less(format!("{what}: CPU of the proxy"), "s/GiB", each(cpu)));
        let machine = each(self.machine);
        let rate = gib / self.wall.as_secs_f64();
        cpu.into_iter()
            .chain([
                Figure::less(format!("{what}: busy time of the machine"), "s/GiB", machine),
                Figure::more(format!("{what}: carried"), "GiB/s", rate),
            ])
            .collect()
    }
}

/// The time that so many of a hundred did not exceed. The times are sorted.
fn percentile(times: &[Duration], hundredths: usize) -> io::Result<f64> {
    let rank = (times.len() * hundredths).div_ceil(100).max(1);
    let time = times.get(rank - 1).ok_or_else(|| io::Error::other("nothing was answered"))?;
    Ok(time.as_secs_f64() * 1e6)
}
