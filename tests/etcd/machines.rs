//! Machines for etcd: each a network, a process tree and a root of files of its own, where the real
//! etcd runs on its real ports and paths; systemd is a double.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use apiproxy::bootstrap::transport::{self, File, Found, Output, Transport, TransportError};
use futures_util::future::BoxFuture;

use crate::common::{run, wait_for};

/// Folders of a machine that it does not share with the host.
const OWN: &[&str] = &["/etc", "/var/lib"];

/// A process in namespaces of its own, and all that was started in them. Killed when dropped.
struct Holder(Child);

impl Holder {
    /// Starts a script in new namespaces; it prints a line when it is ready.
    fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-euc", script, "sh"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self(child)
    }

    /// The first process in its namespaces, by its number outside of them.
    fn pid(&self) -> String {
        let unshare = self.0.id();
        let path = format!("/proc/{unshare}/task/{unshare}/children");
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switch that machines are plugged into.
pub(crate) struct Switch(Holder);

impl Switch {
    pub(crate) fn new() -> Self {
        let script = "ip link add sw type bridge; ip link set sw up; echo; exec sleep infinity";
        Self(Holder::start(script, &[]))
    }
}

/// What a run of steps may still do before it is cut off.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicI64,
    used: AtomicUsize,
}

impl Fuse {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(i64::MAX), used: AtomicUsize::new(0) })
    }

    /// Allows so many commands from now on.
    pub(crate) fn set(&self, commands: i64) {
        self.left.store(commands, SeqCst);
    }

    /// How many commands were run so far.
    pub(crate) fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    fn burn(&self, host: &str) -> Result<(), TransportError> {
        self.used.fetch_add(1, SeqCst);
        if self.left.fetch_sub(1, SeqCst) > 0 {
            return Ok(());
        }
        Err(TransportError::Lost { host: host.to_owned(), reason: "killed".to_owned() })
    }
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) name: String,
    holder: std::sync::Mutex<Option<Holder>>,
    /// Where the programs are: Debian's, or those of a folder.
    programs: Option<PathBuf>,
    fuse: Arc<Fuse>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Machine({})", self.name)
    }
}

impl Machine {
    /// Starts a machine with this address, plugged into the switch.
    pub(crate) fn start(
        switch: &Switch,
        name: &str,
        address: &str,
        programs: Option<&Path>,
        fuse: &Arc<Fuse>,
    ) -> Arc<Self> {
        let machine = Self {
            name: name.to_owned(),
            holder: std::sync::Mutex::new(None),
            programs: programs.map(Path::to_owned),
            fuse: fuse.clone(),
        };
        let double = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/etcd/systemctl.sh");
        let script = r#"
            double=$1
            shift
            mount -t tmpfs tmpfs /mnt
            mkdir /mnt/bin /mnt/state
            cp "$double" /mnt/bin/systemctl
            chmod 755 /mnt/bin/systemctl
            for folder; do
                own=/mnt/$(echo "$folder" | tr / _)
                mkdir "$own" "$own/new" "$own/work"
                mount -t overlay overlay \
                    -o "lowerdir=$folder,upperdir=$own/new,workdir=$own/work" "$folder"
            done
            rm -rf /etc/apiproxy /etc/kubernetes /var/lib/etcd
            ip link set lo up
            echo
            while :; do sleep 1000; done
        "#;
        let arguments: Vec<_> = std::iter::once(double).chain(OWN.iter().copied()).collect();
        let holder = Holder::start(script, &arguments);
        let (hub, own) = (switch.0.pid(), holder.pid());
        let plug = r#"
            nsenter -t "$1" -n ip link del "$3" 2>/dev/null || true
            nsenter -t "$1" -n ip link add "$3" type veth peer name eth0 netns "$2" address "$5"
            nsenter -t "$1" -n ip link set "$3" master sw up
            nsenter -t "$2" -n ip addr add "$4/24" dev eth0
            nsenter -t "$2" -n ip link set eth0 up
        "#;
        // The others remember who had its address.
        let last: u8 = address.rsplit('.').next().unwrap().parse().unwrap();
        let mac = format!("02:00:00:00:00:{last:02x}");
        run(Command::new("sh").args(["-euc", plug, "sh", &hub, &own, name, address, &mac]));
        *machine.holder.lock().unwrap() = Some(holder);
        Arc::new(machine)
    }

    /// Its machine is gone, with all that was on it.
    pub(crate) fn destroy(&self) {
        drop(self.holder.lock().unwrap().take());
    }

    fn enter(&self) -> Option<Command> {
        let holder = self.holder.lock().unwrap();
        let pid = holder.as_ref()?.pid();
        let path = std::env::var("PATH").unwrap();
        let programs = self.programs.as_ref().map(|folder| format!("{}:", folder.display()));
        let path = format!("/mnt/bin:{}{path}:/usr/sbin:/sbin", programs.unwrap_or_default());
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-m", "-n", "-p", "--"]);
        command.env_clear().env("PATH", path).env("DOUBLE_STATE", "/mnt/state");
        command.env("LC_ALL", "C.UTF-8");
        Some(command)
    }

    /// Runs a command on it, past the fuse.
    pub(crate) fn shell(&self, script: &str) -> Output {
        self.feed(&["sh", "-euc", script].map(String::from), &[]).unwrap()
    }

    /// The same; what it prints.
    #[track_caller]
    pub(crate) fn text(&self, script: &str) -> String {
        let output = self.shell(script);
        assert!(output.ok(), "{}: {script}: {output:?}", self.name);
        output.text()
    }

    fn feed(&self, argv: &[String], input: &[u8]) -> Result<Output, TransportError> {
        let mut command = self.enter().ok_or_else(|| TransportError::Unreachable {
            host: self.name.clone(),
            reason: "it is switched off".to_owned(),
            remedy: "switch it on".to_owned(),
        })?;
        // Pipes would be held open by what is started in the background.
        let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut child = command
            .args(argv)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may not read it.
        let _ = stdin.write_all(input);
        drop(stdin);
        let status = wait_for(&format!("{argv:?} ends"), Duration::from_mins(2), || {
            child.try_wait().unwrap()
        });
        let code = status.code().unwrap_or(137);
        Ok(Output { code, stdout: content(&mut out), stderr: content(&mut err) })
    }
}

fn content(file: &mut std::fs::File) -> Vec<u8> {
    use std::io::Seek as _;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A machine as the steps reach it.
#[derive(Debug)]
pub(crate) struct Reached(pub(crate) Arc<Machine>);

impl Reached {
    async fn feed(&self, argv: Vec<String>, input: Vec<u8>) -> Result<Output, TransportError> {
        self.0.fuse.burn(&self.0.name)?;
        let machine = self.0.clone();
        tokio::task::spawn_blocking(move || machine.feed(&argv, &input)).await.unwrap()
    }
}

impl Transport for Reached {
    fn host(&self) -> &str {
        &self.0.name
    }

    fn run<'a>(
        &'a self,
        command: &'a transport::Command,
    ) -> BoxFuture<'a, Result<Output, TransportError>> {
        let input = command.stdin.as_ref().map(|secret| secret.0.clone()).unwrap_or_default();
        Box::pin(self.feed(command.argv.clone(), input))
    }

    fn read<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Found>, TransportError>> {
        Box::pin(async move {
            let output = self.feed(words(&["cat", path]), Vec::new()).await?;
            let owner = ("root".to_owned(), "root".to_owned());
            let found = Found { content: output.stdout.clone(), mode: 0o644, owner };
            Ok(output.ok().then_some(found))
        })
    }

    fn write<'a>(&'a self, file: &'a File) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(async move {
            let script = r#"
                umask 077
                mkdir -p "$(dirname "$1")"
                cat >"$1.new"
                chmod "$2" "$1.new"
                chown "$3" "$1.new"
                mv -T "$1.new" "$1"
            "#;
            let (mode, owner) =
                (format!("{:o}", file.mode), format!("{}:{}", file.owner.0, file.owner.1));
            let argv = words(&["sh", "-euc", script, "sh", &file.path, &mode, &owner]);
            let output = self.feed(argv, file.content.clone()).await?;
            let reason = output.complaint();
            let (host, path) = (self.0.name.clone(), file.path.clone());
            if output.ok() { Ok(()) } else { Err(TransportError::File { host, path, reason }) }
        })
    }

    fn upload<'a>(
        &'a self,
        _source: &'a Path,
        path: &'a str,
        _mode: u32,
    ) -> BoxFuture<'a, Result<(), TransportError>> {
        let (host, path) = (self.0.name.clone(), path.to_owned());
        let reason = "these machines take no uploads".to_owned();
        Box::pin(async move { Err(TransportError::File { host, path, reason }) })
    }
}
