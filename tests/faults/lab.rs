//! Hosts as network namespaces on a bridge, which lose their link or their packets on command. The
//! bridge has a namespace of its own: the machine that runs the tests sees none of it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::common::run;

/// What the names of the namespaces begin with; the process id of the test follows.
const PREFIX: &str = "apxlab";

/// Where iproute2 keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// The node's address.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

/// Which packets a host loses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// All that it sends as an apiserver.
    Sent,
    /// All that it is sent as an apiserver.
    Received,
    /// The latter, and it says so with a TCP reset.
    Refused,
}

/// A node and three servers, each a host of its own. Removed when dropped.
pub(crate) struct Lab {
    prefix: String,
}

impl Lab {
    /// Makes the hosts, after removing those of runs that have crashed.
    pub(crate) fn new() -> Self {
        sweep();
        let lab = Self { prefix: format!("{PREFIX}{}-", std::process::id()) };
        let net = lab.name("net");
        run(ip().args(["netns", "add", &net]));
        run(ip().args(["-n", &net, "link", "add", "br0", "type", "bridge"]));
        run(ip().args(["-n", &net, "link", "set", "br0", "up"]));
        lab.add_host("node", NODE);
        for server in 1..=3 {
            lab.add_host(&host(server), *address(server).ip());
        }
        lab
    }

    /// Moves this thread, and whatever it starts from now on, to the node.
    pub(crate) fn enter_node(&self) {
        let node = File::open(Path::new(NAMESPACES).join(self.name("node"))).unwrap();
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&node), network).unwrap();
    }

    /// A command on a server's host. It has the process id that the child has.
    pub(crate) fn on(&self, server: u8, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.name(&host(server))]).arg(program);
        command
    }

    /// Plugs a server's cable in or out, at the bridge: the host is not told, as with a switch
    /// that fails.
    pub(crate) fn link(&self, server: u8, up: bool) {
        let state = if up { "up" } else { "down" };
        run(ip().args(["-n", &self.name("net"), "link", "set", &host(server), state]));
    }

    /// Lets a server lose packets until [`heal`](Self::heal).
    pub(crate) fn lose(&self, server: u8, loss: Loss) {
        let (hook, rule) = match loss {
            Loss::Sent => ("output", "tcp sport 6443 drop"),
            Loss::Received => ("input", "tcp dport 6443 drop"),
            Loss::Refused => ("input", "tcp dport 6443 reject with tcp reset"),
        };
        let chain = format!("type filter hook {hook} priority 0;");
        let rules = format!("table ip faults {{\nchain faults {{\n{chain}\n{rule}\n}}\n}}");
        run(self.on(server, "nft").arg(rules));
    }

    /// How many connections wait for a server's `accept` before the kernel lets no more in; for
    /// the next server that starts there.
    pub(crate) fn backlog(&self, server: u8, length: u16) {
        run(self.on(server, "sysctl").arg(format!("net.core.somaxconn={length}")));
    }

    /// Replaces a server's host by another one at the same address.
    pub(crate) fn replace(&self, server: u8) {
        run(ip().args(["netns", "delete", &self.name(&host(server))]));
        // The other end of its cable goes with it, but a moment later.
        let _ = ip()
            .args(["-n", &self.name("net"), "link", "delete", &host(server)])
            .stderr(Stdio::null())
            .status();
        self.add_host(&host(server), *address(server).ip());
    }

    /// Takes all faults of the network back.
    pub(crate) fn heal(&self) {
        for server in 1..=3 {
            self.link(server, true);
            run(self.on(server, "nft").args(["flush", "ruleset"]));
            self.backlog(server, 4096);
        }
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    fn add_host(&self, host: &str, address: Ipv4Addr) {
        let (net, name) = (self.name("net"), self.name(host));
        run(ip().args(["netns", "add", &name]));
        run(ip()
            .args(["-n", &net, "link", "add", host, "type", "veth"])
            .args(["peer", "name", "eth0", "netns", &name]));
        run(ip().args(["-n", &net, "link", "set", host, "master", "br0", "up"]));
        let address = format!("{address}/24");
        run(ip().args(["-n", &name, "address", "add", &address, "dev", "eth0"]));
        run(ip().args(["-n", &name, "link", "set", "lo", "up"]));
        run(ip().args(["-n", &name, "link", "set", "eth0", "up"]));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.prefix);
    }
}

/// The name of a server and its host, `s1` to `s3`.
pub(crate) fn host(server: u8) -> String {
    format!("s{server}")
}

/// Where a server listens.
pub(crate) fn address(server: u8) -> std::net::SocketAddrV4 {
    std::net::SocketAddrV4::new(Ipv4Addr::new(10, 88, 0, 10 + server), 6443)
}

/// The same, as most functions want it.
pub(crate) fn endpoint(server: u8) -> SocketAddr {
    SocketAddr::V4(address(server))
}

fn ip() -> Command {
    let mut command = Command::new("ip");
    command.stdin(Stdio::null());
    command
}

/// Removes the labs whose test does not run any more.
fn sweep() {
    for name in namespaces(PREFIX) {
        let Some((prefix, _)) = name.split_once('-') else { continue };
        let program = fs::read_to_string(format!("/proc/{}/comm", &prefix[PREFIX.len()..]));
        if !program.is_ok_and(|program| program.starts_with("faults")) {
            remove(&format!("{prefix}-"));
        }
    }
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Ends what runs in the namespaces of a lab, and removes them. Best effort: it is also called
/// while a test fails.
fn remove(prefix: &str) {
    let us = std::process::id().to_string();
    for name in namespaces(prefix) {
        let pids = ip().args(["netns", "pids", &name]).output();
        let pids = pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for pid in pids.unwrap_or_default().lines().filter(|pid| *pid != us) {
            // This `ip` may have been one of them, and is gone.
            let kill = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
            drop(kill);
        }
        let _ = ip().args(["netns", "delete", &name]).status();
    }
}
