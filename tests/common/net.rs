//! A network of its own, in which every address is this host's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::run;

/// A network namespace. Removed when dropped; who is in it by then stays until its end.
struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Runs a test on a thread in a new network namespace with these addresses, none of which is a loopback
/// address. Whatever the thread starts is there too. Needs root and iproute2.
pub fn in_network(name: &str, addresses: &[&str], test: impl FnOnce() + Send + 'static) {
    let namespace = Namespace(format!("apx{}-{name}", std::process::id()));
    let ip = |args: &[&str]| run(Command::new("ip").args(args));
    ip(&["netns", "add", &namespace.0]);
    ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
    for address in addresses {
        ip(&["-n", &namespace.0, "addr", "add", address, "dev", "lo"]);
    }
    let file = File::open(Path::new("/run/netns").join(&namespace.0)).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        test();
    });
    let result = thread.join();
    drop(namespace);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Why no test can have a network of its own here, if none can.
pub fn no_network() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root");
    }
    (!super::has_program("ip")).then_some("there is no ip")
}
