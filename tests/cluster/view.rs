//! How a cluster is seen from its hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use apiproxy::admin::Status;
use serde_json::Value;

use crate::common::machines::Machine;
use crate::common::wait_for;

/// How long what happens by itself may take beside much else.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for a fact that is not looked at without cost: a machine is left some time to come to it.
fn wait_until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    wait_for(what, PATIENCE, || {
        let found = fact();
        if found.is_none() {
            std::thread::sleep(Duration::from_millis(250));
        }
        found
    })
}

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
    wait_until(&format!("{wanted:?}"), || (readiness(machine) == wanted).then_some(()));
}

/// When these nodes last said that they live, as this control plane has it. It may have no answer while
/// etcd chooses another leader.
fn heartbeats(machine: &Machine, nodes: &[&Machine]) -> Vec<String> {
    let path = "jsonpath='{range .items[*]}{.metadata.name}={.spec.renewTime} {end}'";
    let get = format!("{KUBECTL} get leases -n kube-node-lease -o {path}");
    wait_until("the leases of all nodes", || {
        let found = machine.attempt(&get);
        let beats: BTreeMap<_, _> =
            found.stdout.split_whitespace().filter_map(|beat| beat.split_once('=')).collect();
        nodes.iter().map(|node| beats.get(node.name()).map(|beat| (*beat).to_owned())).collect()
    })
}

/// From now on nobody on a worker but its proxy reaches an apiserver of another host.
const FENCE: &str = "nft add table inet fence
    nft add chain inet fence out '{ type filter hook output priority 0; }'
    nft add rule inet fence out oif != lo meta skuid != 65532 tcp dport 6443 reject with tcp reset";

/// These workers go on saying that they live, through their own proxies, and are ready, as this control
/// plane has it.
pub(crate) fn are_heard(machine: &Machine, workers: &[&Machine]) {
    for worker in workers {
        worker.exec(FENCE);
    }
    let since = heartbeats(machine, workers);
    wait_until("the workers are heard", || {
        let now = heartbeats(machine, workers);
        now.iter().zip(&since).all(|(now, since)| now > since).then_some(())
    });
    let nodes = readiness(machine);
    for worker in workers {
        assert!(nodes.contains(&format!("{}=True", worker.name())), "{nodes:?}");
        worker.exec("nft delete table inet fence");
    }
}

fn status(worker: &Machine) -> Status {
    serde_json::from_str(&worker.attempt("apiproxy status -o json").stdout).unwrap()
}

/// The control planes in the file of the worker's proxy.
fn configured(worker: &Machine) -> Vec<String> {
    let text = worker.exec("cat /etc/apiproxy/config.yaml");
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let names = file["backends"].as_array().unwrap().iter().map(|backend| &backend["name"]);
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The workers' proxies have these control planes in their files, and see them so, in the order of the
/// cluster file.
#[track_caller]
pub(crate) fn are_listed(workers: &[&Machine], wanted: &[(&str, &str)]) {
    for worker in workers {
        let names: Vec<_> = wanted.iter().map(|(name, _)| *name).collect();
        assert_eq!(configured(worker), names, "on {}", worker.name());
        wait_until(&format!("{wanted:?} on {}", worker.name()), || {
            let backends = status(worker).backends;
            let found: Vec<_> = backends
                .iter()
                .map(|backend| (backend.name.as_str(), backend.state.as_str()))
                .collect();
            (found == wanted).then_some(())
        });
    }
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
    wait_until("its proxy carries something", || {
        let backends = self::status(worker).backends;
        backends.iter().any(|backend| backend.connections_total > 0).then_some(())
    });
}
