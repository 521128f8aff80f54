//! Whole clusters by `apiproxy bootstrap apply` on booted machines, without internet: stacked, and with
//! external etcd. kubeadm and kubelet are doubles, and so are the control plane's programs unless
//! `KUBEBUILDER_ASSETS` has them; systemd, sshd, containerd, etcd and the proxies are real.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;
#[path = "bootstrap_cluster/restored.rs"]
mod restored;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use apiproxy::admin::Status;
use common::doubles;
use common::machines::{Lab, Machine};
use common::operator::Operator;
use common::{report, run, wait_for};

/// Stacked: etcd is the control plane's.
const STACKED: &str = "v1.34.2";

/// External: Debian's etcd is 3.4, which kubeadm takes until 1.33.
const EXTERNAL: &str = "v1.33.4";

const ENDPOINT: &str = "apiserver.test.local";

/// Makes kubelet say that its pods have a network.
const NETWORK: &str = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: network, namespace: kube-system }\nspec:\n  \
    selector: { matchLabels: { a: b } }\n  template:\n    metadata: { labels: { a: b } }\n    \
    spec: { containers: [{ name: a, image: a }] }\n";

/// The folder that stands for the internet: programs of this version, and the released proxy.
fn collect_artifacts(operator: &Operator, version: &str, proxy: &Path) {
    let folder = operator.folder().join("artifacts");
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let programs = folder.join("kubernetes").join(version).join(arch);
    fs::create_dir_all(&programs).unwrap();
    for name in ["kubeadm", "kubelet"] {
        doubles::make(version, &programs.join(name));
    }
    common::copy_program(&Lab::kubectl(), &programs.join("kubectl"));
    common::copy_program(proxy, &folder.join(format!("apiproxy-linux-{arch}")));
    let sums = "find * -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS";
    run(Command::new("sh").args(["-euc", sums]).current_dir(&folder));
    fs::write(operator.folder().join("network.yaml"), NETWORK).unwrap();
}

fn write_spec(operator: &Operator, version: &str, more: &str, hosts: &[(&Machine, &str)]) {
    let is_external = hosts.iter().any(|(_, role)| *role == "etcd");
    let topology = if is_external { "external" } else { "stacked" };
    let mut spec = format!(
        "  kubernetesVersion: {version}\n  topology: {topology}\n  ssh: {{ user: root }}\n  \
         network: {{ cni: {{ manifest: ./network.yaml }} }}\n  \
         artifacts: {{ from: directory, path: ./artifacts }}\n{more}  hosts:\n"
    );
    for (machine, role) in hosts {
        let (name, address) = (machine.name(), machine.address());
        let zone = if *role == "worker" { ", zone: a" } else { "" };
        writeln!(spec, "    - {{ name: {name}, address: {address}, roles: [{role}]{zone} }}")
            .unwrap();
    }
    operator.write(&spec);
}

fn kubectl(machine: &Machine, arguments: &str) -> String {
    machine.exec(&format!("kubectl --kubeconfig /etc/kubernetes/admin.conf {arguments}"))
}

/// `NAME=True` for each node that is ready, `NAME=False` for others, as this control plane has it.
fn readiness(machine: &Machine) -> Vec<String> {
    let path = r#"jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'"#;
    let kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
    let found = machine.attempt(&format!("{kubectl} get nodes -o {path}"));
    found.stdout.split_whitespace().map(str::to_owned).collect()
}

/// Waits until these nodes are ready and no others are there.
fn wait_ready(machine: &Machine, nodes: &[&str]) {
    let wanted: Vec<_> = nodes.iter().map(|node| format!("{node}=True")).collect();
    wait_for(&format!("{wanted:?}"), Duration::from_mins(1), || {
        (readiness(machine) == wanted).then_some(())
    });
}

/// When these nodes last said that they live, as this control plane has it. It may have no answer while
/// etcd chooses another leader.
fn heartbeats(machine: &Machine, nodes: [&Machine; 2]) -> [String; 2] {
    nodes.map(|node| {
        let lease = format!("lease {} -n kube-node-lease", node.name());
        wait_for(&lease, Duration::from_secs(30), || {
            let path = "jsonpath='{.spec.renewTime}'";
            let kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf";
            let found = machine.attempt(&format!("{kubectl} get {lease} -o {path}"));
            (found.code == Some(0)).then_some(found.stdout)
        })
    })
}

fn status(worker: &Machine) -> Status {
    serde_json::from_str(&worker.attempt("apiproxy status -o json").stdout).unwrap()
}

/// How the worker's proxy sees each control plane.
fn wait_states(worker: &Machine, wanted: &[&str]) {
    wait_for(&format!("{wanted:?} on {}", worker.name()), Duration::from_mins(1), || {
        let backends = status(worker).backends;
        let found: Vec<_> = backends.iter().map(|backend| backend.state.as_str()).collect();
        (found == wanted).then_some(())
    });
}

/// Everything on a worker goes to the cluster through its own proxy, which is a static pod.
fn goes_through_its_proxy(worker: &Machine) {
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

#[test]
fn clusters_are_made_and_outlive_each_control_plane() {
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
    let machines = lab.boot_all(["cp1", "cp2", "cp3", "w1", "w2"]);
    let [cp1, cp2, cp3, w1, w2] = &machines;
    let control_planes = [cp1, cp2, cp3];
    for machine in control_planes {
        doubles::install_images(machine, STACKED);
    }
    let operator = Operator::new(lab);
    collect_artifacts(&operator, STACKED, proxy);
    let role = |machine: &&Machine| {
        if machine.name().starts_with('c') { "controlPlane" } else { "worker" }
    };
    let mut hosts: Vec<_> = machines.iter().map(|machine| (machine, role(&machine))).collect();
    let keys = restored::Keys::new();
    write_spec(&operator, STACKED, &keys.spec("w2"), &hosts);

    let (_, time) = operator.apply(&[]);
    report(&format!("3 stacked control planes and 2 workers in {:.1} s", time.as_secs_f64()));
    let time = operator.apply_again(&[]);
    report(&format!("nothing to do on 5 hosts in {:.1} s", time.as_secs_f64()));
    assert!(time < Duration::from_secs(20), "{time:?}");
    let all = ["cp1", "cp2", "cp3", "w1", "w2"];
    wait_ready(cp2, &all);
    let proxy = kubectl(cp1, "get configmap kube-proxy -n kube-system -o yaml");
    assert!(proxy.contains(&format!("server: https://{ENDPOINT}:6443")), "{proxy}");
    for worker in [w1, w2] {
        goes_through_its_proxy(worker);
    }

    for (at, machine) in control_planes.into_iter().enumerate() {
        let other = control_planes[(at + 1) % 3];
        let begun = Instant::now();
        machine.power_off();
        let dead = |which| if which == at { "dead" } else { "ready" };
        wait_states(w1, &[dead(0), dead(1), dead(2)]);
        // Both workers go on saying that they live, through their proxies.
        let since = heartbeats(other, [w1, w2]);
        wait_for("the workers are heard", Duration::from_mins(1), || {
            let now = heartbeats(other, [w1, w2]);
            (now.iter().zip(&since).all(|(now, since)| now > since)).then_some(())
        });
        let nodes = readiness(other);
        assert!(
            ["w1=True", "w2=True"].iter().all(|node| nodes.iter().any(|n| n == node)),
            "{nodes:?}"
        );
        let took = begun.elapsed().as_secs_f64();
        machine.power_on();
        wait_ready(machine, &all);
        wait_states(w1, &["ready"; 3]);
        report(&format!(
            "{}: off {took:.1} s, all well after {:.1} s",
            machine.name(),
            begun.elapsed().as_secs_f64()
        ));
    }
    operator.apply_again(&[]);
    let spares = lab.boot_all(["s1", "s2", "s3", "s4"]);
    for machine in &spares {
        doubles::install_images(machine, STACKED);
        hosts.push((machine, "spare"));
    }
    write_spec(&operator, STACKED, &keys.spec("w2"), &hosts);
    let planes = [cp1, cp2, cp3];
    restored::comes_back(&operator, &keys, planes, [w1, w2], spares.each_ref());
}

fn external(lab: &Lab, proxy: &Path) {
    let machines = lab.boot_all(["e1", "cp1", "cp2", "cp3", "w1"]);
    let [e1, cp1, cp2, cp3, w1] = &machines;
    for machine in [cp1, cp2, cp3] {
        doubles::install_images(machine, EXTERNAL);
    }
    let operator = Operator::new(lab);
    collect_artifacts(&operator, EXTERNAL, proxy);
    let role = |machine: &&Machine| match &machine.name()[..1] {
        "e" => "etcd",
        "c" => "controlPlane",
        _ => "worker",
    };
    let hosts: Vec<_> = machines.iter().map(|machine| (machine, role(&machine))).collect();
    write_spec(&operator, EXTERNAL, "", &hosts);
    let (_, time) = operator.apply(&[]);
    report(&format!("external etcd, 3 control planes and a worker in {:.1} s", time.as_secs_f64()));
    wait_ready(cp3, &["cp1", "cp2", "cp3", "w1"]);
    goes_through_its_proxy(w1);
    // etcd is where the file says, and nowhere else.
    e1.exec("systemctl is-active apiproxy-etcd.service");
    cp1.exec("! ls /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/pki/etcd/ca.key 2>/dev/null | grep .");
    assert!(
        cp2.exec("cat /etc/kubernetes/manifests/kube-apiserver.yaml")
            .contains(&format!("https://{}:2379", e1.address()))
    );
    operator.apply_again(&[]);
}
