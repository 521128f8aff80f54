//! Connects to hosts: the handshake, who we are there, and the way to root.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process;
use tokio::time::timeout;

use super::explain::{self, Explained, Target};
use super::gate::Gate;
use crate::bootstrap::spec;
use crate::bootstrap::transport::line::{Line, Rise, Start};
use crate::bootstrap::transport::{Output, Secret, TransportError, quote};

/// For the connection, the handshake and the key exchange (`ConnectTimeout`).
const CONNECT: Duration = Duration::from_secs(10);

/// For all of it, with a login that may wait for a finger on a hardware key.
const LOGIN: Duration = Duration::from_mins(1);

/// For the first commands after the login: sudo may wait for a resolver that does not answer.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// For a command that does nothing, on a host that is suspected to hang: shorter than ssh takes to give the
/// connection up.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Three of these without an answer, and the connection is lost (`ServerAliveInterval`).
const ALIVE: Duration = Duration::from_secs(5);

/// How long an unused connection stays when this program was killed (`ControlPersist`), seconds.
const PERSIST: usize = 600;

/// How often a login that sshd dropped early is tried, and how long after.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// How hosts are reached, for all of them.
#[derive(Clone, Debug)]
pub struct Dialing {
    /// Host keys that are not known are added; one that changed is never accepted.
    pub accept_new: bool,
    /// What sudo asks for.
    pub sudo_password: Option<Secret>,
    /// Read in place of `~/.ssh/config`.
    pub config_file: Option<PathBuf>,
    /// Used in place of `~/.ssh/known_hosts`.
    pub known_hosts: Option<PathBuf>,
    /// How many handshakes at the same time.
    pub at_once: usize,
}

impl Default for Dialing {
    fn default() -> Self {
        Self {
            accept_new: false,
            sudo_password: None,
            config_file: None,
            known_hosts: None,
            at_once: 16,
        }
    }
}

/// Why a host was not connected to.
#[derive(Debug)]
pub(super) struct Undialed {
    pub(super) error: TransportError,
    /// It takes connections, and nothing comes of them.
    pub(super) hangs: bool,
}

/// Connects to hosts.
#[derive(Debug)]
pub struct Dialer {
    dialing: Dialing,
    gate: Gate,
    /// Where the sockets of connections are, for us alone. Its path is short: a socket's has 108
    /// bytes at most.
    folder: TempDir,
}

impl Dialer {
    /// A dialer, which has not connected yet.
    ///
    /// # Errors
    /// If no folder can be made for the sockets.
    pub fn new(dialing: Dialing) -> std::io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|folder| folder.is_dir() && folder.as_os_str().len() < 40);
        let parent = runtime.unwrap_or_else(|| PathBuf::from("/tmp"));
        let private = Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix("apx").permissions(private).tempdir_in(parent)?;
        let gate = Gate::new(dialing.at_once);
        Ok(Self { dialing, gate, folder })
    }

    /// Connects, logs in and finds the way to root.
    pub(super) async fn dial(
        &self,
        host: &str,
        address: IpAddr,
        settings: &spec::Ssh,
    ) -> Result<(Session, Line), Undialed> {
        let unreachable = |said: Explained| {
            let hangs = said == explain::hangs();
            let (reason, remedy) = said;
            let error = TransportError::Unreachable { host: host.to_owned(), reason, remedy };
            Undialed { error, hangs }
        };
        let target = Target {
            user: settings.user.clone(),
            address: address.to_string(),
            port: settings.port,
        };
        let session = self.log_in(&target, settings).await.map_err(unreachable)?;
        let rise = self.rise(&session, settings).await.map_err(unreachable)?;
        let line = Line::new(host, rise, start(&session));
        Ok((session, line))
    }

    fn builder(&self, settings: &spec::Ssh) -> SessionBuilder {
        let mut builder = SessionBuilder::default();
        let check = if self.dialing.accept_new { KnownHosts::Add } else { KnownHosts::Strict };
        builder.known_hosts_check(check);
        builder.connect_timeout(CONNECT).server_alive_interval(ALIVE);
        builder.control_directory(self.folder.path());
        if let Ok(seconds) = PERSIST.try_into() {
            builder.control_persist(ControlPersist::IdleFor(seconds));
        }
        if let Some(user) = &settings.user {
            builder.user(user.clone());
        }
        if let Some(port) = settings.port {
            builder.port(port);
        }
        if let Some(key) = &settings.identity_file {
            builder.keyfile(key);
        }
        if let Some(file) = &self.dialing.config_file {
            builder.config_file(file);
        }
        if let Some(file) = &self.dialing.known_hosts {
            builder.user_known_hosts_file(file);
        }
        builder
    }

    async fn log_in(&self, target: &Target, settings: &spec::Ssh) -> Result<Session, Explained> {
        // ssh would only say that the login was refused.
        if let Some(key) = settings.identity_file.as_ref().filter(|key| !key.exists()) {
            let reason = format!("there is no private key {}", key.display());
            return Err((reason, "correct ssh.identityFile".to_owned()));
        }
        let builder = self.builder(settings);
        let mut tried = 1;
        loop {
            let place = self.gate.enter().await;
            let said = match timeout(LOGIN, builder.connect(&target.address)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(openssh::Error::Connect(error)))
                    if error.kind() == std::io::ErrorKind::NotFound =>
                {
                    let remedy = format!(
                        "install openssh-client, or correct its configuration: try `{}`",
                        target.command()
                    );
                    return Err(("ssh does not start on this machine".to_owned(), remedy));
                }
                Ok(Err(openssh::Error::Connect(error))) => error.to_string(),
                Ok(Err(error)) => explain::cause(&error).unwrap_or_else(|| error.to_string()),
                Err(_) => "Timeout".to_owned(),
            };
            drop(place);
            if tried == TRIES || !explain::passing(&said) {
                return Err(explain::ssh(&said, target));
            }
            tokio::time::sleep(PAUSE * tried).await;
            tried += 1;
        }
    }

    /// Who are we there, and how do we become root?
    async fn rise(&self, session: &Session, settings: &spec::Ssh) -> Result<Rise, Explained> {
        let who = ask(session, &["id", "-u"], b"").await?;
        if who.ok() && who.text() == "0" {
            return Ok(Rise::Root);
        }
        if !who.ok() {
            let reason = format!("no command runs there: {}", who.complaint());
            return Err((reason, "its user needs a shell".to_owned()));
        }
        if !settings.sudo {
            let reason = format!("the login is not root's but that of user id {}", who.text());
            return Err((reason, "set ssh.sudo to true, or ssh.user to root".to_owned()));
        }
        let free = ask(session, &["sudo", "-n", "--", "id", "-u"], b"").await?;
        if free.ok() {
            return Ok(Rise::Sudo);
        }
        let refused = |output: &Output| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            explain::sudo(&said).unwrap_or_else(|| {
                let reason = format!("sudo failed: {}", output.complaint());
                (reason, "make `sudo -n true` work there".to_owned())
            })
        };
        let Some(password) = &self.dialing.sudo_password else { return Err(refused(&free)) };
        // Once and alone: a wrong one is asked for again by sudo, and the input ends then.
        let line = [&password.0[..], b"\n"].concat();
        let risen = ask(session, &["sudo", "-S", "-p", "", "--", "id", "-u"], &line).await?;
        if risen.ok() { Ok(Rise::Password(password.clone())) } else { Err(refused(&risen)) }
    }
}

/// Starts commands over the connection: a client of its master, which reads no configuration and
/// never connects on its own.
fn start(session: &Session) -> Start {
    let socket = session.control_socket().to_owned();
    Box::new(move |line| {
        let mut command = process::Command::new("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "ProxyCommand=false", "-T", "-S"]);
        command.arg(&socket).args(["none", line]);
        command
    })
}

/// Does a command that does nothing come to its end? A connection that is lost is no sign of a hang.
pub(super) async fn answers(session: &Session) -> bool {
    timeout(SIGN_OF_LIFE, ask(session, &["true"], b"")).await.is_ok()
}

/// Runs a few words as whom we logged in as.
async fn ask(session: &Session, words: &[&str], input: &[u8]) -> Result<Output, Explained> {
    let failed = |error: std::io::Error| {
        let reason = format!("cannot run ssh: {error}");
        (reason, "is it installed on this machine?".to_owned())
    };
    let mut child = start(session)(&quote::line(words.iter().copied()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read it.
        let _ = stdin.write_all(input).await;
    }
    let Ok(output) = timeout(FIRST_WORD, child.wait_with_output()).await else {
        return Err(explain::hangs());
    };
    let output = output.map_err(failed)?;
    let code = output.status.code().unwrap_or(255);
    Ok(Output { code, stdout: output.stdout, stderr: output.stderr })
}
