//! Whole clusters by `apiproxy bootstrap` on booted machines, without internet: stacked, and with external
//! etcd; made although the runs are killed, looked at, changed in every way there is, and taken apart.
//! kubeadm and kubelet are doubles, and so are the control plane's programs unless `KUBEBUILDER_ASSETS` has
//! them; systemd, sshd, containerd, etcd and the proxies are real.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "cluster/case.rs"]
mod case;
mod common;
#[path = "cluster/leaving.rs"]
mod leaving;
#[path = "cluster/looking.rs"]
mod looking;
#[path = "cluster/renewal.rs"]
mod renewal;
#[path = "cluster/upgrade.rs"]
mod upgrade;
#[path = "cluster/view.rs"]
mod view;

use std::path::Path;
use std::time::{Duration, Instant};

use case::Case;
use common::machines::Lab;
use common::{doubles, report};
use view::{ENDPOINT, are_heard, goes_through_its_proxy, kubectl, wait_ready, wait_states};

/// Stacked: etcd is the control plane's.
const STACKED: &str = "v1.34.2";

/// What it is upgraded to.
const NEXT: &str = "v1.35.1";

/// What it cannot be upgraded to at once.
const TOO_NEW: &str = "v1.36.0";

/// External: Debian's etcd is 3.4, which kubeadm takes until 1.33.
const EXTERNAL: &str = "v1.33.4";

#[test]
fn clusters_are_made_changed_and_taken_apart() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let Some(proxy) = common::released() else {
        skip!("there is no static program; see tests/run.sh");
    };
    let lab = Lab::new();
    stacked(&lab, &proxy);
    external(&lab, &proxy);
}

fn stacked(lab: &Lab, proxy: &Path) {
    let names = ["cp1", "cp2", "cp3", "w1", "w2", "w3", "s1", "s2", "s3"];
    let mut case = Case::new(lab, STACKED, proxy, names);
    is_made_although_runs_are_killed(&case);
    let all = ["cp1", "cp2", "cp3", "w1", "w2", "w3"];
    wait_ready(case.machine("cp2"), &all);
    let config = kubectl(case.machine("cp1"), "get configmap kube-proxy -n kube-system -o yaml");
    assert!(config.contains(&format!("server: https://{ENDPOINT}:6443")), "{config}");
    for worker in ["w1", "w2", "w3"] {
        goes_through_its_proxy(case.machine(worker));
    }

    looking::all_is_well(&case, &names, &["cp1", "cp2", "cp3"], &["w1", "w2", "w3"]);
    looking::certificates_are_shown(&case, &["cp1", "cp2", "cp3"]);
    looking::kubeconfig_works(&case, &all);
    renewal::all_are_renewed(&case, &["cp1", "cp2", "cp3"], "w1");

    // Each control plane in turn has no power: the first for ever, the second comes back, the third is
    // given up.
    case.machine("cp1").power_off();
    wait_states(case.machine("w1"), &[("cp1", "dead"), ("cp2", "ready"), ("cp3", "ready")]);
    are_heard(case.machine("cp2"), &[case.machine("w1"), case.machine("w2")]);
    looking::one_is_away(&case, "cp1");
    case.destroy("cp1");
    leaving::replaced(&case, "cp1", "s1");
    wait_states(case.machine("w1"), &[("cp2", "ready"), ("cp3", "ready"), ("s1", "ready")]);
    wait_ready(case.machine("s1"), &["cp2", "cp3", "s1", "w1", "w2", "w3"]);

    comes_back(&case, "cp2", "cp3");

    case.machine("cp3").power_off();
    wait_states(case.machine("w1"), &[("cp2", "ready"), ("cp3", "dead"), ("s1", "ready")]);
    are_heard(case.machine("cp2"), &[case.machine("w1"), case.machine("w2")]);
    case.done(&["reset", "--host", "cp3", "--yes"]);
    case.leave_out(&["cp3"]);
    case.destroy("cp3");
    case.done(&["apply", "--yes"]);
    wait_states(case.machine("w1"), &[("cp2", "ready"), ("s1", "ready")]);

    leaving::furnish(case.machine("cp2"));
    leaving::replaced(&case, "cp2", "s2");
    leaving::is_clean(case.machine("cp2"));
    wait_states(case.machine("w1"), &[("s1", "ready"), ("s2", "ready")]);

    case.destroy("w2");
    leaving::replaced(&case, "w2", "s3");
    leaving::furnish(case.machine("w3"));
    leaving::pruned(&case, &["w3"], "s1");
    leaving::is_clean(case.machine("w3"));
    looking::all_is_well(&case, &["w1", "s1", "s2", "s3"], &["s1", "s2"], &["w1", "s3"]);

    if doubles::are_real() {
        report("not upgraded: the real programs of KUBEBUILDER_ASSETS are of one version");
    } else {
        upgrade::two_at_once_are_refused(&case, STACKED, TOO_NEW);
        upgrade::is_upgraded(&case, NEXT, (&["s1", "s2"], &["s3", "w1"]), "s2");
        looking::all_is_well(&case, &["w1", "s1", "s2", "s3"], &["s1", "s2"], &["w1", "s3"]);
    }

    leaving::furnish(case.machine("s3"));
    case.done(&["reset", "--host", "s3", "--yes"]);
    leaving::is_clean(case.machine("s3"));
    wait_ready(case.machine("s2"), &["s1", "s2", "w1"]);
    is_taken_apart(&case, &["s1", "s2", "w1"]);
}

/// `kill -9` while a control plane and while a worker is made.
fn is_made_although_runs_are_killed(case: &Case) {
    for step in ["cp2/control-plane", "w1/node"] {
        let mut run = case.operator.start(&[]);
        assert!(run.step(|begun| begun == step).is_some(), "{step}: {:?}", run.seen);
        std::thread::sleep(Duration::from_millis(1500));
        run.kill();
        report(&format!("killed in the midst of {step}"));
    }
    let (_, time) = case.operator.apply(&[]);
    report(&format!(
        "the rest of 3 stacked control planes and 3 workers in {:.1} s",
        time.as_secs_f64()
    ));
    let time = case.idle(&["apply", "--yes"]);
    report(&format!("nothing to do on 9 hosts in {:.1} s", time.as_secs_f64()));
    assert!(time < Duration::from_secs(20), "{time:?}");
}

/// A control plane has no power for a while; `other` sees that the workers go on.
fn comes_back(case: &Case, name: &str, other: &str) {
    let begun = Instant::now();
    let machine = case.machine(name);
    machine.power_off();
    let state = |plane| if plane == name { "dead" } else { "ready" };
    let planes = [name, other, "s1"];
    wait_states(case.machine("w1"), &planes.map(|plane| (plane, state(plane))));
    are_heard(case.machine(other), &[case.machine("w1"), case.machine("w2")]);
    machine.power_on();
    wait_ready(machine, &["cp2", "cp3", "s1", "w1", "w2", "w3"]);
    wait_states(case.machine("w1"), &planes.map(|plane| (plane, "ready")));
    report(&format!("{name}: off and well again in {:.1} s", begun.elapsed().as_secs_f64()));
}

/// The whole cluster is given up: what was not ours is there still, and there is nothing to do then.
fn is_taken_apart(case: &Case, names: &[&str]) {
    for name in names {
        leaving::furnish(case.machine(name));
    }
    case.done(&["reset", "--yes"]);
    for name in names {
        leaving::is_clean(case.machine(name));
    }
    case.idle(&["reset", "--yes"]);
}

fn external(lab: &Lab, proxy: &Path) {
    let names = ["e1", "e2", "e3", "cp1", "cp2", "w1", "s1"];
    let case = Case::new(lab, EXTERNAL, proxy, names);
    let (_, time) = case.operator.apply(&[]);
    report(&format!("external etcd, 2 control planes and a worker in {:.1} s", time.as_secs_f64()));
    wait_ready(case.machine("cp1"), &["cp1", "cp2", "w1"]);
    goes_through_its_proxy(case.machine("w1"));
    // etcd is where the file says, and nowhere else.
    case.machine("e1").exec("systemctl is-active apiproxy-etcd.service");
    case.machine("cp1").exec("! ls /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/pki/etcd/ca.key 2>/dev/null | grep .");
    let manifest = "cat /etc/kubernetes/manifests/kube-apiserver.yaml";
    let address = |name| format!("https://{}:2379", case.machine(name).address());
    assert!(case.machine("cp2").exec(manifest).contains(&address("e2")));
    looking::all_is_well(&case, &names, &["e1", "e2", "e3"], &["w1"]);

    leaving::furnish(case.machine("e2"));
    leaving::replaced(&case, "e2", "s1");
    leaving::is_clean(case.machine("e2"));
    let arguments = case.machine("cp2").exec(manifest);
    assert!(
        arguments.contains(&address("s1")) && !arguments.contains(&address("e2")),
        "{arguments}"
    );
    wait_ready(case.machine("cp1"), &["cp1", "cp2", "w1"]);
    is_taken_apart(&case, &["e1", "e3", "s1", "cp1", "cp2", "w1"]);
}
