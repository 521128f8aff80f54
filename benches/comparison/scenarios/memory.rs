//! Resident memory: at the start, with idle and with active connections, and when they are gone.

use std::io;
use std::time::Duration;

use super::Context;
use crate::interrupt;
use crate::load::{self, Background};
use crate::tally::{Figure, float};

/// Time for what was started, opened or closed to be seen to its end.
const SETTLE: Duration = Duration::from_secs(1);

/// An active connection is one with an answer of so many bytes on its way, of which 64 KiB are read
/// at each tick. It is longer than what the kernel's buffers take, so that the proxy is held back.
const ANSWER: u64 = 20_000_000;
const TICK: Duration = Duration::from_millis(25);

/// After its first request.
pub(super) fn start(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    interrupt::pause(SETTLE)?;
    let resident =
        context.resident().map(|kib| Figure::less("memory at start", "MiB", kib / 1024.0));
    Ok(resident.into_iter().collect())
}

/// Connections that have been answered once and then say nothing.
pub(super) fn idle(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    interrupt::pause(SETTLE)?;
    let Some(before) = context.resident() else { return Ok(Vec::new()) };
    let count = context.size.idle;
    // Within the runtime that they live in.
    let loaded = interrupt::run(async {
        let clients = load::connections(context.address, count).await?;
        tokio::time::sleep(SETTLE).await;
        let loaded = context.resident().unwrap_or(before);
        drop(clients);
        Ok(loaded)
    })?;
    interrupt::pause(SETTLE)?;
    let after = context.resident().unwrap_or(loaded);
    Ok(vec![
        Figure::less(
            format!("each of {count} idle connections: memory"),
            "KiB",
            (loaded - before) / float(count),
        ),
        Figure::less(format!("memory after {count} were closed"), "MiB", after / 1024.0),
    ])
}

/// Connections in the midst of an answer that their clients are slow to read.
pub(super) fn active(context: &Context<'_>) -> io::Result<Vec<Figure>> {
    interrupt::pause(SETTLE)?;
    let Some(before) = context.resident() else { return Ok(Vec::new()) };
    let count = context.size.active;
    let clients = Background::slow(context.address, count, ANSWER, TICK);
    interrupt::pause(2 * SETTLE)?;
    let loaded = context.resident().unwrap_or(before);
    clients.end()?;
    Ok(vec![Figure::less(
        format!("each of {count} active connections: memory"),
        "KiB",
        (loaded - before) / float(count),
    )])
}
