//! Sends log lines to standard error, through a thread of its own: a reader that is stuck or gone must
//! not stop the proxy. Lines that find no room are lost.

use std::io::{self, IsTerminal, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that wait for a slow reader; more are lost.
const WAITING_LINES: usize = 1024;

/// Starts logging, and returns how to change its level. Only the first call of a process counts.
/// Dropping the guard writes what waits, for a second at most.
pub(super) fn start(log: Log) -> (WorkerGuard, impl Fn(LogLevel) + 'static) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(io::stderr());
    let (level, handle) = reload::Layer::new(filter(log.level));
    let registry = tracing_subscriber::registry().with(level);
    // An error says that logging has been started already.
    let _ = registry.with(lines(log.format, writer)).try_init();
    let set_level = move |level| {
        // An error says that logging has ended.
        let _ = handle.reload(filter(level));
    };
    (guard, set_level)
}

/// Logs for this thread, until the guard is dropped, and starts no other one: for a process that has not
/// been closed in yet.
pub(super) fn start_without_thread(log: Log) -> DefaultGuard {
    tracing_subscriber::registry()
        .with(filter(log.level))
        .with(lines(log.format, || IfRoom))
        .set_default()
}

fn lines<S>(
    format: LogFormat,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer()
        .with_writer(writer)
        // It would report a failed write with `eprintln!`, which panics when that fails too.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

/// Standard error, when it takes a line without making us wait.
struct IfRoom;

impl Write for IfRoom {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let at_once = Timespec::default();
        let mut room = [PollFd::new(&stderr, PollFlags::OUT)];
        let has_room = poll(&mut room, Some(&at_once)).is_ok_and(|ready| ready > 0);
        if has_room { stderr.lock().write(line) } else { Ok(line.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
