//! What befalls a machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::{run, wait_for};
use super::{Machine, processes};

impl Machine {
    /// Stops everything on it, as when its kernel hangs: connections stay open and are silent.
    pub fn freeze(&self) {
        let init = self.init();
        // Who is not yet stopped may start others meanwhile.
        wait_for(&format!("{} is frozen", self.name()), Duration::from_secs(20), || {
            let everyone = processes::descendants(init);
            processes::signal_all(&everyone, "STOP");
            processes::descendants(init).into_iter().all(processes::is_stopped).then_some(())
        });
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        processes::signal_all(&processes::descendants(self.init()), "CONT");
    }

    /// Pulls its cable.
    pub fn cut(&self) {
        run(Command::new("ip").args(["link", "set", &self.link(), "down"]));
    }

    /// Plugs it in again.
    pub fn join(&self) {
        run(Command::new("ip").args(["link", "set", &self.link(), "up"]));
    }

    /// Puts a disk of its own, of so many MiB, over a folder; it is gone when the machine is off.
    pub fn small_disk(&self, folder: &str, mebibytes: u32) {
        let mount = format!("mount -t tmpfs -o size={mebibytes}m,mode=755 small '{folder}'");
        self.exec(&format!("mkdir -p '{folder}' && {mount}"));
    }

    /// Fills the disk that a folder is on: only after [`Machine::small_disk`].
    pub fn fill_disk(&self, folder: &str) {
        let kind = self.exec(&format!("stat --file-system --format=%T '{folder}'"));
        assert_eq!(kind.trim(), "tmpfs", "{folder} would fill this host's disk");
        self.exec(&format!(
            "! dd if=/dev/zero of='{folder}/filler' bs=64k status=none 2>/dev/null"
        ));
    }

    /// Makes room again.
    pub fn free_disk(&self, folder: &str) {
        self.exec(&format!("rm '{folder}/filler'"));
    }

    /// Makes `date` on it lie by so many seconds; zero makes it true again. The clock itself is the
    /// kernel's, and so this host's.
    pub fn skew_clock(&self, seconds: i64) {
        if seconds == 0 {
            self.exec("rm -f /usr/local/bin/date");
        } else {
            let text = format!("#!/bin/sh\nexec faketime -f {seconds:+}s /bin/date \"$@\"\n");
            self.write("/usr/local/bin/date", text.as_bytes(), 0o755);
        }
    }

    /// Its cable's end on this host.
    fn link(&self) -> String {
        let number = self.exec("cat /sys/class/net/host0/iflink");
        let links = fs::read_dir("/sys/class/net").unwrap().flatten();
        let is_it = |link: &PathBuf| {
            fs::read_to_string(link.join("ifindex")).is_ok_and(|own| own.trim() == number.trim())
        };
        let found = links.map(|link| link.path()).find(is_it);
        found.unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    }
}
