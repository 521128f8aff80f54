//! Sends log lines to standard error, through a thread of its own: a reader that is stuck or gone must
//! not stop the proxy. Lines that find no room are lost.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
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
    let lines = fmt::layer()
        .with_writer(writer)
        // It would report a failed write with `eprintln!`, which panics when that fails too.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(level);
    // An error says that logging has been started already.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    let set_level = move |level| {
        // An error says that logging has ended.
        let _ = handle.reload(filter(level));
    };
    (guard, set_level)
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
