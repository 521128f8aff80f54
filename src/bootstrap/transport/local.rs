//! This machine itself, as root or through sudo.

use std::path::Path;

use futures_util::future::BoxFuture;
use tokio::process;

use super::line::{Broken, Line, Rise};
use super::{Command, File, Found, Output, Transport, TransportError};

/// This machine.
#[derive(Debug)]
pub struct Local {
    host: String,
    line: Line,
}

impl Local {
    /// This machine under the name that the spec gives it. Root is reached through `sudo -n` if the
    /// process is not root's.
    pub fn new(host: &str) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self::risen(host, if root { Rise::Root } else { Rise::Sudo })
    }

    /// The same as whoever runs this.
    #[cfg(test)]
    pub(crate) fn as_we_are(host: &str) -> Self {
        Self::risen(host, Rise::Root)
    }

    fn risen(host: &str, rise: Rise) -> Self {
        let start = |line: &str| {
            let mut command = process::Command::new("sh");
            command.args(["-c", line]);
            command
        };
        Self { host: host.to_owned(), line: Line::new(host, rise, Box::new(start)) }
    }

    fn no_file(&self, path: &str, reason: String) -> TransportError {
        TransportError::File { host: self.host.clone(), path: path.to_owned(), reason }
    }

    /// Here nothing can be lost: what started the command ended it, which is sudo.
    fn broken(&self, broken: Broken, what: &str) -> TransportError {
        let Broken::Lost(said) = broken else { return self.line.error(broken, what) };
        let (host, remedy) = (self.host.clone(), "run this as root, or make `sudo -n true` work");
        TransportError::Unreachable { host, reason: said, remedy: remedy.to_owned() }
    }
}

impl Transport for Local {
    fn host(&self) -> &str {
        &self.host
    }

    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>> {
        Box::pin(async move {
            let output = self.line.run(command).await;
            output.map_err(|broken| self.broken(broken, &command.brief()))
        })
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            let found = self.line.read(path).await.map_err(|broken| self.broken(broken, path))?;
            found.map_err(|reason| self.no_file(path, reason))
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let written = self.line.write(file).await;
            let written = written.map_err(|broken| self.broken(broken, &file.path))?;
            written.map_err(|reason| self.no_file(&file.path, reason))
        })
    }

    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let written = self.line.upload(source, path, mode).await;
            let written = written.map_err(|broken| self.broken(broken, path))?;
            written.map_err(|reason| self.no_file(path, reason))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn commands_run_and_files_are_kept() {
        let local = Local::as_we_are("here");
        let script = Command::script("cat; printf %s \"$1\" >&2; exit 9", ["it's"]);
        let output = local.run(&script.stdin("input")).await.unwrap();
        assert_eq!(
            (output.code, output.text(), output.complaint().as_str()),
            (9, "input".to_owned(), "it's")
        );

        let us = local.run(&Command::new(["id", "-un"])).await.unwrap().text();
        let group = local.run(&Command::new(["id", "-gn"])).await.unwrap().text();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b").display().to_string();
        assert_eq!(local.read(&path).await.unwrap(), None);
        local.write(&File::secret(&*path, "text").owned_by(&us, &group)).await.unwrap();
        let found = local.read(&path).await.unwrap().unwrap();
        assert_eq!((found.content.as_slice(), found.mode), (b"text".as_slice(), 0o600));
        assert_eq!(found.owner, (us, group));
    }

    #[tokio::test]
    async fn a_limit_of_time_kills_children_too() {
        kills_children(Local::as_we_are("here")).await;
    }

    #[tokio::test]
    async fn also_where_hangups_are_ignored() {
        let start = |line: &str| {
            let mut command = process::Command::new("sh");
            command.args(["-c", &format!("trap '' HUP; {line}")]);
            command
        };
        let line = Line::new("here", Rise::Root, Box::new(start));
        kills_children(Local { host: "here".to_owned(), line }).await;
    }

    async fn kills_children(local: Local) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = "sleep 300 & echo $! > \"$1\"; wait";
        let command = Command::script(script, [file.display().to_string()]);
        let began = Instant::now();
        let error = local.run(&command.timeout(Duration::from_secs(1))).await.unwrap_err();
        assert!(matches!(error, TransportError::Timeout { .. }), "{error:?}");
        let pid = std::fs::read_to_string(file).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        while process.exists() {
            assert!(began.elapsed() < Duration::from_secs(10), "it lives on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
