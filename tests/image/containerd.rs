//! A containerd of the test's own: root, state and socket in a temporary folder.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, getrlimit};

use super::LONG;
use crate::common::{has_program, run, send_signal, wait_for};

const NAMESPACE: &str = "k8s.io";
const IMAGE: &str = concat!("docker.io/library/apiproxy:", env!("CARGO_PKG_VERSION"));

/// Ended, with what is left of its containers, when dropped.
pub(crate) struct Containerd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts it; otherwise says why that is not possible here.
    pub(crate) fn start() -> Result<Self, String> {
        for program in ["containerd", "ctr", "runc"] {
            if !has_program(program) {
                return Err(format!("there is no {program}; install containerd"));
            }
        }
        if !rustix::process::geteuid().is_root() {
            return Err("containerd needs root".to_owned());
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = \"{}\"\n",
            at("root").display(),
            at("state").display(),
            at("socket").display()
        );
        fs::write(at("config.toml"), config).unwrap();
        let log = File::create(at("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(at("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let this = Self { child, folder };
        wait_for("containerd answers", LONG, || {
            let mut version = this.ctr(&["version"]);
            version
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
                .then_some(())
        });
        Ok(this)
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.folder.path().join("socket")).args(["-n", NAMESPACE]);
        ctr.args(arguments).stdin(Stdio::null());
        ctr
    }

    /// Imports the image that this program makes of itself.
    pub(crate) fn import(&self, program: &Path) {
        let archive = self.folder.path().join("image.tar");
        run(Command::new(program).args(["image", "--output"]).arg(&archive));
        run(self.ctr(&["images", "import"]).arg(&archive));
        let images = run(&mut self.ctr(&["images", "ls", "-q"]));
        assert_eq!(images.trim(), IMAGE);
    }

    /// Runs the image as a pod's container is: the host's network, a read-only root, no capability,
    /// the default seccomp profile, a folder with the configuration.
    pub(crate) fn run(&self, id: &str, flags: &[&str], files: &[(&str, &str)]) -> Container<'_> {
        self.run_with(id, flags, files, &[])
    }

    /// The same with more arguments for the program.
    pub(crate) fn run_with(
        &self,
        id: &str,
        flags: &[&str],
        files: &[(&str, &str)],
        arguments: &[&str],
    ) -> Container<'_> {
        let folder = self.folder.path().join(id);
        fs::create_dir(&folder).unwrap();
        // User 65532 reads it, and the test's own folder is for its owner alone.
        for folder in [self.folder.path(), &folder] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let log = folder.join("log");
        // The default of ctr is 1,024 open files; kubelet's containers have containerd's own limit.
        let spec = self.spec(id, &folder, flags, arguments);
        let mut task = self.ctr(&["run", "--config"]);
        task.arg(spec).arg("--pid-file").arg(folder.join("pid"));
        let file = File::create(&log).unwrap();
        let child = task.arg(id).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let (id, child) = (id.to_owned(), Cell::new(Some(child)));
        let mut container = Container { containerd: self, id, pid: 0, folder, child };
        container.pid = wait_for("the container runs", LONG, || {
            let ended = container.child.get_mut().as_mut()?.try_wait().unwrap();
            assert!(ended.is_none(), "ctr run ended with {ended:?}");
            fs::read_to_string(container.folder.join("pid")).ok()?.trim().parse().ok()
        });
        container
    }

    /// The specification that containerd itself makes from the image, with more open files.
    fn spec(&self, id: &str, folder: &Path, flags: &[&str], arguments: &[&str]) -> PathBuf {
        let mount =
            format!("type=bind,src={},dst=/etc/apiproxy,options=rbind:ro", folder.display());
        let template = format!("{id}-template");
        let mut create =
            self.ctr(&["containers", "create", "--net-host", "--read-only", "--seccomp"]);
        create.args(flags).args(["--mount", &mount]);
        for capability in DEFAULT_CAPABILITIES {
            create.args(["--cap-drop", capability]);
        }
        create.args([IMAGE, &template, "/apiproxy", "run"]).args(arguments);
        run(&mut create);
        let info = run(&mut self.ctr(&["containers", "info", &template]));
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        let mut spec = info["Spec"].clone();
        assert_eq!(spec["process"]["user"]["uid"], 65532);
        let root = folder.join("root");
        fs::create_dir(&root).unwrap();
        run(self.ctr(&["images", "mount", "--rw", IMAGE]).arg(&root));
        spec["root"]["path"] = root.to_str().unwrap().into();
        spec["linux"]["cgroupsPath"] = format!("/apiproxy-test-{}-{id}", std::process::id()).into();
        let files = getrlimit(Resource::Nofile).maximum.map_or(65536, |most| most.min(65536));
        for limit in spec["process"]["rlimits"].as_array_mut().unwrap() {
            if limit["type"] == "RLIMIT_NOFILE" {
                limit["soft"] = files.into();
                limit["hard"] = files.into();
            }
        }
        let file = folder.join("spec.json");
        fs::write(&file, spec.to_string()).unwrap();
        file
    }
}

/// What containerd gives to a container unless told otherwise.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

impl Drop for Containerd {
    fn drop(&mut self) {
        send_signal(self.child.id(), 15);
        let _ = self.child.wait();
    }
}

/// A running container. Killed and removed when dropped.
pub(crate) struct Container<'a> {
    containerd: &'a Containerd,
    id: String,
    pid: u32,
    folder: PathBuf,
    /// `ctr run`, which ends with the container and its exit code.
    child: Cell<Option<Child>>,
}

/// The container's memory as its cgroup counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) limit: u64,
    pub(crate) peak: u64,
    pub(crate) at_limit: u64,
    pub(crate) killed: u64,
}

impl Container<'_> {
    /// A file of the program in /proc.
    pub(crate) fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// What its cgroup says, version 1 or 2.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let groups = self.proc("cgroup");
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let field = |path: PathBuf, name: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.parse::<u64>().ok()
        };
        if let Some(group) = groups.lines().find_map(|line| line.split_once(":memory:/")) {
            let at = Path::new("/sys/fs/cgroup/memory").join(group.1);
            return Some(Memory {
                limit: number(at.join("memory.limit_in_bytes"))?,
                peak: number(at.join("memory.max_usage_in_bytes"))?,
                at_limit: number(at.join("memory.failcnt"))?,
                killed: field(at.join("memory.oom_control"), "oom_kill")?,
            });
        }
        let at = Path::new("/sys/fs/cgroup").join(groups.trim().strip_prefix("0::/")?);
        Some(Memory {
            limit: number(at.join("memory.max"))?,
            peak: number(at.join("memory.peak")).unwrap_or(0),
            at_limit: field(at.join("memory.events"), "max")?,
            killed: field(at.join("memory.events"), "oom_kill")?,
        })
    }

    /// Tells it to end, and returns its exit code.
    pub(crate) fn stop(&self) -> Option<i32> {
        run(&mut self.containerd.ctr(&["task", "kill", "--signal", "SIGTERM", &self.id]));
        self.end()
    }

    /// Waits until it ends by itself, and returns its exit code.
    pub(crate) fn end(&self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        wait_for("the container ends", LONG, || child.try_wait().unwrap()).code()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = format!("--- the container's log ---\n{}\n", self.log());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
        }
        let template = format!("{}-template", self.id);
        let root = self.folder.join("root");
        let root = root.to_str().unwrap();
        let id = self.id.as_str();
        for arguments in [
            ["task", "kill", "--signal", "SIGKILL", id].as_slice(),
            &["task", "delete", "--force", id],
            &["containers", "delete", id],
            &["containers", "delete", &template],
            &["images", "unmount", "--rm", root],
        ] {
            // Some of it has been done already, if all went well.
            let _ = self.containerd.ctr(arguments).output();
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
