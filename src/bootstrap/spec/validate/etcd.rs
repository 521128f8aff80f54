//! The store and its backups.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::roster::Roster;
use super::{Check, reserved};
use crate::bootstrap::spec::word::texts;
use crate::bootstrap::spec::{
    Etcd, EtcdBackup, EtcdDrill, Role, Topology, Version, cron, recipient, shape,
};
use crate::config::{nearest, quoted};

const BACKUP: &str = "spec.etcd.backup";
const DRILL: &str = "spec.etcd.backup.drill";

/// Minor releases of etcd 3 that are supported: from Debian's own to the newest.
const SUPPORTED: std::ops::RangeInclusive<u32> = 4..=6;

impl Check<'_> {
    pub(super) fn etcd(
        &mut self,
        raw: shape::Etcd,
        topology: Option<Topology>,
        roster: &Roster,
    ) -> Etcd {
        let version = raw.version.and_then(|text| self.etcd_version(&text, topology));
        let extra_args = texts(raw.extra_args);
        self.flags("spec.etcd.extraArgs", &extra_args, reserved::ETCD);
        let backup = raw.backup.map(|backup| self.backup(backup, topology, roster));
        Etcd { version, extra_args, backup }
    }

    fn etcd_version(&mut self, text: &str, topology: Option<Topology>) -> Option<Version> {
        let at = "spec.etcd.version";
        let (oldest, newest) = (*SUPPORTED.start(), *SUPPORTED.end());
        let hint = format!("supported are v3.{oldest} to v3.{newest}; write it as v3.5.26");
        match text.parse::<Version>() {
            _ if topology == Some(Topology::Stacked) => {
                let message = "with `topology: stacked`, kubeadm chooses etcd's version";
                self.fault(at, message, "remove it, or write `topology: external`");
                None
            }
            Ok(version) if version.major == 3 && SUPPORTED.contains(&version.minor) => {
                Some(version)
            }
            Ok(version) => {
                self.fault(at, format!("{version} is not supported"), hint);
                None
            }
            Err(_) => {
                self.fault(at, format!("{} is no version", quoted(text)), hint);
                None
            }
        }
    }

    fn backup(
        &mut self,
        raw: shape::Backup,
        topology: Option<Topology>,
        roster: &Roster,
    ) -> EtcdBackup {
        let schedule = raw.schedule.unwrap_or_else(|| "0 */6 * * *".to_owned());
        self.schedule(BACKUP, &schedule, "0 */6 * * *");
        let keep = self.number(&format!("{BACKUP}.keep"), raw.keep, 1..=10_000).unwrap_or(28);
        let directory = raw.directory.unwrap_or_else(|| "/var/lib/apiproxy/backups".to_owned());
        if !is_own_folder(&directory) {
            let message = format!("{} cannot be the folder of backups", quoted(&directory));
            let hint = "write the whole path of a folder for them alone, without `..` and blanks";
            self.fault(&format!("{BACKUP}.directory"), message, hint);
        }
        let to_spares = raw.copy_to.is_none();
        let copy_to = self.copy_to(raw.copy_to, roster);
        let copy_to = if to_spares { spares(roster) } else { copy_to };
        let recipients = self.recipients(raw.recipients);
        let drill = raw.drill.map(|drill| {
            let etcd_hosts = etcd_hosts(topology, roster);
            self.drill(drill, &etcd_hosts, &copy_to, !recipients.is_empty(), roster)
        });
        let s3 = raw.s3.map(|s3| self.s3(s3, !recipients.is_empty()));
        EtcdBackup { schedule, keep, directory, copy_to, to_spares, recipients, s3, drill }
    }

    fn schedule(&mut self, at: &str, schedule: &str, example: &str) {
        if let Err(why) = cron::check(schedule) {
            let hint = format!("write minute, hour, day, month and weekday, as in `{example}`");
            self.fault(&format!("{at}.schedule"), format!("{}: {why}", quoted(schedule)), hint);
        }
    }

    fn drill(
        &mut self,
        raw: shape::Drill,
        etcd_hosts: &[String],
        copy_to: &[String],
        encrypted: bool,
        roster: &Roster,
    ) -> EtcdDrill {
        let schedule = raw.schedule.unwrap_or_else(|| "30 4 * * 0".to_owned());
        self.schedule(DRILL, &schedule, "30 4 * * 0");
        let without = |name: &&String| !etcd_hosts.contains(name) && !copy_to.contains(name);
        if let Some(host) = raw.host.as_ref().filter(without)
            && roster.is_complete
        {
            let message = format!("{} has no backups", quoted(host));
            let hint = "name a host of etcd, or one in `spec.etcd.backup.copyTo`";
            self.fault(&format!("{DRILL}.host"), message, hint);
        }
        let at = format!("{DRILL}.identityFile");
        match &raw.identity_file {
            Some(path) if !is_whole_path(path) => {
                let message = format!("{} is no whole path of a file there", quoted(path));
                self.fault(&at, message, "write it as /root/drill.key, without `..` and blanks");
            }
            None if encrypted => {
                let message = "backups are encrypted, so a drill needs a private key";
                let hint =
                    "name a file with that of one of the recipients, and put it on that host";
                self.fault(&at, message, hint);
            }
            _ => {}
        }
        EtcdDrill { schedule, host: raw.host, identity_file: raw.identity_file }
    }

    fn copy_to(&mut self, raw: Option<shape::List<String>>, roster: &Roster) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let items = self.items(&format!("{BACKUP}.copyTo"), raw);
        for (at, name) in &items {
            if !seen.insert(name) {
                self.fault(at, format!("{} is given twice", quoted(name)), "keep one of them");
            } else if !roster.has(name) && roster.is_complete {
                let hint = match nearest(name, &roster.names()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "name one of `spec.hosts`".to_owned(),
                };
                self.fault(at, format!("no host is called {}", quoted(name)), hint);
            }
        }
        items.into_iter().map(|(_, name)| name).collect()
    }

    fn recipients(&mut self, raw: Option<shape::List<String>>) -> Vec<String> {
        let items = self.items(&format!("{BACKUP}.recipients"), raw);
        for (at, text) in &items {
            if let Err((message, hint)) = recipient::check(text) {
                self.fault(at, message, hint);
            }
        }
        items.into_iter().map(|(_, text)| text).collect()
    }
}

fn spares(roster: &Roster) -> Vec<String> {
    let spares = roster.each().filter(|(_, host)| host.roles.contains(&Role::Spare));
    spares.map(|(_, host)| host.name.clone()).collect()
}

/// The names of the hosts that carry etcd.
fn etcd_hosts(topology: Option<Topology>, roster: &Roster) -> Vec<String> {
    let role = match topology {
        Some(Topology::External) => Role::Etcd,
        _ => Role::ControlPlane,
    };
    let hosts = roster.each().filter(|(_, host)| host.roles.contains(&role));
    hosts.map(|(_, host)| host.name.clone()).collect()
}

/// An absolute path in words that no shell or unit file takes apart.
fn is_whole_path(text: &str) -> bool {
    let path = Path::new(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
    path.is_absolute()
        && text.chars().all(plain)
        && path.components().all(|part| !matches!(part, Component::ParentDir))
}

/// Such a path, and no folder of the system.
fn is_own_folder(text: &str) -> bool {
    let path = Path::new(text);
    is_whole_path(text)
        && path.components().count() > 2
        && !OTHERS.iter().any(|taken| path.starts_with(taken) || Path::new(taken).starts_with(path))
}

/// Folders that belong to others, who may empty them, or that do not last.
const OTHERS: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc/apiproxy",
    "/etc/kubernetes",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/lib",
    "/usr/sbin",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/run",
    "/var/tmp",
];
