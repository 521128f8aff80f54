//! For tests: the scripts of looks, run by a real shell on a folder that stands for a host.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::bootstrap::kubernetes::Report;
use crate::bootstrap::transport::Command;

/// Folders of a host that the scripts name.
const FOLDERS: [&str; 6] = [
    "/etc/kubernetes",
    "/etc/apiproxy",
    "/etc/hosts",
    "/proc",
    "/usr/local/bin",
    "/var/lib/apiproxy",
];

/// A folder that stands for a host. What it has no program for is this machine's.
pub(super) struct Root(tempfile::TempDir);

impl Root {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    /// A program found by its name; `$ROOT` is the folder.
    pub(super) fn program(&self, name: &str, body: &str) {
        self.program_at(&format!("bin/{name}"), body);
    }

    pub(super) fn program_at(&self, path: &str, body: &str) {
        self.write(path, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.at(path), Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a look here. What it reports is named as on a host.
    pub(super) fn report(&self, command: &Command) -> Report {
        let root = self.0.path().to_str().unwrap();
        let here = |word: &String| {
            let within =
                |word: String, folder: &&str| word.replace(*folder, &format!("{root}{folder}"));
            FOLDERS.iter().fold(word.clone(), within)
        };
        let words: Vec<_> = command.argv.iter().map(here).collect();
        let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
        let mut shell = std::process::Command::new(&words[0]);
        let output = shell.args(&words[1..]).env("PATH", path).env("ROOT", root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Report::read(String::from_utf8_lossy(&output.stdout).replace(root, "").as_bytes())
    }
}
