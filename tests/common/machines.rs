//! Whole Debian machines to provision: systemd, sshd, a network and data folders of their own, booted in
//! seconds. They share the kernel of this host and one tree of programs.
//!
//! What cannot be had: a clock of their own ([`Machine::skew_clock`] makes `date` lie), their own
//! kernel modules, and settings outside `net.*` (they are this host's).

mod base;
mod faults;
mod machine;
mod processes;
mod slot;
mod ssh;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

pub use machine::Machine;

use slot::Slot;
use ssh::Access;

/// Who can log in besides root; each by the lab's key.
pub mod user {
    /// Becomes root without a password.
    pub const OPS: &str = "ops";
    /// Becomes root with a password: its own name.
    pub const OPS_PASSWORD: &str = "opspw";
    /// Becomes nobody else.
    pub const NO_SUDO: &str = "nosudo";
}

/// Some machines on one network. When it and all its machines are dropped, nothing of them is left.
pub struct Lab {
    shared: Arc<Shared>,
    /// The last part of the next machine's address.
    next: AtomicU8,
}

/// What the machines of a lab have in common. Its parts are dropped in this order.
struct Shared {
    access: Access,
    slot: Slot,
}

impl Lab {
    /// Why there can be no machines here, if there can be none.
    pub fn impossible() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("machines need root".to_owned());
        }
        let needed = ["debootstrap", "systemd-nspawn", "nsenter", "ip", "ssh", "ssh-keygen"];
        let missing = needed.into_iter().find(|program| !base::has_system_program(program));
        missing.map(|program| format!("there is no {program} to make machines with"))
    }

    /// A lab beside all others of this host. What owners that died have left is removed; the tree of
    /// programs is made if there is none yet, which takes a minute or two.
    pub fn new() -> Self {
        let slot = Slot::take();
        base::tree();
        let access = Access::new(slot.folder());
        Self { shared: Arc::new(Shared { access, slot }), next: AtomicU8::new(11) }
    }

    /// Boots a machine and waits until one can log in.
    pub fn boot(&self, name: &str) -> Machine {
        self.boot_at(name, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The same with an address that ends in this number, such as that of a machine that is gone.
    pub fn boot_at(&self, name: &str, last: u8) -> Machine {
        Machine::boot(&self.shared, name, last)
    }

    /// Boots several at once; they come in the order of their names here.
    pub fn boot_all<const N: usize>(&self, names: [&str; N]) -> [Machine; N] {
        std::thread::scope(|scope| {
            // Addresses follow the order, whichever comes up first.
            let numbered = names.map(|name| (name, self.next.fetch_add(1, Ordering::Relaxed)));
            let booting =
                numbered.map(|(name, last)| scope.spawn(move || self.boot_at(name, last)));
            booting.map(|machine| machine.join().unwrap())
        })
    }

    /// The private key that opens every machine.
    pub fn key(&self) -> PathBuf {
        self.shared.access.key()
    }

    /// A configuration of ssh that knows every machine by its name and address, with its host key.
    pub fn ssh_config(&self) -> PathBuf {
        self.shared.access.config()
    }

    /// A value of `PATH` that begins with an `ssh` which reads [`Lab::ssh_config`], for programs that
    /// start ssh themselves.
    pub fn path(&self) -> String {
        let rest = std::env::var("PATH").unwrap();
        format!("{}:{rest}:/usr/sbin:/sbin", self.shared.access.programs().display())
    }

    /// A kubectl: the one of `KUBEBUILDER_ASSETS`, or Debian's.
    pub fn kubectl() -> PathBuf {
        let given = std::env::var_os("KUBEBUILDER_ASSETS")
            .map(|folder| PathBuf::from(folder).join("kubectl"));
        given.filter(|path| path.is_file()).unwrap_or_else(|| base::tree().join("opt/kubectl"))
    }

    /// The address of this host in the machines' network.
    pub fn gateway(&self) -> String {
        self.shared.slot.address(1)
    }

    /// What is there of this lab on the host: processes, mounts and links.
    pub fn traces(&self) -> Vec<String> {
        self.shared.slot.traces()
    }

    /// Leaves everything as it is when the owner of a lab is killed, and tells what
    /// [`Lab::traces_of`] needs to look for it.
    pub fn abandon(self, machines: impl IntoIterator<Item = Machine>) -> u8 {
        machines.into_iter().for_each(std::mem::forget);
        self.shared.slot.unlock();
        let number = self.shared.slot.number();
        std::mem::forget(self);
        number
    }

    /// The traces of the lab with this number.
    pub fn traces_of(number: u8) -> Vec<String> {
        slot::traces(number)
    }

    /// The number that its names and its network carry.
    pub fn number(&self) -> u8 {
        self.shared.slot.number()
    }
}
