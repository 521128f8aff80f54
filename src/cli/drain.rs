//! `apiproxy drain` and `undrain`: takes a backend out before its maintenance, and puts it back.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::outage::Outage;
use super::{CliError, output, runtime};
use crate::admin::Status;
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::{Answer, Request, ask};

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `--wait` without a time waits `drainTimeout` and so much longer: who is busy at its end is given
/// some seconds more.
const GRACE: Duration = Duration::from_secs(15);

/// So long after `drainTimeout` a process that another one has taken over from cuts what is busy.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// Where the running proxy hears commands.
#[derive(Debug, clap::Args)]
pub(super) struct Socket {
    /// The proxy's admin.controlSocket.
    #[arg(long = "control-socket", value_name = "PATH", default_value = DEFAULT_CONTROL_SOCKET,
          env = "APIPROXY_CONTROL_SOCKET")]
    path: PathBuf,
}

impl Socket {
    /// Asks once.
    pub(super) async fn ask(&self, request: &Request) -> Result<Answer, CliError> {
        Ok(ask(&self.path, request).await?)
    }
}

/// The backend that is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Meant {
    /// The backend's name, as in `apiproxy status`; with its cluster (`east/cp1`), if there are several.
    backend: String,
    /// Its cluster, in place of writing it before the name.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
}

impl Meant {
    fn name(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("{cluster}/{}", self.backend),
            None => self.backend.clone(),
        }
    }
}

/// Flags of `drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The backend gets no new clients; its connections leave at quiet moments within
connections.drainTimeout. It is probed all the while, and stays drained through reloads and
handovers, not through a restart.

Exit 0 when done (with --wait: when it is empty), 1 when not, 2 when there is no such backend. When
another process takes over meanwhile, --wait ends with 1: it does not see the old one's connections.

Example, before the maintenance of cp2 and after it:
  apiproxy drain cp2 --wait=2m
  apiproxy undrain cp2")]
pub(super) struct Drain {
    #[command(flatten)]
    meant: Meant,
    /// Wait until it has no connection, for a time such as 90s [default of the time: drainTimeout and
    /// a little more].
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = super::args::duration)]
    #[expect(clippy::option_option, reason = "no flag, the flag, the flag with a value")]
    wait: Option<Option<Duration>>,
    /// Also when no other backend is ready.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Flags of `undrain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Its share of new connections grows over 30 s, and others' connections move to it at quiet moments
(`rebalance`).")]
pub(super) struct Undrain {
    #[command(flatten)]
    meant: Meant,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn drain(args: &Drain) -> Result<(), CliError> {
    runtime()?.block_on(async {
        let request = Request::Drain { backend: args.meant.name(), force: args.force };
        let answer = args.socket.ask(&request).await?;
        let Answer::Drained { backend, changed, connections, others, within_seconds } = answer
        else {
            return Err(CliError::odd_answer(&answer));
        };
        let was = if changed { "is" } else { "was already" };
        let rest = match (connections, others) {
            (0, _) => "it has no connection".to_owned(),
            (_, 0) => {
                format!("its {} stay until another backend is ready", count(connections))
            }
            _ => format!(
                "its {} leave at quiet moments within {}",
                count(connections),
                output::age(within_seconds)
            ),
        };
        output::emit(&format!("{backend} {was} drained: no new clients; {rest}\n"))?;
        match args.wait {
            None => output::emit(&format!(
                "  watch it with `apiproxy status`; put it back with `apiproxy undrain {backend}`\n"
            )),
            Some(time) => {
                let drain_timeout = Duration::from_secs(within_seconds);
                let time = time.unwrap_or(drain_timeout + GRACE);
                wait(&args.socket, &backend, time, drain_timeout).await
            }
        }
    })
}

pub(super) fn undrain(args: &Undrain) -> Result<(), CliError> {
    runtime()?.block_on(async {
        let answer = args.socket.ask(&Request::Undrain { backend: args.meant.name() }).await?;
        let Answer::Undrained { backend, changed, state, reason } = answer else {
            return Err(CliError::odd_answer(&answer));
        };
        let back = if changed { "takes part again" } else { "was not drained" };
        output::emit(&format!("{backend} {back}; it is {state}: {reason}\n"))
    })
}

/// Waits until the backend has no connection.
async fn wait(
    socket: &Socket,
    backend: &str,
    time: Duration,
    drain_timeout: Duration,
) -> Result<(), CliError> {
    let start = Instant::now();
    let (mut instance, mut shown, mut outage) = (None, None, Outage::new());
    let terminal = io::stdout().is_terminal();
    loop {
        let status = match look(socket).await {
            Ok(status) => status,
            // It may come back: there is time for that.
            Err(error @ CliError::Silent(_)) if start.elapsed() < time => {
                if let Some(line) = outage.tell(&error) {
                    complain(terminal, &line)?;
                }
                continue;
            }
            Err(error @ CliError::Silent(_)) => {
                return Err(CliError::Failed(format!(
                    "{}\n  {backend} was drained; `apiproxy status` tells whether it is empty once the \
                     proxy goes on",
                    outage.describe(&error)
                )));
            }
            Err(error) => return Err(error),
        };
        if let Some(line) = outage.over() {
            complain(terminal, &line)?;
        }
        if *instance.get_or_insert_with(|| status.instance.clone()) != status.instance {
            end_line(terminal, &format!("{backend}: not known to be empty"))?;
            return Err(taken_over(backend, drain_timeout));
        }
        let Some(status) = status.backends.into_iter().find(|b| b.name == backend) else {
            return end_line(terminal, &format!("{backend} has left the configuration"));
        };
        let left = status.connections;
        let waited = output::age(start.elapsed().as_secs());
        if status.state != crate::model::State::Drained {
            let message = format!("{backend} is no longer drained: somebody has put it back");
            return Err(CliError::Failed(message));
        }
        if left == 0 {
            return end_line(terminal, &format!("{backend} is empty after {waited}"));
        }
        if start.elapsed() >= time {
            end_line(terminal, &format!("{backend}: {} left", count(left)))?;
            return Err(CliError::Failed(format!(
                "{backend} still has {} after {waited}; it stays drained\n  wait on with `apiproxy \
                 drain {backend} --wait`, or put it back with `apiproxy undrain {backend}`",
                count(left)
            )));
        }
        if terminal {
            output::emit(&format!("\r\x1b[K{backend}: {} left, {waited}", count(left)))?;
        } else if shown != Some(left) {
            output::emit(&format!("{backend}: {} left after {waited}\n", count(left)))?;
        }
        shown = Some(left);
        sleep(LOOK_EVERY.min(time.saturating_sub(start.elapsed()))).await;
    }
}

async fn look(socket: &Socket) -> Result<Status, CliError> {
    match socket.ask(&Request::Status {}).await? {
        Answer::Status(status) => Ok(*status),
        answer => Err(CliError::odd_answer(&answer)),
    }
}

/// Nobody tells what the process before this one still carries.
fn taken_over(backend: &str, drain_timeout: Duration) -> CliError {
    CliError::Failed(format!(
        "another process has taken over; the one before may still carry connections of {backend} for \
         up to {} (drainTimeout + {CUT_AFTER:?})\n  run the command again after that",
        output::age((drain_timeout + CUT_AFTER).as_secs())
    ))
}

/// The last line of what has been shown; on a terminal in place of the one before.
fn end_line(terminal: bool, text: &str) -> Result<(), CliError> {
    output::emit(&format!("{}{text}\n", if terminal { "\r\x1b[K" } else { "" }))
}

/// A complaint, in place of the line that is shown.
fn complain(terminal: bool, text: &str) -> Result<(), CliError> {
    output::emit(if terminal { "\r\x1b[K" } else { "" })?;
    output::complain(&text);
    Ok(())
}

fn count(connections: usize) -> String {
    let s = if connections == 1 { "" } else { "s" };
    format!("{connections} connection{s}")
}
