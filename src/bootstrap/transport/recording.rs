//! A host that is not there, for tests: it answers by script, keeps files in memory and records
//! what it was asked.

mod answer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Command, File, Found, Output, Transport, TransportError};
pub use answer::{Answer, When};
use answer::{End, Rule};

/// What was asked of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To run this command.
    Run(Command),
    /// To read the file of this path.
    Read(String),
    /// To write this file.
    Write(File),
    /// To take the file of this source, at this path.
    Upload(String, String),
}

/// One thing that was asked, and when.
#[derive(Clone, Debug)]
pub struct Call {
    /// What.
    pub asked: Asked,
    /// When it was asked.
    pub began: Instant,
    /// When it was answered; none while it is under way, and if it was killed.
    pub ended: Option<Instant>,
}

/// How many hosts are asked something at the same time, over all that share it.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Busy>);

#[derive(Debug, Default)]
struct Busy {
    /// What is under way, by host.
    hosts: BTreeMap<String, usize>,
    most: usize,
}

impl Meter {
    /// The most hosts that were asked something at the same time.
    pub fn most(&self) -> usize {
        lock(&self.0).most
    }

    fn enter(&self, host: &str) {
        let mut busy = lock(&self.0);
        *busy.hosts.entry(host.to_owned()).or_default() += 1;
        busy.most = busy.most.max(busy.hosts.len());
    }

    fn leave(&self, host: &str) {
        let mut busy = lock(&self.0);
        if let Some(count) = busy.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                busy.hosts.remove(host);
            }
        }
    }
}

/// A host that is not there.
///
/// A command is answered by the youngest rule that matches it; one that no rule matches fails with
/// exit code 127 and is listed by [`Recording::unexpected`].
pub struct Recording {
    host: String,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    files: BTreeMap<String, Found>,
    /// Why a file cannot be written, by its path.
    unwritable: BTreeMap<String, String>,
    calls: Vec<Call>,
    unexpected: Vec<String>,
    /// Why it cannot be reached any more.
    dead: Option<String>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({})", self.host)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    /// A host of this name, without files, that answers nothing yet.
    pub fn new(host: &str) -> Arc<Self> {
        Self::metered(host, &Arc::default())
    }

    /// The same, measured together with others.
    pub fn metered(host: &str, meter: &Arc<Meter>) -> Arc<Self> {
        let (host, meter) = (host.to_owned(), Arc::clone(meter));
        Arc::new(Self { host, meter, state: Mutex::default() })
    }

    /// Answers commands like this from now on. `"text"` is any whose words, joined by spaces,
    /// contain it; `["a", "b"]` any that begins with these words; [`When::is`] any other choice.
    pub fn on(&self, when: impl Into<When>, answer: Answer) -> &Self {
        lock(&self.state).rules.push(Rule { when: when.into(), answer });
        self
    }

    /// Puts a file there.
    pub fn put(&self, file: File) -> &Self {
        let File { path, content, mode, owner, .. } = file;
        lock(&self.state).files.insert(path, Found { content, mode, owner });
        self
    }

    /// Takes a file away, and all below it if it is a folder.
    pub fn remove(&self, path: &str) -> &Self {
        let below = format!("{path}/");
        lock(&self.state).files.retain(|name, _| name != path && !name.starts_with(&below));
        self
    }

    /// From now on this file cannot be written, for this reason.
    pub fn unwritable(&self, path: &str, reason: &str) -> &Self {
        lock(&self.state).unwritable.insert(path.to_owned(), reason.to_owned());
        self
    }

    /// The host dies: what is asked from now on finds the connection lost.
    pub fn die(&self, reason: &str) -> &Self {
        lock(&self.state).dead = Some(reason.to_owned());
        self
    }

    /// The host is back, with its files.
    pub fn revive(&self) -> &Self {
        lock(&self.state).dead = None;
        self
    }

    /// What is in a file now.
    pub fn file(&self, path: &str) -> Option<Found> {
        lock(&self.state).files.get(path).cloned()
    }

    /// The text of a file now.
    pub fn text(&self, path: &str) -> Option<String> {
        self.file(path).map(|found| String::from_utf8_lossy(&found.content).into_owned())
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<String> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// All that was asked, the oldest first.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    /// Forgets what was asked until now.
    pub fn forget(&self) {
        let mut state = lock(&self.state);
        state.calls.clear();
        state.unexpected.clear();
    }

    /// All commands that were run, the oldest first.
    pub fn commands(&self) -> Vec<Command> {
        let run = |call: Call| match call.asked {
            Asked::Run(command) => Some(command),
            _ => None,
        };
        self.calls().into_iter().filter_map(run).collect()
    }

    /// The commands that were run, each as its words joined by spaces.
    pub fn lines(&self) -> Vec<String> {
        self.commands().iter().map(|command| command.argv.join(" ")).collect()
    }

    /// How many commands were run whose words, joined by spaces, contain this.
    pub fn ran(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    /// The paths of the files that were written or uploaded, the oldest first.
    pub fn written(&self) -> Vec<String> {
        let path = |call: Call| match call.asked {
            Asked::Write(file) => Some(file.path),
            Asked::Upload(_, path) => Some(path),
            _ => None,
        };
        self.calls().into_iter().filter_map(path).collect()
    }

    /// The commands that no rule matched.
    pub fn unexpected(&self) -> Vec<String> {
        lock(&self.state).unexpected.clone()
    }

    fn begin(&self, asked: Asked) -> Result<Record<'_>, TransportError> {
        let mut state = lock(&self.state);
        if let Some(reason) = &state.dead {
            return Err(self.lost(reason));
        }
        let index = state.calls.len();
        state.calls.push(Call { asked, began: Instant::now(), ended: None });
        self.meter.enter(&self.host);
        Ok(Record { host: self, index })
    }

    fn lost(&self, reason: &str) -> TransportError {
        TransportError::Lost { host: self.host.clone(), reason: reason.to_owned() }
    }

    fn no_file(&self, path: &str, reason: &str) -> TransportError {
        let (path, reason) = (path.to_owned(), reason.to_owned());
        TransportError::File { host: self.host.clone(), path, reason }
    }

    /// The answer to a command; used up if it was for so many times only.
    fn answer(&self, command: &Command) -> Option<Answer> {
        let mut state = lock(&self.state);
        let found = state.rules.iter().rposition(|rule| rule.matches(command));
        let Some(found) = found else {
            state.unexpected.push(command.argv.join(" "));
            return None;
        };
        Some(state.rules[found].take())
    }

    async fn run_it(&self, command: &Command) -> Result<Output, TransportError> {
        let mut record = self.begin(Asked::Run(command.clone()))?;
        let Some(answer) = self.answer(command) else {
            record.end();
            let complaint = format!("nothing answers `{}`", command.argv.join(" "));
            return Ok(Output { code: 127, stdout: Vec::new(), stderr: complaint.into_bytes() });
        };
        if answer.delay > command.timeout {
            tokio::time::sleep(command.timeout).await;
            record.end();
            return Err(TransportError::Timeout {
                host: self.host.clone(),
                command: command.argv.join(" "),
                limit: command.timeout,
            });
        }
        if answer.delay > Duration::ZERO {
            tokio::time::sleep(answer.delay).await;
        }
        // It may have died meanwhile.
        if let Some(reason) = lock(&self.state).dead.clone() {
            return Err(self.lost(&reason));
        }
        let result = match answer.end {
            End::Output(output) => Ok(output),
            End::Computed(compute) => Ok(compute(self, command)),
            End::Error(error) => Err(error),
            End::Dies => {
                self.die("it died");
                return Err(self.lost("it died"));
            }
        };
        if let Some(effect) = answer.effect {
            effect(self, command);
        }
        record.end();
        result
    }

    fn write_it(&self, file: &File, asked: Asked) -> Result<(), TransportError> {
        let mut record = self.begin(asked)?;
        let reason = lock(&self.state).unwritable.get(&file.path).cloned();
        if let Some(reason) = reason {
            record.end();
            return Err(self.no_file(&file.path, &reason));
        }
        self.put(file.clone());
        record.end();
        Ok(())
    }
}

/// A call under way: it counts until it is dropped.
struct Record<'a> {
    host: &'a Recording,
    index: usize,
}

impl Record<'_> {
    fn end(&mut self) {
        if let Some(call) = lock(&self.host.state).calls.get_mut(self.index) {
            call.ended = Some(Instant::now());
        }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.host.meter.leave(&self.host.host);
    }
}

impl Transport for Recording {
    fn host(&self) -> &str {
        &self.host
    }

    fn run<'a>(&'a self, command: &'a Command) -> BoxFuture<'a, Result<Output, TransportError>> {
        Box::pin(self.run_it(command))
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            let mut record = self.begin(Asked::Read(path.to_owned()))?;
            record.end();
            Ok(self.file(path))
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move { self.write_it(file, Asked::Write(file.clone())) })
    }

    fn upload<'a>(
        &'a self,
        source: &'a Path,
        path: &'a str,
        mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let content = std::fs::read(source)
                .map_err(|error| self.no_file(path, &format!("{}: {error}", source.display())))?;
            let asked = Asked::Upload(source.display().to_string(), path.to_owned());
            self.write_it(&File::new(path, content).mode(mode), asked)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_youngest_rule_answers_and_the_rest_is_unexpected() {
        let host = Recording::new("cp1");
        host.on("systemctl", Answer::ok("active\n"))
            .on(["systemctl", "is-active", "etcd"], Answer::fails(3, "inactive").once());
        let command = Command::new(["systemctl", "is-active", "etcd"]);
        assert_eq!(host.run(&command).await.unwrap().code, 3);
        assert_eq!(host.run(&command).await.unwrap().text(), "active");
        let other = host.run(&Command::new(["reboot"])).await.unwrap();
        assert_eq!((other.code, host.unexpected()), (127, vec!["reboot".to_owned()]));
        assert_eq!(host.ran("is-active"), 2);
    }

    #[tokio::test]
    async fn files_are_kept_and_commands_may_change_them() {
        let host = Recording::new("cp1");
        host.write(&File::secret("/etc/a", "1")).await.unwrap();
        assert_eq!(host.read("/etc/a").await.unwrap().unwrap().mode, 0o600);
        let reset = |host: &Recording, _: &Command| {
            host.remove("/etc");
        };
        host.on(["kubeadm", "reset"], Answer::ok("").then(reset));
        host.run(&Command::new(["kubeadm", "reset"])).await.unwrap();
        assert_eq!(host.read("/etc/a").await.unwrap(), None);
        host.unwritable("/etc/b", "no space left on device");
        let error = host.write(&File::new("/etc/b", "2")).await.unwrap_err();
        assert_eq!(error.to_string(), "cp1: /etc/b: no space left on device");
        assert_eq!(host.paths(), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_its_time_and_dies_in_the_middle() {
        let host = Recording::new("cp1");
        host.on("slow", Answer::ok("").after(Duration::from_secs(5)));
        let slow = Command::new(["slow"]);
        let limit = slow.clone().timeout(Duration::from_secs(2));
        assert!(matches!(host.run(&limit).await, Err(TransportError::Timeout { .. })));
        host.run(&slow).await.unwrap();
        let call = &host.calls()[1];
        assert_eq!(call.ended.unwrap() - call.began, Duration::from_secs(5));

        let killed = tokio::time::timeout(Duration::from_secs(1), host.run(&slow)).await;
        assert!(killed.is_err() && host.calls()[2].ended.is_none());

        host.on("slow", Answer::dies().after(Duration::from_secs(1)));
        assert!(matches!(host.run(&slow).await, Err(TransportError::Lost { .. })));
        assert!(matches!(host.read("/etc/a").await, Err(TransportError::Lost { .. })));
        host.revive();
        assert_eq!(host.read("/etc/a").await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_meter_counts_hosts_not_commands() {
        let meter = Arc::default();
        let hosts = ["a", "b", "c"].map(|name| Recording::metered(name, &meter));
        for host in &hosts {
            host.on("x", Answer::ok("").after(Duration::from_secs(1)));
        }
        let x = Command::new(["x"]);
        let (_, _, _) = tokio::join!(hosts[0].run(&x), hosts[0].run(&x), hosts[1].run(&x));
        assert_eq!(meter.most(), 2);
    }
}
