//! One machine: how it is booted, reached, switched off and thrown away.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::program::{Outcome, outcome_within};
use super::super::{run, wait_for};
use super::{Shared, base, processes, slot, ssh, user};

/// How long a machine may take to come up or to go down when many do at once.
const BOOT: Duration = Duration::from_secs(90);

/// How long a script on a machine may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// A machine. Switched off and thrown away when dropped.
pub struct Machine {
    shared: Arc<Shared>,
    name: String,
    /// The last part of its address.
    last: u8,
    /// None while it is off.
    running: Mutex<Option<Running>>,
}

/// A machine that is on.
struct Running {
    nspawn: Child,
    /// Its first process, as this host counts.
    init: u32,
}

impl Machine {
    pub(super) fn boot(shared: &Arc<Shared>, name: &str, last: u8) -> Self {
        let running = Mutex::new(None);
        let machine = Self { shared: Arc::clone(shared), name: name.to_owned(), last, running };
        machine.lay();
        machine.power_on();
        machine
    }

    /// Its name: its hostname, and what ssh calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the other machines, and this host, reach it.
    pub fn address(&self) -> IpAddr {
        self.shared.slot.address(self.last).parse().unwrap()
    }

    /// The last part of its address.
    pub fn last(&self) -> u8 {
        self.last
    }

    /// Runs a script as root, without the network; panics when it fails. Returns what it printed.
    #[track_caller]
    pub fn exec(&self, script: &str) -> String {
        let outcome = self.attempt(script);
        assert_eq!(outcome.code, Some(0), "on {}: {outcome:?}", self.name);
        outcome.stdout
    }

    /// The same, whatever comes of it.
    pub fn attempt(&self, script: &str) -> Outcome {
        outcome_within(self.inside(script).stdin(Stdio::null()), PATIENCE)
    }

    /// Runs a script over ssh as a user.
    pub fn ssh(&self, user: &str, script: &str) -> Outcome {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.shared.access.config()).args([
            "-n",
            "-o",
            "BatchMode=yes",
            "-l",
            user,
        ]);
        outcome_within(ssh.args([&self.name, script]), PATIENCE)
    }

    /// Writes a file on it.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) {
        let script =
            format!("mkdir -p \"$(dirname '{path}')\" && cat >'{path}' && chmod {mode:o} '{path}'");
        let mut child = self.inside(&script).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        assert!(child.wait().unwrap().success(), "cannot write {path} on {}", self.name);
    }

    /// Copies a file of this host to it.
    pub fn push(&self, from: &Path, path: &str, mode: u32) {
        self.write(path, &fs::read(from).unwrap(), mode);
    }

    /// Cuts its power: everything on it ends at once. Its disk stays.
    pub fn power_off(&self) {
        if let Some(mut running) = self.lock().take() {
            processes::signal(running.init, "KILL");
            running.wait();
        }
    }

    /// Shuts it down in order. Its disk stays.
    pub fn shut_down(&self) {
        self.exec("systemctl poweroff --no-block");
        if let Some(mut running) = self.lock().take() {
            running.wait();
        }
    }

    /// Boots it again from its disk, and waits until one can log in.
    pub fn power_on(&self) {
        let mut running = self.lock();
        assert!(running.is_none(), "{} is on", self.name);
        *running = Some(self.start());
        drop(running);
        let root = PathBuf::from(format!("/proc/{}/root", self.init()));
        wait_for(&format!("{} lets in", self.name), BOOT, || {
            let run = root.join("run");
            if !run.join("sshd.pid").exists() {
                return None;
            }
            if run.join("nologin").exists() {
                // Now and then a machine among many fails to take the file away as it boots.
                let again = "systemctl is-failed -q systemd-user-sessions \
                             && systemctl restart systemd-user-sessions";
                self.attempt(again);
                return None;
            }
            Some(())
        });
        wait_for(&format!("{} has booted", self.name), BOOT, || {
            let state = self.attempt("systemctl is-system-running --wait").stdout;
            ["running", "degraded"].contains(&state.trim()).then_some(())
        });
    }

    /// Throws it away with all its data.
    pub fn destroy(self) {
        drop(self);
    }

    /// Its first process, as this host counts; panics when it is off.
    pub(super) fn init(&self) -> u32 {
        self.lock().as_ref().unwrap_or_else(|| panic!("{} is off", self.name)).init
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.shared.slot.folder().join("machines").join(&self.name)
    }

    /// Makes its disk: a layer of its own over the common tree. Its `/var/lib` is no layer, for
    /// containerd makes layers there.
    fn lay(&self) {
        let (folder, tree) = (self.folder(), base::tree());
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        run(Command::new("cp").arg("-a").arg(tree.join("var/lib")).arg(folder.join("lib")));
        let part = |name| folder.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            tree.display(),
            part("upper"),
            part("work")
        );
        run(Command::new("mount").args([
            "-t",
            "overlay",
            "overlay",
            "-o",
            &options,
            &part("root"),
        ]));

        let etc = folder.join("root/etc");
        let write = |path: &str, text: &str| fs::write(etc.join(path), text).unwrap();
        let name = &self.name;
        write("hostname", &format!("{name}\n"));
        write("hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n"));
        write(
            "machine-id",
            &fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().replace('-', ""),
        );
        let slot = &self.shared.slot;
        let (address, gateway) = (slot.address(self.last), slot.address(1));
        // Nobody answers there, and that at once; kubelet wants the file.
        write("resolv.conf", &format!("nameserver {gateway}\n"));
        write("lab-network", &format!("ADDRESS={address}\nGATEWAY={gateway}\n"));
        ssh::make_key(&etc.join("ssh/ssh_host_ed25519_key"));
        let host_key = fs::read_to_string(etc.join("ssh/ssh_host_ed25519_key.pub")).unwrap();
        self.shared.access.add(name, &address, &host_key);
        let passwd = fs::read_to_string(etc.join("passwd")).unwrap();
        for user in ["root", user::OPS, user::OPS_PASSWORD, user::NO_SUDO] {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(user)).unwrap();
            let fields: Vec<_> = line.split(':').collect();
            let home = fields[5].trim_start_matches('/');
            let keys = folder.join("root").join(home).join(".ssh/authorized_keys");
            fs::write(&keys, self.shared.access.public_key()).unwrap();
            fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
            chown(&keys, fields[2].parse().ok(), fields[3].parse().ok()).unwrap();
        }
    }

    fn start(&self) -> Running {
        let (slot, folder) = (&self.shared.slot, self.folder());
        let console = File::create(folder.join("console.log")).unwrap();
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn
            .env("SYSTEMD_SECCOMP", "0")
            .env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1")
            .args(["--quiet", "--boot", "--keep-unit", "--register=no", "--settings=no"])
            .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off", "--capability=all"])
            .arg(format!("--directory={}", folder.join("root").display()))
            .arg(format!("--machine={}", slot.machine(&self.name)))
            .arg(format!("--hostname={}", self.name))
            .arg(format!("--network-bridge={}", slot.bridge()))
            .arg(format!("--bind={}:/var/lib", folder.join("lib").display()));
        if Path::new("/dev/kmsg").exists() {
            nspawn.arg("--bind=/dev/kmsg");
        }
        nspawn.stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        let mut nspawn = nspawn.spawn().unwrap();
        let init = wait_for(&format!("{} has an init", self.name), BOOT, || {
            if let Some(status) = nspawn.try_wait().unwrap() {
                let told = fs::read_to_string(folder.join("console.log")).unwrap();
                panic!("{} ended with {status}: {told}", self.name);
            }
            let children = processes::children(nspawn.id());
            children.into_iter().find(|child| processes::number_inside(*child) == Some(1))
        });
        Running { nspawn, init }
    }

    /// A script for a shell on it, started from this host.
    fn inside(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init()))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--"])
            .args(["/bin/sh", "-c", script])
            .env_clear()
            .envs([("HOME", "/root"), ("LC_ALL", "C.UTF-8")])
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

impl Running {
    /// Waits for its end.
    fn wait(&mut self) {
        let nspawn = &mut self.nspawn;
        wait_for("the machine is off", BOOT, || nspawn.try_wait().unwrap());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = fs::read_to_string(self.folder().join("console.log")).unwrap_or_default();
            let text = format!("--- the console of {} ---\n{told}\n", self.name);
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        self.power_off();
        slot::unmount_below(&self.folder());
        let _ = fs::remove_dir_all(self.folder());
        self.shared.access.remove(&self.name);
    }
}
