//! What must and must not be so before anything is done.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::config::Node;
use crate::flags::Line;
use crate::version::Version;

/// What was found wrong, by the names that `--ignore-preflight-errors` takes.
pub(super) struct Preflight {
    ignored: Vec<String>,
    errors: Vec<String>,
}

impl Preflight {
    /// Begins with what every command checks.
    pub(super) fn new(node: &Node, line: &Line, version: Version) -> Self {
        let mut ignored = node.ignored.clone();
        ignored.extend(line.list("ignore-preflight-errors"));
        let ignored = ignored.iter().map(|name| name.to_lowercase()).collect();
        let mut preflight = Self { ignored, errors: Vec::new() };
        preflight.check(
            "IsPrivilegedUser",
            rustix::process::geteuid().is_root(),
            "user is not running as root",
        );
        preflight.host(node, version);
        preflight
    }

    fn check(&mut self, name: &str, fine: bool, message: &str) {
        let is_ignored = |ignored: &String| *ignored == "all" || *ignored == name.to_lowercase();
        if !fine && !self.ignored.iter().any(is_ignored) {
            self.errors.push(format!("\t[ERROR {name}]: {message}"));
        }
    }

    fn host(&mut self, node: &Node, version: Version) {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        self.check(
            "Swap",
            version.minor >= 28 || swaps.lines().count() < 2,
            "running with swap on is not supported",
        );
        let forward = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
        self.check(
            "FileContent--proc-sys-net-ipv4-ip_forward",
            forward.trim() == "1",
            "/proc/sys/net/ipv4/ip_forward contents are not set to 1",
        );
        let socket = node.socket.trim_start_matches("unix://");
        self.check(
            "CRI",
            Path::new(socket).exists(),
            &format!("container runtime is not running: there is no {socket}"),
        );
        let mut needed = vec!["ip", "iptables", "mount", "nsenter"];
        if version.minor < 33 {
            needed.push("conntrack");
        }
        if version.minor < 32 {
            needed.push("crictl");
        }
        for program in needed {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
            self.check(
                &format!("FileExisting-{program}"),
                found,
                &format!("{program} not found in system path"),
            );
        }
        let kubelet = Command::new("kubelet").arg("--version").output();
        let kubelet = kubelet.map(|output| {
            String::from_utf8_lossy(&output.stdout).trim().replace("Kubernetes ", "")
        });
        let fits = kubelet.as_deref().ok().and_then(Version::parse).is_some_and(|kubelet| {
            kubelet.compare_minor(version).is_le() && kubelet.minor + 3 >= version.minor
        });
        self.check(
            "KubeletVersion",
            fits,
            &format!("the kubelet version is {kubelet:?}, which does not fit {version}"),
        );
        self.port(10_250);
    }

    /// Nobody may listen there.
    pub(super) fn port(&mut self, port: u16) {
        let free = TcpListener::bind(("0.0.0.0", port)).is_ok();
        self.check(&format!("Port-{port}"), free, &format!("Port {port} is in use"));
    }

    /// There may be no such file.
    pub(super) fn no_file(&mut self, path: &str) {
        let name = format!("FileAvailable-{}", path.replace('/', "-"));
        self.check(&name, !Path::new(path).exists(), &format!("{path} already exists"));
    }

    /// There must be such a file.
    pub(super) fn file(&mut self, path: &str) {
        let name = format!("FileExisting-{}", path.replace('/', "-"));
        self.check(&name, Path::new(path).is_file(), &format!("{path} doesn't exist"));
    }

    /// There may be nothing in the folder.
    pub(super) fn empty(&mut self, path: &str) {
        let empty = fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        self.check(
            &format!("DirAvailable-{}", path.replace('/', "-")),
            empty,
            &format!("{path} is not empty"),
        );
    }

    /// Ends with everything that is wrong.
    pub(super) fn end(self) -> Result<(), String> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(format!("[preflight] Some fatal errors occurred:\n{}", self.errors.join("\n")))
    }
}
