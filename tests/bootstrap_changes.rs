//! A cluster by `apiproxy bootstrap` on booted machines that is changed: a worker that is gone is replaced,
//! another leaves. kubeadm and kubelet are doubles, and so are the control plane's programs unless
//! `KUBEBUILDER_ASSETS` has them; systemd, sshd, containerd, etcd and the proxies are real.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

#[path = "cluster/case.rs"]
mod case;
mod common;
#[path = "cluster/leaving.rs"]
mod leaving;
#[path = "cluster/looking.rs"]
mod looking;
#[path = "cluster/view.rs"]
mod view;

use case::Case;
use common::machines::Lab;
use view::{goes_through_its_proxy, wait_ready};

const VERSION: &str = "v1.34.2";

#[test]
fn workers_are_replaced_and_leave() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let Some(proxy) = common::released() else {
        skip!("there is no static program; see tests/run.sh");
    };
    let lab = Lab::new();
    let mut case = Case::new(&lab, VERSION, &proxy, ["cp1", "w1", "w2", "s1"]);
    case.done(&["apply", "--yes"]);
    wait_ready(case.machine("cp1"), &["cp1", "w1", "w2"]);

    case.destroy("w2");
    leaving::replaced(&case, "w2", "s1");
    wait_ready(case.machine("cp1"), &["cp1", "s1", "w1"]);
    goes_through_its_proxy(case.machine("s1"));
    leaving::furnish(case.machine("w1"));
    leaving::pruned(&case, &["w1"], "cp1");
    leaving::is_clean(case.machine("w1"));
    looking::kubeconfig_works(&case, &["cp1", "s1"]);
    looking::certificates_are_shown(&case, &["cp1"]);
    looking::all_is_well(&case, &["cp1", "s1"], &["cp1"], &["s1"]);
}
