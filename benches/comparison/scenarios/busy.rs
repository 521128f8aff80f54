//! Requests, bulk, and each beside the other.

use std::io;
use std::time::Duration;

use super::{Context, percentile};
use crate::interrupt;
use crate::load::{self, Background, Client};
use crate::tally::{Figure, float};

const MB: u64 = 1_000_000;

/// Connections of `small`.
const CLIENTS: u64 = 64;

/// The clients whose waits are measured beside other load, and the pace of each: 1,600 requests a
/// second in all, which leaves the machine idle.
const PACED: (u32, Duration) = (16, Duration::from_millis(10));

/// Streams of bulk beside them.
const STREAMS: u64 = 2;

/// Slow readers beside them, and when each takes its next 64 KiB: 6.5 MB/s.
const READERS: (u64, Duration) = (8, Duration::from_millis(10));

/// One that has all but stopped reading: its ends wait for the next 64 KiB.
const STALLED: (u64, Duration) = (1, Duration::from_secs(2));

/// How long slow readers take to fill the buffers on their way.
const FILLED: Duration = Duration::from_secs(1);

/// What a slow reader asks for.
const LIST: u64 = 100 * MB;

/// 1 KiB answers on 64 connections.
pub(super) fn small(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let load = load::closed_loop(context.address, CLIENTS, context.size.time);
    let (times, cost) = context.cost(|| interrupt::run(load))?;
    let what = format!("1 KiB requests, {CLIENTS} connections");
    let mut figures = cost.each(&what, times.len() as u64);
    figures.push(Figure::less(format!("{what}: p99"), "us", percentile(&times, 99)?));
    Ok(figures)
}

/// One connection, one request at a time.
pub(super) fn pingpong(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let load = load::closed_loop(context.address, 1, context.size.time);
    let (times, cost) = context.cost(|| interrupt::run(load))?;
    let mut figures = vec![
        Figure::less("ping-pong: p50", "us", percentile(&times, 50)?),
        Figure::less("ping-pong: p99", "us", percentile(&times, 99)?),
    ];
    figures.extend(cost.each("ping-pong", times.len() as u64));
    Ok(figures)
}

/// Large answers, on one and on eight connections.
pub(super) fn bulk(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let address = context.address;
    for megabytes in context.size.answers {
        for streams in [1, 8] {
            let answer = megabytes * MB;
            let answers = context.size.bulk.div_ceil(answer * streams);
            let load = load::at_once(streams, |_| async move {
                let mut client = Client::connect(address).await?;
                for _ in 0..answers {
                    client.exchange(answer).await?;
                }
                Ok(())
            });
            let (_, cost) = context.cost(|| interrupt::run(load))?;
            let what = format!("bulk, {megabytes} MB, {streams} at once");
            figures.extend(cost.of_bytes(&what, answers * answer * streams));
        }
    }
    Ok(figures)
}

/// How long paced requests wait alone, and beside bulk.
pub(super) fn mixed(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let alone = paced(context)?;
    let beside = Background::bulk(context.address, STREAMS, 20 * MB);
    let crowded = paced(context)?;
    beside.end()?;
    let (p99, crowded) = (percentile(&alone, 99)?, percentile(&crowded, 99)?);
    Ok(vec![
        Figure::less("paced requests: p50", "us", percentile(&alone, 50)?),
        Figure::less("paced requests: p99", "us", p99),
        Figure::less("paced requests beside bulk: p99", "us", crowded),
        Figure::less("paced requests beside bulk: p99, to that without", "x", crowded / p99),
    ])
}

/// What slow readers cost: memory, and the others' time.
pub(super) fn slow(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    let alone = percentile(&paced(context)?, 99)?;
    let (readers, tick) = STALLED;
    let beside = Background::slow(context.address, readers, LIST, tick);
    interrupt::pause(FILLED)?;
    let stalled = percentile(&paced(context)?, 99)?;
    beside.end()?;
    let before = context.resident();
    let (readers, tick) = READERS;
    let beside = Background::slow(context.address, readers, LIST, tick);
    // At first they fill all buffers on their way, as fast as any reader.
    interrupt::pause(FILLED)?;
    let crowded = paced(context)?;
    let grown =
        context.resident().zip(before).map(|(after, before)| (after - before) / float(readers));
    beside.end()?;
    let p99 = percentile(&crowded, 99)?;
    let grown = grown.map(|kib| Figure::less("each of 8 slow readers: memory", "KiB", kib));
    Ok(grown
        .into_iter()
        .chain([
            Figure::less(
                "paced requests beside a stalled reader: p99, to that without",
                "x",
                stalled / alone,
            ),
            Figure::less("paced requests beside slow readers: p99", "us", p99),
            Figure::less(
                "paced requests beside slow readers: p99, to that without",
                "x",
                p99 / alone,
            ),
        ])
        .collect())
}

fn paced(context: &Context<'_>) -> io::Result<Vec<Duration>> {
    let (clients, pace) = PACED;
    interrupt::run(load::paced(context.address, clients, pace, context.size.time))
}
