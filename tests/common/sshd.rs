//! A real sshd on loopback with keys and settings of its own, and a user of its own for sudo.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use apiproxy::bootstrap::spec::{Host, Overrides, Role, Ssh as Settings};
use apiproxy::bootstrap::transport::{Dialer, Dialing, Ssh};

use super::{Running, free_port, run, wait_for};

/// Where Debian has it; it wants to be called by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

pub struct Server {
    pub folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Running>,
}

/// Why it cannot be started here, if so.
pub fn obstacle() -> Option<&'static str> {
    if !Path::new(SSHD).exists() {
        Some("openssh-server is not installed")
    } else if !rustix::process::geteuid().is_root() {
        Some("sshd can only be started by root")
    } else {
        None
    }
}

impl Server {
    /// Starts one with these lines of configuration beside its own.
    pub fn start(lines: &str) -> Self {
        // Where sshd's unprivileged part lives; the package's service makes it.
        fs::create_dir_all("/run/sshd").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for key in ["host", "user", "stranger"] {
            make_key(&folder.path().join(key));
        }
        fs::copy(folder.path().join("user.pub"), folder.path().join("authorized")).unwrap();
        fs::write(folder.path().join("ssh_config"), "GlobalKnownHostsFile /dev/null\n").unwrap();
        let port = free_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
             PermitRootLogin yes\n{lines}\n",
            path("host"),
            path("authorized"),
        );
        fs::write(folder.path().join("sshd_config"), config).unwrap();
        let mut server = Self { folder, port, process: None };
        server.resume();
        server.learn();
        server
    }

    /// Starts its process.
    pub fn resume(&mut self) {
        let child = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        self.process = Some(Running(child));
        wait_for("sshd listens", Duration::from_secs(10), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// Ends its process; those that are logged in stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Puts its host key into the user's `known_hosts`.
    fn learn(&self) {
        let key = fs::read_to_string(self.path("host.pub")).unwrap();
        let known = format!("[127.0.0.1]:{} {key}", self.port);
        fs::write(self.path("known_hosts"), known).unwrap();
    }

    /// Another machine takes its address: the same, with another host key.
    pub fn change_key(&mut self) {
        self.process = None;
        for name in ["host", "host.pub"] {
            fs::remove_file(self.path(name)).unwrap();
        }
        make_key(&self.path("host"));
        self.resume();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The settings that know its host key.
    pub fn dialing(&self) -> Dialing {
        Dialing {
            config_file: Some(self.path("ssh_config")),
            known_hosts: Some(self.path("known_hosts")),
            ..Dialing::default()
        }
    }

    /// A host of the spec that is this server.
    pub fn host(&self, name: &str) -> Host {
        let ssh = Settings {
            user: Some("root".to_owned()),
            port: Some(self.port),
            identity_file: Some(self.path("user")),
            sudo: true,
            local: false,
        };
        Host {
            name: name.to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            roles: [Role::Worker].into(),
            zone: None,
            labels: [].into(),
            taints: Vec::new(),
            ssh,
            overrides: Overrides::default(),
        }
    }

    /// The way to it as root.
    pub fn ssh(&self) -> Ssh {
        ssh(self.dialing(), &self.host("h1"))
    }
}

/// The way to a host with settings of its own.
pub fn ssh(dialing: Dialing, host: &Host) -> Ssh {
    Ssh::new(host, &Arc::new(Dialer::new(dialing).unwrap()))
}

fn make_key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
}

/// A user of this machine that may use sudo as its rule says. Both go when this is dropped.
pub struct User {
    pub name: String,
    rule: PathBuf,
}

impl User {
    pub const PASSWORD: &'static str = "correct horse";

    /// A user with this number and this rule of sudo, such as `ALL=(ALL) NOPASSWD: ALL`.
    pub fn new(number: u32, rule: Option<&str>) -> Self {
        let name = format!("apx{number}t{}", std::process::id());
        run(Command::new("useradd").args(["--no-create-home", "--shell", "/bin/bash", &name]));
        let file = Path::new("/etc/sudoers.d").join(&name);
        let user = Self { name, rule: file };
        let entry = format!("echo '{}:{}' | chpasswd", user.name, Self::PASSWORD);
        run(Command::new("sh").args(["-c", &entry]));
        if let Some(rule) = rule {
            fs::write(&user.rule, format!("{} {rule}\n", user.name)).unwrap();
            fs::set_permissions(&user.rule, fs::Permissions::from_mode(0o440)).unwrap();
        }
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.rule);
        let _ = Command::new("userdel").args(["--force", &self.name]).output();
    }
}
