//! The proxies that are compared: how each is configured, started and ended.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::interrupt;
use crate::load::Client;
use crate::procfs;

/// How long a peer may take to serve its first request, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pace at which it is asked.
const PACE: Duration = Duration::from_millis(20);

/// Where peers listen.
const PORTS: Range<u16> = 24_000..28_000;
const SPAN: u32 = 4_000;

/// What kind of proxy a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None: clients talk to the server.
    Direct,
    Apiproxy {
        /// Data threads.
        threads: u8,
    },
    Haproxy {
        splice: bool,
    },
    Nginx {
        /// Of its stream module.
        module: PathBuf,
    },
    Envoy,
}

/// One that is there and can be started.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Peer {
    /// Its name and version.
    pub(crate) fn line(&self) -> String {
        format!("`{}`: {}", self.name, self.version)
    }

    /// Starts it in front of a server, and waits until it serves.
    pub(crate) fn start(&self, backend: SocketAddr) -> io::Result<Running> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut running = Running { process: None, address: backend, pids: Vec::new(), folder };
        if self.kind != Kind::Direct {
            running.address = free_port()?;
            let mut command = self.command(running.address, backend, running.folder.path())?;
            let log = File::create(&log)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            running.process = Some(command.spawn()?);
        }
        let began = Instant::now();
        loop {
            let address = running.address;
            let served = interrupt::run(async move {
                let exchange = async { Client::connect(address).await?.exchange(1024).await };
                tokio::time::timeout(Duration::from_secs(1), exchange).await?
            });
            let ended = running.process.as_mut().map_or(Ok(None), Child::try_wait)?;
            match served {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) if ended.is_some() || began.elapsed() > PATIENCE => {
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    return Err(io::Error::other(format!("does not serve: {error}\n{log}")));
                }
                Err(_) => interrupt::pause(PACE)?,
                Ok(_) => break,
            }
        }
        running.pids = running.process.as_ref().map_or(vec![], |child| procfs::family(child.id()));
        Ok(running)
    }

    fn command(
        &self,
        listen: SocketAddr,
        backend: SocketAddr,
        folder: &Path,
    ) -> io::Result<Command> {
        // Should this program be killed, the peer is told to end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&self.program);
        let config = folder.join("config.yaml");
        let template = match &self.kind {
            Kind::Direct => "",
            Kind::Apiproxy { .. } => {
                command.args(["run", "--config"]).arg(&config);
                include_str!("peers/apiproxy.yaml")
            }
            Kind::Haproxy { .. } => {
                command.args(["-db", "-f"]).arg(&config);
                include_str!("peers/haproxy.cfg")
            }
            Kind::Nginx { .. } => {
                command.args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(&config);
                include_str!("peers/nginx.conf")
            }
            Kind::Envoy => {
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]);
                command.arg(&config);
                include_str!("peers/envoy.yaml")
            }
        };
        let options = if self.kind == (Kind::Haproxy { splice: true }) {
            "option splice-auto"
        } else {
            "# no splicing"
        };
        let threads = match &self.kind {
            Kind::Apiproxy { threads } => *threads,
            _ => 1,
        };
        let module = match &self.kind {
            Kind::Nginx { module } => module.display().to_string(),
            _ => String::new(),
        };
        let values = [
            ("@LISTEN@", listen.to_string()),
            ("@LISTEN_HOST@", listen.ip().to_string()),
            ("@LISTEN_PORT@", listen.port().to_string()),
            ("@BACKEND@", backend.to_string()),
            ("@BACKEND_HOST@", backend.ip().to_string()),
            ("@BACKEND_PORT@", backend.port().to_string()),
            ("@ADMIN@", free_port()?.to_string()),
            ("@OPTIONS@", options.to_owned()),
            ("@THREADS@", threads.to_string()),
            ("@MODULE@", module),
            ("@FOLDER@", folder.display().to_string()),
        ];
        let text = values
            .iter()
            .fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
        fs::write(&config, text)?;
        Ok(command)
    }
}

/// A running peer. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Option<Child>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Its processes; none for `direct`.
    pub(crate) pids: Vec<u32>,
    /// Its configuration and log.
    folder: TempDir,
}

impl Running {
    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else { return };
        let pid = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw);
        let told = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let began = Instant::now();
        while told == Some(Ok(())) && began.elapsed() < PATIENCE {
            if !matches!(process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PACE);
        }
        // It did not listen, or has ended.
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// A port of 127.0.0.1 that nobody has now. It is below those that the kernel gives to outgoing
/// connections, so that none of these takes it before it is used.
fn free_port() -> io::Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..PORTS.len() {
        let offset = (std::process::id() * 61 + u32::from(NEXT.fetch_add(1, Relaxed))) % SPAN;
        let port = PORTS.start + u16::try_from(offset).map_err(io::Error::other)?;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr();
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
