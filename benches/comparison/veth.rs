//! Two hosts as network namespaces, joined by a cable without offloads: the node with the clients
//! and the proxy, and the server.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the names of the namespaces begin with; the process id follows.
const PREFIX: &str = "apxbench";

/// Where iproute2 keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

const NODE: [u8; 4] = [10, 89, 0, 1];
const SERVER: [u8; 4] = [10, 89, 0, 2];

/// Both hosts. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Veth {
    prefix: String,
    home: File,
}

impl Veth {
    /// Makes them, after removing those of runs that have crashed.
    pub(crate) fn new() -> io::Result<Self> {
        sweep();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let veth = Self { prefix, home: File::open("/proc/thread-self/ns/net")? };
        let (node, server) = (veth.name("node"), veth.name("server"));
        for name in [&node, &server] {
            ip(&["netns", "add", name])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        let ends = ["type", "veth", "peer", "name", "eth0", "netns"];
        ip(&[&["-n", &node, "link", "add", "eth0"][..], &ends, &[&server]].concat())?;
        for (name, address) in [(&node, NODE), (&server, SERVER)] {
            let address = format!("{}/24", IpAddr::from(address));
            ip(&["-n", name, "address", "add", &address, "dev", "eth0"])?;
            ip(&["-n", name, "link", "set", "eth0", "mtu", "1500", "up"])?;
            ip(&[
                &["netns", "exec", name, "ethtool", "-K", "eth0"][..],
                &["tso", "off", "gso", "off", "gro", "off"],
            ]
            .concat())?;
            // As on loopback, where it is the default: ports of closed connections serve again.
            ip(&["netns", "exec", name, "sysctl", "-q", "-w", "net.ipv4.tcp_tw_reuse=1"])?;
        }
        Ok(veth)
    }

    /// Moves this thread, and whatever it starts from now on, to the node.
    pub(crate) fn enter_node(&self) -> io::Result<()> {
        let node = File::open(Path::new(NAMESPACES).join(self.name("node")))?;
        enter(&node)
    }

    /// A command on the server. It has the process id that the child has.
    pub(crate) fn on_server(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name("server")]).arg(program);
        command
    }

    /// The server's address.
    #[expect(clippy::unused_self, reason = "there is one only where the hosts are")]
    pub(crate) fn server(&self) -> IpAddr {
        SERVER.into()
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // Best effort: it is also called when something went wrong.
        let _ = enter(&self.home);
        remove(&self.prefix);
    }
}

fn enter(namespace: &File) -> io::Result<()> {
    let network = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), network)?)
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("ip");
    let output = command.args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), why.trim())))
}

/// Removes what runs that have ended left behind.
fn sweep() {
    for name in namespaces(PREFIX) {
        let Some((prefix, _)) = name.split_once('-') else { continue };
        let program = fs::read_to_string(format!("/proc/{}/comm", &prefix[PREFIX.len()..]));
        if !program.is_ok_and(|program| program.starts_with("comparison")) {
            remove(&format!("{prefix}-"));
        }
    }
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Ends what runs in the namespaces, and removes them.
fn remove(prefix: &str) {
    let us = std::process::id().to_string();
    for name in namespaces(prefix) {
        let pids = Command::new("ip").args(["netns", "pids", &name]).output();
        let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for pid in pids.unwrap_or_default().lines().filter(|pid| *pid != us) {
            // This `ip` may have been one of them, and is gone.
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
        // Nobody else has this name, and nothing is lost when it stays.
        let _ = ip(&["netns", "delete", &name]);
    }
}
