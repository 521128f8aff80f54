//! What the pieces of the data plane and of the health checks take by themselves:
//! `cargo bench --bench pieces`, and a word after it to run only what has it in its name.

#[path = "pieces/fixture.rs"]
mod fixture;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use apiproxy::balance::{IndexSet, Turn, pick};
use apiproxy::health::{Machine, Observation, Rules, Verdict};
use apiproxy::model::{Failure, Policy, Reason, store};
use apiproxy::proxy::fuzzing::{Direction, Tracker};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use fixture::{Plane, snapshot};

/// Backends: a usual cluster's and a large one's.
const BACKENDS: [usize; 2] = [3, 9];

fn picking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("balance::pick");
    let now = Instant::now();
    for (policy, name) in [
        (Policy::LeastConnections, "leastConnections"),
        (Policy::RoundRobin, "roundRobin"),
        (Policy::Random, "random"),
        (Policy::PowerOfTwo, "powerOfTwo"),
    ] {
        for count in BACKENDS {
            let snapshot = snapshot(policy, count);
            let mut turn = Turn::new(1);
            group.bench_function(format!("{name}, {count} backends"), |bencher| {
                bencher.iter(|| {
                    pick(black_box(&snapshot), now, IndexSet::EMPTY, IndexSet::EMPTY, &mut turn)
                });
            });
        }
    }
}

fn snapshots(criterion: &mut Criterion) {
    let (writer, reader) = store(snapshot(Policy::default(), 3));
    criterion.bench_function("snapshot: load", |bencher| {
        bencher.iter(|| black_box(reader.load().generation));
    });
    criterion.bench_function("snapshot: publish", |bencher| {
        bencher.iter(|| writer.update(|snapshot| snapshot.entries[0].condition.suspect ^= true));
    });
}

fn health(criterion: &mut Criterion) {
    let once = NonZeroU32::MIN;
    let rules = Rules {
        rise: once,
        fall: once,
        interval: Duration::from_secs(10),
        fast_interval: Duration::from_millis(500),
    };
    let good = Verdict::Ready { warning: None };
    let bad = Verdict::Dead(Failure::Timeout, Reason::new("timeout", "no answer"));
    for (name, verdicts) in [
        ("health::Machine: a good answer of a good backend", [&good, &good]),
        ("health::Machine: a change of state", [&good, &bad]),
    ] {
        criterion.bench_function(name, |bencher| {
            let mut now = Instant::now();
            let mut machine = Machine::new(rules, now);
            let mut verdicts = verdicts.into_iter().cycle();
            bencher.iter(|| {
                let ended = now + Duration::from_millis(2);
                let Some(verdict) = verdicts.next().cloned() else { return };
                machine.observe(&Observation { started: now, ended, verdict });
                now = ended;
                black_box(machine.pace(now, false));
            });
        });
    }
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record tracker, 64 KiB");
    for content in [100_u16, 1024, 1 << 14] {
        let stream = fixture::records(content, 64 * 1024);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(format!("records of {content} bytes"), |bencher| {
            bencher.iter(|| Tracker::default().feed(black_box(&stream)));
        });
    }
}

fn relay_core(criterion: &mut Criterion) {
    criterion.bench_function("relay core: a message of 1 KiB", |bencher| {
        let mut direction = Direction::default();
        bencher.iter(|| assert!(direction.message(black_box(1024)), "it was not copied"));
    });
    criterion.bench_function("relay core: a transfer of 20 MiB", |bencher| {
        bencher.iter(|| {
            let piped = Direction::default().transfer(black_box(22));
            assert_eq!(piped, 20 << 20, "all but the first two reads is spliced");
        });
    });
}

fn relay(criterion: &mut Criterion) {
    let plane = Plane::start();
    for (name, address) in [("direct", plane.backend), ("relayed", plane.proxy)] {
        let mut group = criterion.benchmark_group(format!("over loopback, {name}"));
        for answer in [1 << 10, 64 << 10, 20 << 20] {
            let mut client = fixture::Client::connect(address);
            group.throughput(Throughput::Bytes(answer));
            group.bench_function(format!("{} KiB", answer / 1024), |bencher| {
                bencher.iter(|| client.exchange(answer));
            });
        }
        drop(group);
        let name = format!("over loopback, {name}, connect, 1 KiB, close");
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| fixture::Client::connect(address).exchange(1024));
        });
    }
}

fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots()
}

criterion_group! {
    name = pieces;
    config = settings();
    targets = picking, snapshots, health, records, relay_core, relay
}
criterion_main!(pieces);
