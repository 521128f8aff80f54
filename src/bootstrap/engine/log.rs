//! The log of a run: every remote command with its host, step, exit code and duration, without
//! secrets. It is written by what stands before every transport, so that no step can forget it.

use std::fs::{File as Handle, OpenOptions};
use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{StepId, redact};
use crate::bootstrap::transport::{Command, File, Found, Output, Transport, TransportError};

tokio::task_local! {
    /// The step that is being looked at or applied.
    static STEP: String;
}

/// Has what is asked of hosts meanwhile written down as this step's.
pub(super) async fn scope<T>(step: &StepId, work: impl Future<Output = T>) -> T {
    STEP.scope(step.to_string(), work).await
}

/// How many logs a folder keeps: the newest, of which the one that begins is one.
pub(super) const KEPT: usize = 50;

/// The log of one run: lines of JSON, readable by its owner alone.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    file: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: Handle,
    /// The first line that could not be written, if one could not.
    fault: Option<io::Error>,
}

impl RunLog {
    /// Begins the log of a command in a folder, which is made if it is not there:
    /// `TIME-COMMAND.jsonl`. Of older ones of the same command the newest stay, 50 with this one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(folder: &Path, command: &str) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let seconds = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        // No colons, which some file systems and copy tools do not like.
        let time = seconds.replace(':', "");
        let open =
            |path: &Path| OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
        for n in 1_u32.. {
            let again = if n == 1 { String::new() } else { format!("-{n}") };
            let path = folder.join(format!("{time}-{command}{again}.jsonl"));
            match open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    // Another run may be at it too, and a log too many harms nobody.
                    let _ = prune(folder, command, &path);
                    return Ok(Self { path, file: Mutex::new(Writer { file, fault: None }) });
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it is not complete, if it is not.
    pub fn fault(&self) -> Option<String> {
        let writer = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writer.fault.as_ref().map(ToString::to_string)
    }

    /// Writes a line, with the time before it.
    pub fn note(&self, kind: &str, mut fields: Value) {
        if let Some(fields) = fields.as_object_mut() {
            let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            fields.insert("time".to_owned(), time.into());
            fields.insert("kind".to_owned(), kind.into());
            if let Ok(step) = STEP.try_with(Clone::clone) {
                fields.insert("step".to_owned(), step.into());
            }
        }
        let line = format!("{fields}\n");
        let mut writer = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.file.write_all(line.as_bytes()) {
            writer.fault.get_or_insert(error);
        }
    }
}

/// Removes the oldest logs of a command from a folder, never this one and nothing else: who looks each
/// minute drives out nothing of what was changed.
fn prune(folder: &Path, command: &str, own: &Path) -> io::Result<()> {
    let is_log = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = name.strip_suffix(".jsonl").and_then(|name| after_date(name));
        ours.is_some_and(|name| {
            let again = name.strip_prefix(command).map(|rest| rest.trim_start_matches('-'));
            again.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
    };
    let found = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut logs: Vec<_> = found.filter(is_log).filter(|path| path != own).collect();
    // Their names begin with their times.
    logs.sort_unstable();
    let surplus = (logs.len() + 1).saturating_sub(KEPT);
    // One that cannot go keeps no other.
    logs.iter().take(surplus).map(std::fs::remove_file).fold(Ok(()), Result::and)
}

/// What comes after `2026-12-01T101112Z-`, as [`RunLog::create`] begins names.
fn after_date(name: &str) -> Option<&str> {
    const FORM: &str = "0000-00-00T000000Z-";
    let (date, rest) = name.split_at_checked(FORM.len())?;
    let fits = |(form, byte)| match form {
        b'0' => u8::is_ascii_digit(&byte),
        form => form == byte,
    };
    FORM.bytes().zip(date.bytes()).all(fits).then_some(rest)
}

/// A host whose every use is written down.
#[derive(Debug)]
pub struct Logged {
    inner: Arc<dyn Transport>,
    log: Arc<RunLog>,
}

impl Logged {
    /// The same host, with its uses written down.
    pub fn new(inner: Arc<dyn Transport>, log: &Arc<RunLog>) -> Self {
        Self { inner, log: Arc::clone(log) }
    }

    /// Writes down one use, when it ends or is given up.
    fn record(&self, kind: &'static str, fields: Value) -> Record<'_> {
        Record { logged: self, kind, fields, began: Instant::now() }
    }
}

/// A use that is under way; what is dropped before its end was killed.
struct Record<'a> {
    logged: &'a Logged,
    kind: &'static str,
    fields: Value,
    began: Instant,
}

impl Record<'_> {
    fn end<T>(mut self, result: &Result<T, TransportError>, more: impl FnOnce(&T) -> Value) {
        match result {
            Ok(value) => merge(&mut self.fields, more(value)),
            Err(error) => {
                merge(&mut self.fields, json!({ "error": redact::text(&error.to_string()) }));
            }
        }
        self.fields["ended"] = true.into();
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        let ended = fields.as_object_mut().and_then(|fields| fields.remove("ended")).is_some();
        let milliseconds = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let host = self.logged.inner.host();
        merge(&mut fields, json!({ "host": host, "milliseconds": milliseconds }));
        if !ended {
            fields["error"] = "killed".into();
        }
        self.logged.log.note(self.kind, fields);
    }
}

fn merge(fields: &mut Value, more: Value) {
    if let (Some(fields), Value::Object(more)) = (fields.as_object_mut(), more) {
        fields.extend(more);
    }
}

fn output(output: &Output) -> Value {
    let mut fields = json!({
        "code": output.code,
        "stdout": output.stdout.len(),
        "stderr": output.stderr.len(),
    });
    if !output.ok() {
        fields["complaint"] = redact::text(&output.complaint()).into();
    }
    fields
}

impl Transport for Logged {
    fn host(&self) -> &str {
        self.inner.host()
    }

    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>> {
        Box::pin(async move {
            let mut fields = json!({ "argv": redact::words(&command.argv) });
            if let Some(stdin) = &command.stdin {
                fields["stdin"] = stdin.0.len().into();
            }
            let record = self.record("run", fields);
            let result = self.inner.run(command).await;
            record.end(&result, output);
            result
        })
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            let record = self.record("read", json!({ "path": path }));
            let result = self.inner.read(path).await;
            record.end(
                &result,
                |found| json!({ "bytes": found.as_ref().map(|found| found.content.len()) }),
            );
            result
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let (path, mode) = (&file.path, format!("{:04o}", file.mode));
            let fields = json!({ "path": path, "mode": mode, "bytes": file.content.len() });
            let record = self.record("write", fields);
            let result = self.inner.write(file).await;
            record.end(&result, |()| json!({}));
            result
        })
    }

    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let fields = json!({ "source": source, "path": path, "mode": format!("{mode:04o}") });
            let record = self.record("upload", fields);
            let result = self.inner.upload(source, path, mode).await;
            record.end(&result, |()| json!({}));
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::bootstrap::transport::recording::{Answer, Recording};

    fn lines(log: &RunLog) -> Vec<Value> {
        let text = std::fs::read_to_string(log.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn every_use_is_written_down_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(RunLog::create(&folder.path().join("runs"), "apply").unwrap());
        let host = Recording::new("cp1");
        host.on("kubeadm", Answer::fails(1, "bad token abcdef.0123456789abcdef"))
            .on("sleep", Answer::ok("").after(Duration::from_secs(9)));
        let logged = Logged::new(host.clone(), &log);
        let step = StepId::new("cp1", "join");
        let join = Command::new(["kubeadm", "join", "--token", "abcdef.0123456789abcdef"]);
        scope(&step, logged.run(&join.stdin("hidden"))).await.unwrap();
        logged.write(&File::secret("/etc/key", "hidden")).await.unwrap();
        let sleep = Command::new(["sleep", "9"]);
        let killed = tokio::time::timeout(Duration::from_secs(1), logged.run(&sleep)).await;
        assert!(killed.is_err());
        host.die("gone");
        logged.read("/etc/key").await.unwrap_err();

        let lines = lines(&log);
        assert_eq!(lines[0]["argv"], json!(["kubeadm", "join", "--token", "[redacted]"]));
        assert_eq!(lines[0]["step"], "cp1/join");
        assert_eq!((&lines[0]["code"], &lines[0]["stdin"]), (&json!(1), &json!(6)));
        assert_eq!(lines[0]["complaint"], "bad token [redacted]");
        assert_eq!((&lines[1]["kind"], &lines[1]["bytes"]), (&json!("write"), &json!(6)));
        assert_eq!(lines[2]["error"], "killed");
        assert_eq!(lines[3]["error"], "cp1: the connection was lost: gone; is it up?");
        let text = std::fs::read_to_string(log.path()).unwrap();
        assert!(!text.contains("hidden") && !text.contains("abcdef.0"), "{text}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(log.path()), 0o600);
        assert_eq!(mode(log.path().parent().unwrap()), 0o700);
        assert_eq!(log.fault(), None);
    }

    #[test]
    fn two_runs_of_one_second_have_two_logs() {
        let folder = tempfile::tempdir().unwrap();
        let logs = [1, 2].map(|_| RunLog::create(folder.path(), "plan").unwrap());
        assert_ne!(logs[0].path(), logs[1].path());
    }

    #[test]
    fn the_newest_logs_stay_and_nothing_else_goes() {
        let folder = tempfile::tempdir().unwrap();
        let old = |n: usize| format!("2026-01-01T0000{:02}Z-plan.jsonl", n % 60);
        for n in 0..55 {
            std::fs::write(folder.path().join(old(n)), "").unwrap();
        }
        for other in ["notes.jsonl", "2026-01-01T000000Z-plan.txt"] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        let of_another = folder.path().join("2025-01-01T000000Z-apply.jsonl");
        std::fs::write(&of_another, "").unwrap();
        let log = RunLog::create(folder.path(), "plan").unwrap();
        assert!(log.path().exists() && of_another.exists());
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, KEPT + 3, "50 logs, that of another command, and what is none");
        assert!(!folder.path().join(old(5)).exists() && folder.path().join(old(6)).exists());
        assert!(folder.path().join("notes.jsonl").exists());
    }
}
