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
#[path = "cluster/restored.rs"]
mod restored;
#[path = "cluster/upgrade.rs"]
mod upgrade;
#[path = "cluster/view.rs"]
mod view;

use std::time::{Duration, Instant};

use case::Case;
use common::machines::Lab;
use common::{doubles, report};
use view::{ENDPOINT, are_heard, are_listed, goes_through_its_proxy, kubectl, wait_ready};

/// Stacked: etcd is the control plane's.
const STACKED: &str = "v1.34.2";

/// What it is upgraded to.
const NEXT: &str = "v1.35.1";

/// What it cannot be upgraded to at once.
const TOO_NEW: &str = "v1.36.0";

/// External: Debian's etcd is 3.4, which kubeadm takes until 1.33.
const EXTERNAL: &str = "v1.33.4";

/// What machines and clusters need that may not be here.
macro_rules! lab {
    () => {{
        if let Some(why) = Lab::impossible() {
            skip!("{why}");
        }
        let Some(proxy) = common::released() else {
            skip!("there is no static program; see tests/run.sh");
        };
        (Lab::new(), proxy)
    }};
}

#[test]
fn a_stacked_cluster_is_made_changed_and_taken_apart() {
    let (lab, proxy) = lab!();
    let names = ["cp1", "cp2", "cp3", "w1", "w2", "w3", "s1", "s2"];
    let mut case = Case::new(&lab, STACKED, &proxy, names);
    is_made_although_runs_are_killed(&case);
    let (planes, workers) = (["cp1", "cp2", "cp3"], ["w1", "w2", "w3"]);
    let all = ["cp1", "cp2", "cp3", "w1", "w2", "w3"];
    wait_ready(case.machine("cp2"), &all);
    let config = kubectl(case.machine("cp1"), "get configmap kube-proxy -n kube-system -o yaml");
    assert!(config.contains(&format!("server: https://{ENDPOINT}:6443")), "{config}");
    for worker in workers {
        goes_through_its_proxy(case.machine(worker));
    }
    are_listed(&case.machines(workers), &planes.map(|plane| (plane, "ready")));
    looking::all_is_well(&case, &names, &planes, &workers);
    looking::certificates_are_shown(&case, &planes);
    looking::kubeconfig_works(&case, &all);
    renewal::all_are_renewed(&case, &planes, "w1");

    each_control_plane_is_off(&mut case);
    hosts_change(&mut case);
    let (planes, workers) = (["cp2", "s1", "s2"], ["w1", "w3"]);
    let hosts = ["cp2", "w1", "s1", "s2", "w3"];
    looking::all_is_well(&case, &hosts, &planes, &workers);
    if doubles::are_real() {
        report("not upgraded: the real programs of KUBEBUILDER_ASSETS are of one version");
    } else {
        upgrade::two_at_once_are_refused(&case, STACKED, TOO_NEW);
        upgrade::is_upgraded(&case, NEXT, (&planes, &workers), "s2");
        are_listed(&case.machines(workers), &planes.map(|plane| (plane, "ready")));
        looking::all_is_well(&case, &hosts, &planes, &workers);
    }
    is_taken_apart(&case, &hosts);
}

/// Each control plane in turn has no power, and the workers go on: the first is lost and replaced, the
/// others come back.
fn each_control_plane_is_off(case: &mut Case) {
    let workers = ["w1", "w2", "w3"];
    is_off(case, "cp1", ["cp1", "cp2", "cp3"], "cp2");
    looking::one_is_away(case, "cp1");
    case.destroy("cp1");
    leaving::replaced(case, "cp1", "s1");
    let planes = ["cp2", "cp3", "s1"];
    are_listed(&case.machines(workers), &planes.map(|plane| (plane, "ready")));
    wait_ready(case.machine("s1"), &["cp2", "cp3", "s1", "w1", "w2", "w3"]);

    for (name, other) in [("cp2", "cp3"), ("cp3", "cp2")] {
        let begun = Instant::now();
        is_off(case, name, planes, other);
        case.machine(name).power_on();
        wait_ready(case.machine(name), &["cp2", "cp3", "s1", "w1", "w2", "w3"]);
        are_listed(&case.machines(workers), &planes.map(|plane| (plane, "ready")));
        report(&format!("{name}: off and well again in {:.1} s", begun.elapsed().as_secs_f64()));
    }
}

/// The power of one of these control planes is cut; `other` sees that the workers go on.
fn is_off(case: &Case, name: &str, planes: [&str; 3], other: &str) {
    case.machine(name).power_off();
    let workers = case.machines(["w1", "w2", "w3"]);
    let state = |plane| if plane == name { "dead" } else { "ready" };
    are_listed(&workers, &planes.map(|plane| (plane, state(plane))));
    are_heard(case.machine(other), &workers);
}

/// A control plane is replaced that lives, and becomes a worker when another leaves, which takes the place
/// of a worker that is lost; in the end it is reset by itself.
fn hosts_change(case: &mut Case) {
    let planes = ["cp2", "s1", "s2"].map(|plane| (plane, "ready"));
    leaving::furnish(case.machine("cp3"));
    leaving::replaced(case, "cp3", "s2");
    leaving::is_clean(case.machine("cp3"));
    are_listed(&case.machines(["w1", "w2", "w3"]), &planes);

    leaving::furnish(case.machine("w3"));
    leaving::exchanged(case, ("w3", "cp3"), "s1");
    leaving::is_clean(case.machine("w3"));
    are_listed(&case.machines(["w1", "w2", "cp3"]), &planes);

    case.destroy("w2");
    case.put_in("w3", "spare");
    leaving::replaced_by_a_spare(case, "w2", "w3");
    goes_through_its_proxy(case.machine("w3"));
    are_listed(&case.machines(["w1", "w3", "cp3"]), &planes);

    let words = ["reset", "--host", "cp3", "--yes"];
    case.done(&words);
    leaving::is_clean(case.machine("cp3"));
    case.idle(&words);
    case.leave_out(&["cp3"]);
    wait_ready(case.machine("s2"), &["cp2", "s1", "s2", "w1", "w3"]);
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
    report(&format!("nothing to do on 8 hosts in {:.1} s", time.as_secs_f64()));
    assert!(time < Duration::from_mins(1), "{time:?}");
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

#[test]
fn a_cluster_with_external_etcd_is_made_changed_and_taken_apart() {
    let (lab, proxy) = lab!();
    let names = ["e1", "e2", "e3", "cp1", "cp2", "w1", "s1"];
    let case = Case::new(&lab, EXTERNAL, &proxy, names);
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
    are_listed(&case.machines(["w1"]), &["cp1", "cp2"].map(|plane| (plane, "ready")));
    is_taken_apart(&case, &["e1", "e3", "s1", "cp1", "cp2", "w1"]);
}

#[test]
fn a_stacked_etcd_is_restored() {
    let (lab, proxy) = lab!();
    let names = ["cp1", "cp2", "cp3", "w1", "w2", "s1", "s2", "s3", "s4"];
    let case = Case::new(&lab, STACKED, &proxy, names);
    let keys = restored::Keys::new();
    case.say(&keys.spec("w2"));
    case.operator.apply(&[]);
    let (planes, workers) = (case.machines(["cp1", "cp2", "cp3"]), case.machines(["w1", "w2"]));
    let spares = case.machines(["s1", "s2", "s3", "s4"]);
    restored::comes_back(&case.operator, &keys, planes, workers, spares);
}
