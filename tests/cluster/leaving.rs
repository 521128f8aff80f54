//! Hosts that leave: what was theirs is gone, and what we did not make stays.

use crate::case::Case;
use crate::common::machines::Machine;
use crate::view::{ENDPOINT, kubectl};

/// What others have put onto a machine.
const FOREIGN: [&str; 3] = ["/etc/kubernetes/mine", "/etc/apiproxy/mine", "/var/lib/mine"];

/// Puts something there that is not ours.
pub(crate) fn furnish(machine: &Machine) {
    for file in FOREIGN {
        machine.exec(&format!("mkdir -p $(dirname {file}); echo mine >{file}"));
    }
    machine.exec("echo '10.9.8.7 printer' >>/etc/hosts");
}

/// Nothing is left of the cluster, and all the rest is.
#[track_caller]
pub(crate) fn is_clean(machine: &Machine) {
    machine.exec(
        "! ls -d /etc/kubernetes/*.conf /etc/kubernetes/manifests/* /etc/kubernetes/pki/* \
         /etc/kubernetes/patches /etc/kubernetes/kubeadm.yaml /etc/apiproxy/*.yaml /etc/apiproxy/etcd \
         /etc/apiproxy/backup /etc/apiproxy/kubeconfig /etc/systemd/system/apiproxy-etcd* \
         /var/lib/etcd/member /var/lib/kubelet/* 2>/dev/null | grep .",
    );
    machine.exec("! systemctl is-active kubelet apiproxy-bootstrap apiproxy-etcd 2>/dev/null | grep -x active");
    machine.exec("! systemctl list-units --plain --no-legend 'double-pod-*' | grep .");
    let hosts = machine.exec("cat /etc/hosts");
    assert!(!hosts.contains(ENDPOINT) && hosts.contains("10.9.8.7 printer"), "{hosts}");
    machine.exec(&format!("cat {} >/dev/null", FOREIGN.join(" ")));
    // Programs stay.
    machine.exec("ls /usr/local/bin/apiproxy >/dev/null");
}

/// A replacement, after which the file names the new host in the place of the old one, and nothing is
/// left to do.
#[track_caller]
pub(crate) fn replaced(case: &Case, old: &str, new: &str) {
    case.done(&["replace", old, new, "--yes", "--write"]);
    has_its_place(case, old, new);
}

/// The same with the only spare of the file, which nobody names.
#[track_caller]
pub(crate) fn replaced_by_a_spare(case: &Case, old: &str, new: &str) {
    let outcome = case.done(&["replace", old, "--yes", "--write"]);
    let said = format!("The spare {new} takes the place of {old}; ");
    assert!(outcome.stdout.contains(&said), "{outcome:?}");
    has_its_place(case, old, new);
}

#[track_caller]
fn has_its_place(case: &Case, old: &str, new: &str) {
    let text = case.text();
    assert!(!text.contains(&format!("name: {old},")), "{text}");
    assert!(text.contains(&format!("name: {new},")), "{text}");
    case.idle(&["apply", "--yes"]);
}

/// In one run a host joins as a worker, and another that the file names no more leaves: it is told of
/// before.
#[track_caller]
pub(crate) fn exchanged(case: &Case, (old, new): (&str, &str), via: &str) {
    case.leave_out(&[old]);
    let outcome = case.operator.run(&["plan"]);
    let note = format!("{old} is in the cluster and not in the file; `apply --prune` removes it");
    assert!(outcome.stdout.contains(&note), "{outcome:?}");
    case.put_in(new, "worker");
    let all = ["apply", "--prune", "--yes"];
    case.done(&all);
    let nodes = kubectl(case.machine(via), "get nodes -o name");
    let has = |name: &str| nodes.lines().any(|line| line == format!("node/{name}"));
    assert!(has(new) && !has(old), "{nodes}");
    case.idle(&all);
}
