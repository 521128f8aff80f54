//! The signals that end the process, and the one that has it read its configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as one stream.
#[derive(Debug)]
pub struct Terminations {
    term: Signal,
    int: Signal,
}

impl Terminations {
    /// Takes the signals over from their default action.
    ///
    /// # Errors
    /// The runtime has no signal driver.
    pub fn new() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// SIGHUP.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Takes the signal over from its default action, which would end the process.
    ///
    /// # Errors
    /// The runtime has no signal driver.
    pub fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// The next one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The driver is gone, and with it the process's runtime.
            std::future::pending::<()>().await;
        }
    }
}
