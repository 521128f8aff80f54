//! A line to a host over which commands run as root and files are read and written: what the
//! transports share.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::supervisor::Supervisor;
use super::{Command, File, Found, Output, Secret, TransportError, files};

/// How many commands run on one host at the same time. sshd allows 10 sessions (`MaxSessions`).
const AT_ONCE: usize = 8;

/// How long a supervisor may take to end after its command has.
const FAREWELL: Duration = Duration::from_secs(5);

/// How root is reached from whom we are logged in as.
#[derive(Clone, Debug)]
pub(super) enum Rise {
    /// We are root.
    Root,
    /// sudo lets us.
    Sudo,
    /// sudo asks for this.
    Password(Secret),
}

impl Rise {
    /// The words before the command.
    pub(super) fn words(&self) -> &'static [&'static str] {
        match self {
            Self::Root => &[],
            Self::Sudo => &["sudo", "-n", "--"],
            Self::Password(_) => &["sudo", "-S", "-p", "", "--"],
        }
    }
}

/// Starts a shell on the host that reads this line.
pub(super) type Start = Box<dyn Fn(&str) -> tokio::process::Command + Send + Sync>;

/// What a command reads.
pub(super) enum Input<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A file of this machine, of this length.
    File(&'a Path, u64),
}

impl Input<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub(super) enum Broken {
    Timeout(Duration),
    /// The connection ended before the command did; what was said last.
    Lost(String),
    /// What it should read could not be read here.
    Source(io::Error),
}

/// A line to a host.
pub(super) struct Line {
    host: String,
    rise: Rise,
    start: Start,
    supervisor: Supervisor,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.host)
    }
}

impl Line {
    pub(super) fn new(host: &str, rise: Rise, start: Start) -> Self {
        let (host, permits) = (host.to_owned(), Arc::new(Semaphore::new(AT_ONCE)));
        Self { host, rise, start, supervisor: Supervisor::new(), permits }
    }

    /// Runs a command to its end.
    pub(super) async fn exec(
        &self,
        argv: &[String],
        input: Input<'_>,
        limit: Duration,
    ) -> Result<Output, Broken> {
        let deadline = Instant::now() + limit;
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| Broken::Lost(error.to_string()))?;
        let mut child = self.spawn().map_err(|error| Broken::Lost(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) = pipes else {
            return Err(Broken::Lost("a pipe is missing".to_owned()));
        };
        let mut talk =
            std::pin::pin!(future::join(self.collect(&mut stdout), self.collect(&mut stderr)));
        let mut all_sent = false;
        let mut feed = Box::pin(self.feed(&mut stdin, argv, input));
        // Whatever leaves this function before the end closes `stdin`, and with it the command.
        let (stdout, stderr) = loop {
            tokio::select! {
                outputs = &mut talk => break outputs,
                result = &mut feed, if !all_sent => { result?; all_sent = true; }
                () = sleep_until(deadline) => return Err(Broken::Timeout(limit)),
            }
        };
        drop(feed);
        let Some(code) = stdout.1.or(stderr.1) else {
            return Err(Broken::Lost(last_line(&stderr.0)));
        };
        self.part(stdin, child, permit);
        Ok(Output { code, stdout: stdout.0, stderr: stderr.0 })
    }

    fn spawn(&self) -> io::Result<Child> {
        (self.start)(&self.supervisor.line(self.rise.words()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal is for us, not for what runs there.
            .process_group(0)
            .spawn()
    }

    /// Sends the command and its input. A command need not read it to the end.
    async fn feed(
        &self,
        stdin: &mut ChildStdin,
        argv: &[String],
        input: Input<'_>,
    ) -> Result<(), Broken> {
        let mut head = Vec::new();
        if let Rise::Password(password) = &self.rise {
            head.extend_from_slice(&password.0);
            head.push(b'\n');
        }
        head.extend_from_slice(self.supervisor.head(argv, input.len()).as_bytes());
        if let Input::Bytes(bytes) = input {
            head.extend_from_slice(bytes);
        }
        if stdin.write_all(&head).await.is_err() {
            return Ok(());
        }
        let Input::File(path, len) = input else { return Ok(()) };
        let mut file = tokio::fs::File::open(path).await.map_err(Broken::Source)?.take(len);
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut chunk).await.map_err(Broken::Source)?;
            if count == 0 && file.limit() > 0 {
                let short = "it became shorter while it was read";
                return Err(Broken::Source(io::Error::other(short)));
            }
            if count == 0 || stdin.write_all(&chunk[..count]).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Reads an output up to the mark at its end, and the exit code behind it.
    async fn collect(&self, pipe: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, Option<i32>) {
        let mut output = Vec::new();
        loop {
            let seen = output.len();
            match pipe.read_buf(&mut output).await {
                Ok(0) | Err(_) => return (output, None),
                Ok(_) => {}
            }
            if let Some((end, code)) = self.supervisor.end(&output, seen) {
                output.truncate(end);
                return (output, Some(code));
            }
        }
    }

    /// Lets the supervisor go, behind the back of who waited for the command.
    fn part(&self, mut stdin: ChildStdin, mut child: Child, permit: OwnedSemaphorePermit) {
        let tail = self.supervisor.tail();
        tokio::spawn(tokio::time::timeout(FAREWELL, async move {
            // It may have gone already.
            let _ = stdin.write_all(tail.as_bytes()).await;
            drop(stdin);
            let _ = child.wait().await;
            drop(permit);
        }));
    }

    /// As [`super::Transport::run`], without the host's name.
    pub(super) async fn run(&self, command: &Command) -> Result<Output, Broken> {
        let stdin = command.stdin.as_ref().map_or(Input::Nothing, |Secret(b)| Input::Bytes(b));
        self.exec(&command.argv, stdin, command.timeout).await
    }

    pub(super) async fn read(&self, path: &str) -> Result<Result<Option<Found>, String>, Broken> {
        Ok(files::found(&self.run(&files::read(path)).await?))
    }

    pub(super) async fn write(&self, file: &File) -> Result<Result<(), String>, Broken> {
        let command = files::write(file, &files::checksum(&file.content));
        let output = self.exec(&command.argv, Input::Bytes(&file.content), command.timeout).await?;
        Ok(files::written(&output))
    }

    pub(super) async fn upload(
        &self,
        source: &Path,
        path: &str,
        mode: u32,
    ) -> Result<Result<(), String>, Broken> {
        let (sum, len) = files::checksum_of(source).await.map_err(Broken::Source)?;
        let patience = files::patience(len);
        let there = files::same(path, &sum, mode).timeout(patience);
        if self.run(&there).await?.ok() {
            return Ok(Ok(()));
        }
        let file = File::new(path, "").mode(mode);
        let command = files::write(&file, &sum);
        let output = self.exec(&command.argv, Input::File(source, len), patience).await?;
        Ok(files::written(&output))
    }

    /// A break as the caller's error; `what` was under way.
    pub(super) fn error(&self, broken: Broken, what: &str) -> TransportError {
        let host = self.host.clone();
        match broken {
            Broken::Timeout(limit) => {
                TransportError::Timeout { host, command: what.to_owned(), limit }
            }
            Broken::Lost(reason) => TransportError::Lost { host, reason },
            Broken::Source(error) => {
                TransportError::File { host, path: what.to_owned(), reason: error.to_string() }
            }
        }
    }
}

/// The last line of what was said.
pub(super) fn last_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or("it ended without a word").to_owned()
}
