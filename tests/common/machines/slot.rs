//! A numbered place on this host for one lab: a folder, a subnet and names that no other lab has.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::{run, wait_for};
use super::processes;

/// Where all labs of this host are.
const LABS: &str = "/var/tmp/apiproxy-labs";

/// How many labs there can be at once.
const LABS_AT_ONCE: u8 = 100;

/// The place. It is free again, and empty, when this is dropped; and when its owner dies, for the
/// next who looks for a place.
pub(super) struct Slot {
    number: u8,
    /// Held by this process alone: the kernel lets go of it when the process ends, however it ends.
    lock: File,
}

impl Slot {
    /// Takes the first place that nobody has. Clears all others that were left by dead owners.
    pub(super) fn take() -> Self {
        fs::create_dir_all(LABS).unwrap();
        let mut taken: Option<Self> = None;
        for number in 0..LABS_AT_ONCE {
            if taken.is_some() && !folder(number).exists() {
                continue;
            }
            let path = folder(number).with_extension("lock");
            let lock = File::options().create(true).append(true).open(path).unwrap();
            if lock.try_lock().is_err() {
                continue;
            }
            clear(number);
            if taken.is_none() {
                taken = Some(Self { number, lock });
            }
        }
        let slot = taken.expect("there are too many labs on this host");
        fs::create_dir_all(slot.folder()).unwrap();
        let bridge = slot.bridge();
        let ip = |arguments: &[&str]| run(Command::new("ip").args(arguments));
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["addr", "add", &format!("{}/24", slot.address(1)), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        slot
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    pub(super) fn folder(&self) -> PathBuf {
        folder(self.number)
    }

    pub(super) fn bridge(&self) -> String {
        bridge(self.number)
    }

    /// What systemd-nspawn calls a machine of this lab.
    pub(super) fn machine(&self, name: &str) -> String {
        prefix(self.number) + name
    }

    /// The address in the lab's network that ends in this number.
    pub(super) fn address(&self, last: u8) -> String {
        format!("10.77.{}.{last}", self.number)
    }

    pub(super) fn traces(&self) -> Vec<String> {
        traces(self.number)
    }

    /// Gives the place up as a dying process does: with everything in it.
    pub(super) fn unlock(&self) {
        self.lock.unlock().unwrap();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        clear(self.number);
    }
}

fn folder(number: u8) -> PathBuf {
    Path::new(LABS).join(number.to_string())
}

fn bridge(number: u8) -> String {
    format!("apxlab{number}")
}

fn prefix(number: u8) -> String {
    format!("apxlab{number}-")
}

/// What there is of a lab: processes, mounts, links and files.
pub(super) fn traces(number: u8) -> Vec<String> {
    let mut found: Vec<_> =
        processes::machines(&prefix(number)).iter().map(|pid| format!("process {pid}")).collect();
    found.extend(mounts(&folder(number)).iter().map(|mount| format!("mount {mount}")));
    let link = PathBuf::from("/sys/class/net").join(bridge(number));
    found.extend(
        [link, folder(number)].iter().filter(|p| p.exists()).map(|p| format!("{}", p.display())),
    );
    found
}

/// Removes all that there is of a lab.
fn clear(number: u8) {
    let running = || Some(processes::machines(&prefix(number))).filter(|pids| !pids.is_empty());
    if let Some(pids) = running() {
        for pid in pids {
            for child in processes::children(pid) {
                processes::signal(child, "KILL");
            }
            processes::signal(pid, "KILL");
        }
        wait_for("left-over machines end", Duration::from_secs(20), || {
            running().is_none().then_some(())
        });
    }
    // The kernel takes the cables of machines that have ended away when it comes to it.
    for cable in cables(number) {
        let _ = Command::new("ip").args(["link", "del", &cable]).stderr(Stdio::null()).status();
    }
    unmount_below(&folder(number));
    let _ = fs::remove_dir_all(folder(number));
    if PathBuf::from("/sys/class/net").join(bridge(number)).exists() {
        run(Command::new("ip").args(["link", "del", &bridge(number)]));
    }
}

/// The cables' ends on this host, as systemd-nspawn calls them.
fn cables(number: u8) -> Vec<String> {
    let start = format!("vb-{}", prefix(number));
    let links = fs::read_dir("/sys/class/net").unwrap().flatten();
    let names = links.filter_map(|link| link.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&start)).collect()
}

/// Where something is mounted in or below a folder, the deepest first.
fn mounts(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<_> =
        points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect();
    below.reverse();
    below
}

/// Unmounts everything in and below a folder.
pub(super) fn unmount_below(folder: &Path) {
    for point in mounts(folder) {
        // Whoever was in there has ended, but the kernel may still be at it.
        wait_for(&format!("{point} is unmounted"), Duration::from_secs(10), || {
            let status =
                Command::new("umount").arg(&point).stderr(std::process::Stdio::null()).status();
            status.unwrap().success().then_some(())
        });
    }
}
