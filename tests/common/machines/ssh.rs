//! How the machines of a lab are logged in to: one key, and every host's key known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::super::run;

/// The files for it, in the lab's folder.
pub(super) struct Access {
    folder: PathBuf,
    /// Address and public host key of each machine, by name.
    machines: Mutex<BTreeMap<String, (String, String)>>,
}

impl Access {
    pub(super) fn new(folder: PathBuf) -> Self {
        let access = Self { folder, machines: Mutex::default() };
        make_key(&access.key());
        fs::create_dir(access.programs()).unwrap();
        for program in ["ssh", "scp", "sftp"] {
            let real = format!("/usr/bin/{program}");
            let text = format!("#!/bin/sh\nexec {real} -F {} \"$@\"\n", access.config().display());
            let path = access.programs().join(program);
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        access.write();
        access
    }

    pub(super) fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    pub(super) fn public_key(&self) -> String {
        fs::read_to_string(self.folder.join("key.pub")).unwrap()
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// From now on this machine is known.
    pub(super) fn add(&self, name: &str, address: &str, host_key: &str) {
        let value = (address.to_owned(), host_key.trim().to_owned());
        self.lock().insert(name.to_owned(), value);
        self.write();
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(name);
        self.write();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (String, String)>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) {
        let machines = self.lock();
        let known = self.folder.join("known_hosts");
        let (mut keys, mut config) = (String::new(), String::new());
        for (name, (address, key)) in &*machines {
            writeln!(keys, "{address} {key}").unwrap();
            writeln!(config, "Host {name}\n    HostName {address}").unwrap();
        }
        write!(
            config,
            "Host *\n    User root\n    IdentityFile {}\n    IdentitiesOnly yes\n    UserKnownHostsFile {}\n    \
             GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    ConnectTimeout 5\n    LogLevel ERROR\n",
            self.key().display(),
            known.display()
        )
        .unwrap();
        replace(&known, &keys);
        replace(&self.config(), &config);
    }
}

/// A new pair of keys: a private one here and a public one beside it.
pub(super) fn make_key(path: &Path) {
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"])
        .arg(path));
}

/// Writes a file at a stroke: somebody may be reading it.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}
