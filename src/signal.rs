//! The signals that end the process, and the one that has it read its configuration again.

use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as one stream; with SIGHUP where that means the end too.
#[derive(Debug)]
pub struct Terminations {
    term: Signal,
    int: Signal,
    hangup: Option<Signal>,
}

impl Terminations {
    /// Takes the signals over from their default action.
    ///
    /// # Errors
    /// The runtime has no signal driver.
    pub fn new() -> io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { term, int, hangup: None })
    }

    /// With SIGHUP, for commands that work for a user at a terminal: it may close. Not under `nohup`,
    /// which has it ignored.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_terminal() -> io::Result<Self> {
        let hangup = if hangups_are_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { hangup, ..Self::new()? })
    }

    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            () = async {
                match &mut self.hangup {
                    Some(hangup) => { hangup.recv().await; }
                    None => std::future::pending().await,
                }
            } => "SIGHUP",
        }
    }
}

/// Was the process started to outlive its terminal?
fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The first bit is that of signal 1 (proc_pid_status(5)).
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
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
