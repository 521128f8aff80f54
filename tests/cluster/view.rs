//! How a cluster is seen from its hosts.

use std::time::Duration;

use apiproxy::admin::Status;

use crate::common::machines::Machine;
use crate::common::wait_for;

/// What every node calls the apiservers.
pub(crate) const ENDPOINT: &str = "apiserver.test.local";

const KUBECTL: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf";

/// What kubectl on this control plane prints.
pub(crate) fn kubectl(machine: &Machine, arguments: &str) -> String {
    machine.exec(&format!("{KUBECTL} {arguments}"))
}

/// `NAME=True` for each node that is ready, `NAME=False` for others, as this control plane has it.
pub(crate) fn readiness(machine: &Machine) -> Vec<String> {
    let path = r#"jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'"#;
    let found = machine.attempt(&format!("{KUBECTL} get nodes -o {path}"));
    found.stdout.split_whitespace().map(str::to_owned).collect()
}

/// Waits until these nodes are ready and no others are there.
pub(crate) fn wait_ready(machine: &Machine, nodes: &[&str]) {
    let wanted: Vec<_> = nodes.iter().map(|node| format!("{node}=True")).collect();
    wait_for(&format!("{wanted:?}"), Duration::from_mins(1), || {
        (readiness(machine) == wanted).then_some(())
    });
}

fn status(worker: &Machine) -> Status {
    serde_json::from_str(&worker.attempt("apiproxy status -o json").stdout).unwrap()
}

/// Everything on a worker goes to the cluster through its own proxy, which is a static pod.
pub(crate) fn goes_through_its_proxy(worker: &Machine) {
    let hosts = worker.exec("cat /etc/hosts");
    assert!(
        hosts.lines().any(|line| line.starts_with("127.0.0.1") && line.contains(ENDPOINT)),
        "{hosts}"
    );
    let kubelet = worker.exec("cat /etc/kubernetes/kubelet.conf");
    assert!(kubelet.contains(&format!("https://{ENDPOINT}:6443")), "{kubelet}");
    let status = status(worker);
    assert_eq!(status.handover_generation, Some(2), "the static pod serves");
    worker.exec("[ -e /etc/kubernetes/manifests/apiproxy-g2.yaml ]");
    assert_ne!(worker.attempt("systemctl is-active apiproxy-bootstrap.service").code, Some(0));
    // Its process is a new one: kubelet comes by when it says next that it lives.
    wait_for("its proxy carries something", Duration::from_secs(30), || {
        let backends = self::status(worker).backends;
        backends.iter().any(|backend| backend.connections_total > 0).then_some(())
    });
}
