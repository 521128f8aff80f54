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

/// When these nodes last said that they live, as this control plane has it. It may have no answer while
/// etcd chooses another leader.
fn heartbeats(machine: &Machine, nodes: &[&Machine]) -> Vec<String> {
    let beat = |node: &&Machine| {
        let lease = format!("lease {} -n kube-node-lease", node.name());
        wait_for(&lease, Duration::from_secs(30), || {
            let path = "jsonpath='{.spec.renewTime}'";
            let found = machine.attempt(&format!("{KUBECTL} get {lease} -o {path}"));
            (found.code == Some(0)).then_some(found.stdout)
        })
    };
    nodes.iter().map(beat).collect()
}

/// These workers go on saying that they live, and are ready, as this control plane has it.
pub(crate) fn are_heard(machine: &Machine, workers: &[&Machine]) {
    let since = heartbeats(machine, workers);
    wait_for("the workers are heard", Duration::from_mins(1), || {
        let now = heartbeats(machine, workers);
        now.iter().zip(&since).all(|(now, since)| now > since).then_some(())
    });
    let nodes = readiness(machine);
    for worker in workers {
        assert!(nodes.contains(&format!("{}=True", worker.name())), "{nodes:?}");
    }
}

fn status(worker: &Machine) -> Status {
    serde_json::from_str(&worker.attempt("apiproxy status -o json").stdout).unwrap()
}

/// Waits until the worker's proxy sees these control planes so, in the order of the file.
pub(crate) fn wait_states(worker: &Machine, wanted: &[(&str, &str)]) {
    wait_for(&format!("{wanted:?} on {}", worker.name()), Duration::from_mins(1), || {
        let backends = status(worker).backends;
        let found: Vec<_> = backends
            .iter()
            .map(|backend| (backend.name.as_str(), backend.state.as_str()))
            .collect();
        (found == wanted).then_some(())
    });
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
