//! Which files and ports a configuration needs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{BackendSpec, Cluster, Config};

/// What stays allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files and folders to read. Folders, wherever a file may be replaced by a rename: a rule holds
    /// for the file that is there now.
    pub(super) read: BTreeSet<PathBuf>,
    /// Folders in which files and sockets are made, written and removed.
    pub(super) write: BTreeSet<PathBuf>,
    /// TCP ports to connect to.
    pub(super) connect: BTreeSet<u16>,
    /// All TCP ports may be connected to: discovery may name any.
    pub(super) connect_anywhere: bool,
}

/// What getaddrinfo reads.
const NAME_FILES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
];

/// TCP for answers that are too long for UDP.
const DNS: u16 = 53;

impl Plan {
    /// What a configuration needs that was read from this file.
    pub fn new(config: &Config, file: Option<&Path>) -> Self {
        let mut plan = Self::default();
        plan.read.extend(["/proc/self", "/proc/stat"].map(PathBuf::from));
        if let Some(file) = file {
            plan.read_beside(file);
        }
        if let Some(folder) = config.admin.control_socket.as_deref().and_then(Path::parent) {
            plan.write.insert(folder.to_owned());
        }
        for cluster in &config.clusters {
            plan.serving(cluster);
        }
        let is_named = |backend: &BackendSpec| backend.address.socket_addr().is_none();
        let named = config.clusters.iter().any(|cluster| {
            cluster.backends.iter().any(is_named) || cluster.discovery.file.is_some()
        });
        plan.names(named);
        plan.connect.insert(DNS);
        plan
    }

    /// Also lets the apiservers of a cluster be probed, found and connected to.
    fn serving(&mut self, cluster: &Cluster) {
        let tls = cluster.health_check.tls.as_ref();
        let identity = tls.and_then(|tls| tls.identity.as_ref());
        let of_tls = tls.and_then(|tls| tls.ca_file.as_ref()).into_iter();
        let of_tls =
            of_tls.chain(identity.map(|(cert, _)| cert)).chain(identity.map(|(_, key)| key));
        for file in of_tls {
            self.read_beside(file);
        }
        let discovery = &cluster.discovery;
        for file in [&discovery.kubeconfig, &discovery.file].into_iter().flatten() {
            self.read_beside(file);
        }
        self.connect_anywhere |= [&discovery.kubeconfig, &discovery.file, &discovery.cache_file]
            .into_iter()
            .any(Option::is_some);
        if let Some(folder) = discovery.cache_file.as_deref().and_then(Path::parent) {
            self.write.insert(folder.to_owned());
        }
        self.connect.extend(cluster.backends.iter().map(|backend| backend.address.port()));
    }

    /// Also lets a file be read, and what replaces it later.
    #[must_use]
    pub fn reading(mut self, file: &Path) -> Self {
        self.read_beside(file);
        self
    }

    /// Also lets files be made, written, replaced and removed in this folder.
    #[must_use]
    pub fn writing(mut self, folder: &Path) -> Self {
        self.write.insert(folder.to_owned());
        self
    }

    /// What this plan allows and a later one needs on top: as text, for people. Nothing can be
    /// allowed afterwards; a new process can.
    pub fn lacks(&self, later: &Self) -> Vec<String> {
        let beneath = |path: &PathBuf, allowed: &BTreeSet<PathBuf>| {
            path.ancestors().any(|folder| allowed.contains(folder))
        };
        let mut lacks = Vec::new();
        let read = later.read.iter().filter(|path| !beneath(path, &self.read));
        lacks.extend(read.map(|path| format!("reading {}", path.display())));
        let write = later.write.iter().filter(|path| !beneath(path, &self.write));
        lacks.extend(write.map(|path| format!("writing in {}", path.display())));
        if !self.connect_anywhere {
            let connect = later.connect.difference(&self.connect);
            lacks.extend(connect.map(|port| format!("connecting to port {port}")));
            lacks.extend(later.connect_anywhere.then(|| "connecting to any port".to_owned()));
        }
        lacks
    }

    /// The folder of a file, and the one it really is in: a ConfigMap's files are links.
    fn read_beside(&mut self, file: &Path) {
        let folder = |file: &Path| match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        self.read.insert(folder(file));
        if let Ok(real) = file.canonicalize() {
            self.read.insert(folder(&real));
        }
    }

    /// What looks up names: today's files, and with names to look up also what replaces them later.
    fn names(&mut self, used: bool) {
        self.read.extend(NAME_FILES.iter().map(PathBuf::from));
        if let Ok(real) = Path::new(NAME_FILES[0]).canonicalize() {
            let folder = real.parent().filter(|folder| *folder != Path::new("/etc"));
            self.read.extend(folder.map(Path::to_owned));
        }
        if used {
            self.read.insert("/etc".into());
        }
        if cfg!(target_env = "gnu") {
            // glibc loads the modules that /etc/nsswitch.conf names.
            let libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
            self.read.extend(libraries.map(PathBuf::from));
        }
    }
}
