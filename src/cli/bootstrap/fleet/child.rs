//! The commands of one cluster each, as processes of their own: followed line by line, ended as their user
//! would end them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::bootstrap::spec::Member;
use crate::cli::CliError;
use crate::signal::Terminations;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

/// What is run for each cluster.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// The flags that each command gets.
    pub(super) flags: Vec<OsString>,
}

/// What a command printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// None if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Outcome {
    pub(super) fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    fn add(&mut self, from: From, line: &str) {
        let text = match from {
            From::Output => &mut self.output,
            From::Errors => &mut self.errors,
        };
        text.push_str(line);
        text.push('\n');
    }

    /// The last thing that it complained of.
    pub(super) fn complaint(&self) -> String {
        let last = self.errors.lines().rfind(|line| !line.trim().is_empty());
        let text = last.map_or("it was ended", str::trim);
        text.strip_prefix("apiproxy: ").unwrap_or(text).to_owned()
    }
}

/// Commands that run at the same time.
#[derive(Debug, Default)]
pub(super) struct Group {
    running: Vec<(String, Pid)>,
}

impl Program {
    /// `apiproxy bootstrap WORDS --file FILE FLAGS`, with a process group of its own: the terminal's Ctrl-C
    /// reaches us alone, and is passed on once.
    fn spawn(&self, file: &Path, words: &[&str]) -> Result<Child, CliError> {
        let mut command = Command::new(&self.path);
        command.arg("bootstrap").args(words).arg("--file").arg(file).args(&self.flags);
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| {
            CliError::Failed(format!("cannot start {}: {error}", self.path.display()))
        })
    }

    /// Runs a command for each of the clusters at the same time, with these words; every line is heard as
    /// it comes. Signals are passed on to those that run: the first lets them end what they do. Comes back
    /// with what each did, in the order of the clusters, and whether there was a signal.
    pub(super) async fn each(
        &self,
        members: &[Member],
        words: &[&str],
        interrupts: &mut Terminations,
        mut hear: impl FnMut(&str, From, &str) -> Result<(), CliError>,
    ) -> Result<(Vec<Outcome>, bool), CliError> {
        let (tell, mut told) = tokio::sync::mpsc::channel(64);
        let mut group = Group::default();
        let mut running = FuturesUnordered::new();
        for (index, member) in members.iter().enumerate() {
            let mut child = self.spawn(&member.file, words)?;
            let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            group.running.extend(pid.map(|pid| (member.name.clone(), pid)));
            let tell = tell.clone();
            running.push(async move { (index, follow(&mut child, index, &tell).await) });
        }
        drop(tell);
        let mut outcomes = vec![Outcome::default(); members.len()];
        let (mut ended, mut all_heard, mut all_ended) = (false, false, false);
        while !(all_heard && all_ended) {
            tokio::select! {
                biased;
                _ = interrupts.next() => {
                    ended = true;
                    group.interrupt();
                }
                heard = told.recv(), if !all_heard => match heard {
                    Some((index, from, line)) => {
                        hear(&members[index].name, from, &line)?;
                        outcomes[index].add(from, &line);
                    }
                    None => all_heard = true,
                },
                done = running.next(), if !all_ended => match done {
                    Some((index, code)) => {
                        outcomes[index].code = code?;
                        group.running.retain(|(name, _)| *name != members[index].name);
                    }
                    None => all_ended = true,
                },
            }
        }
        Ok((outcomes, ended))
    }
}

impl Group {
    /// As Ctrl-C does. One that has just ended is not there to hear it.
    fn interrupt(&self) {
        for (_, pid) in &self.running {
            let _ = kill_process(*pid, Signal::INT);
        }
    }
}

type Lines = tokio::sync::mpsc::Sender<(usize, From, String)>;

/// Reads what it prints to the end, and waits for it.
async fn follow(child: &mut Child, index: usize, tell: &Lines) -> Result<Option<i32>, CliError> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    tokio::join!(
        pass_on(output, index, From::Output, tell),
        pass_on(errors, index, From::Errors, tell)
    );
    let status = child.wait().await;
    let status =
        status.map_err(|error| CliError::Failed(format!("cannot wait for it: {error}")))?;
    Ok(status.code())
}

async fn pass_on(from: Option<impl AsyncRead + Unpin>, index: usize, which: From, tell: &Lines) {
    let Some(from) = from else { return };
    let mut lines = BufReader::new(from);
    let mut line = Vec::new();
    // What is no UTF-8 is passed on with replacements; a line that cannot be read is the last.
    while (&mut lines).take(1 << 20).read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if tell.send((index, which, text)).await.is_err() {
            return;
        }
        line.clear();
    }
}
