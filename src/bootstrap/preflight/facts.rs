//! What a host is, as far as it matters to Kubernetes and etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bootstrap::spec::Version;

/// What was found out about one host. What could not be found out is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// When its answer began and ended, in nanoseconds since 1970 by its own clock.
    pub clock: Option<(i128, i128)>,
    /// The user that commands run as; 0 is root.
    pub user: Option<u32>,
    /// `ID` of os-release: `debian`.
    pub os: String,
    /// `VERSION_ID` of os-release: `12`.
    pub os_version: String,
    /// `PRETTY_NAME` of os-release.
    pub os_name: String,
    /// `uname -r`.
    pub kernel: String,
    /// The machine, in the words of Go and of image registries: `amd64`, `arm64`.
    pub arch: String,
    /// Processors that are online.
    pub cpus: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Its name now.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The mainboard's or the hypervisor's name for it.
    pub product_uuid: String,
    /// The name of process 1.
    pub init: String,
    /// What `systemctl is-system-running` says.
    pub systemd: String,
    /// Is its clock kept by NTP?
    pub synchronised: Option<bool>,
    /// What it swaps to.
    pub swap: Vec<String>,
    /// Modules that we need, and where they are.
    pub modules: BTreeMap<String, Module>,
    /// 1 or 2.
    pub cgroup: Option<u8>,
    /// The controllers of cgroups that are switched on.
    pub controllers: BTreeSet<String>,
    /// Kernel parameters, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Who listens where on TCP.
    pub listeners: Vec<Listener>,
    /// Its own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Free space, by what will be there.
    pub disks: BTreeMap<String, Disk>,
    /// How long each of a hundred small synchronous writes took where etcd will live, in
    /// microseconds.
    pub sync: Vec<u64>,
    /// What `getenforce` says.
    pub selinux: Option<String>,
    /// Is `AppArmor` on?
    pub apparmor: bool,
    /// Firewalls that are active: `firewalld`, `ufw`, `nftables`, `policy-drop`.
    pub firewalls: BTreeSet<String>,
    /// Programs that were found.
    pub programs: BTreeMap<String, Program>,
    /// What the package manager would install, by package.
    pub candidates: BTreeMap<String, String>,
    /// Where it would come from, by package.
    pub sources: BTreeMap<String, String>,
    /// Packages that are held at their version.
    pub held: BTreeSet<String>,
    /// Files of Kubernetes and etcd that are there already.
    pub files: BTreeSet<String>,
    /// The DNS servers it asks.
    pub nameservers: Vec<String>,
    /// Names that it resolved, or did not.
    pub names: BTreeMap<String, bool>,
    /// Where it could connect to.
    pub reach: BTreeMap<(IpAddr, u16), Reach>,
}

/// Where a kernel module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// In the kernel, as a module or built in.
    Loaded,
    /// On disk: `modprobe` would load it.
    Available,
    /// Nowhere.
    Missing,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address: `0.0.0.0`, `127.0.0.1`, `*`.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The program, if we were told.
    pub owner: Option<String>,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free for use, bytes.
    pub free: u64,
    /// In all, bytes.
    pub size: u64,
    /// Where it is mounted.
    pub mount: String,
}

/// A program of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: String,
    /// The package that brought it, if one did.
    pub package: Option<String>,
    /// Its version, if it told one.
    pub version: Option<Version>,
}

/// What came of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Somebody listens.
    Open,
    /// The host answered that nobody listens: all is well before the installation.
    Refused,
    /// Nothing came back: a firewall, most likely.
    Silent,
    /// There is no way to it.
    Unreachable,
    /// The host has nothing to try it with.
    Untried,
}

impl Facts {
    /// Has this host joined a cluster?
    pub fn joined(&self) -> bool {
        self.files.contains("/etc/kubernetes/kubelet.conf")
    }

    /// The version of a program, if it is there and told one.
    pub fn version(&self, program: &str) -> Option<Version> {
        self.programs.get(program).and_then(|found| found.version)
    }
}
