//! `kubeadm reset`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::certificates::PKI;
use super::manifests;
use crate::etcd::Etcd;
use crate::flags::Line;

pub(super) const FLAGS: &[&str] = &[
    "force!",
    "cri-socket",
    "cert-dir",
    "ignore-preflight-errors",
    "skip-phases",
    "cleanup-tmp-dir!",
    "config",
    "dry-run!",
];

/// The files that go.
const FILES: [&str; 6] = [
    "admin.conf",
    "super-admin.conf",
    "kubelet.conf",
    "bootstrap-kubelet.conf",
    "controller-manager.conf",
    "scheduler.conf",
];

pub(super) fn run(line: &Line) -> Result<(), String> {
    if !line.is_on("force") {
        return Err(
            "[reset] Are you sure you want to proceed? Nobody is there to ask: give --force"
                .to_owned(),
        );
    }
    if line.get("cri-socket").is_some_and(|socket| !socket.starts_with("unix:///")) {
        return Err("--cri-socket: no unix:// address".to_owned());
    }
    // This phase removes the member and its data.
    let skipped = line.get("skip-phases").unwrap_or_default().split(',');
    let stays = skipped.into_iter().any(|phase| phase == "remove-etcd-member");
    let stacked = !stays && Path::new(manifests::FOLDER).join("etcd.yaml").exists();
    if stacked && let Err(error) = leave_etcd() {
        println!(
            "[reset] Failed to remove etcd member: {error}, please manually remove this etcd member using etcdctl"
        );
    }
    let _ = Command::new("systemctl").args(["stop", "kubelet"]).status();
    // Its containers: those of static pods are all there are.
    let _ = Command::new("systemctl").args(["stop", "double-pod-*"]).status();
    empty(Path::new(manifests::FOLDER))?;
    empty(Path::new("/var/lib/kubelet"))?;
    if stacked {
        empty(Path::new("/var/lib/etcd"))?;
    }
    empty(Path::new(PKI))?;
    for file in FILES {
        let path = Path::new("/etc/kubernetes").join(file);
        if path.exists() {
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    println!("[reset] Deleted contents of the directories and files");
    Ok(())
}

fn empty(folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// Takes the member of this host out of the cluster, if it is not the last.
fn leave_etcd() -> Result<(), String> {
    let read = |file: &str| {
        fs::read(Path::new(PKI).join("etcd").join(file)).map_err(|error| format!("{file}: {error}"))
    };
    let (ca, certificate, key) =
        (read("ca.crt")?, read("healthcheck-client.crt")?, read("healthcheck-client.key")?);
    let client = |endpoints: &[String]| Etcd::new(endpoints, &ca, &certificate, &key);
    let members = client(&["https://127.0.0.1:2379".to_owned()])?.members()?;
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let Some(own) = members.iter().find(|member| member.name == hostname.trim()) else {
        return Ok(());
    };
    let others: Vec<_> = members
        .iter()
        .filter(|member| member.id != own.id)
        .flat_map(|m| m.clients.clone())
        .collect();
    if others.is_empty() {
        Ok(())
    } else {
        let others = client(&others)?;
        try_for_a_while(|| others.remove(&own.id))
    }
}

/// etcd refuses while it is not sure of its members.
fn try_for_a_while(mut try_it: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let mut result = try_it();
    for _ in 0..20 {
        if result.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        result = try_it();
    }
    result
}
