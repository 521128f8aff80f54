//! The doubles of Kubernetes' programs, by themselves: a cluster of them stands, and what the real ones
//! would refuse they refuse.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use common::doubles::{self, has_files};
use common::machines::{Lab, Machine};
use common::{Outcome, outcome, report, wait_for};

const VERSION: &str = "v1.34.2";

const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn prepare(machine: &Machine, endpoint: &str) {
    doubles::install(machine, VERSION);
    machine.exec("sysctl -qw net.ipv4.ip_forward=1; systemctl start containerd");
    point(machine, endpoint);
}

/// Where the cluster's name leads to.
fn point(machine: &Machine, address: &str) {
    machine.exec(&format!("sed -i /api.test/d /etc/hosts; echo '{address} api.test' >>/etc/hosts"));
}

fn registration(machine: &Machine) -> String {
    format!(
        "nodeRegistration:\n  name: {}\n  criSocket: unix:///run/containerd/containerd.sock\n  \
         kubeletExtraArgs: [{{ name: node-ip, value: {} }}]\n",
        machine.name(),
        machine.address()
    )
}

fn init(machine: &Machine) {
    let text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\ncertificateKey: {KEY}\n\
         localAPIEndpoint: {{ advertiseAddress: {address} }}\n{registration}---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: {VERSION}\n\
         controlPlaneEndpoint: api.test:6443\napiServer: {{ certSANs: [localhost, 127.0.0.1] }}\n",
        address = machine.address(),
        registration = registration(machine)
    );
    machine.write("/root/init.yaml", text.as_bytes(), 0o600);
    machine.exec("kubeadm config validate --config /root/init.yaml");
    machine.exec("kubeadm init --config /root/init.yaml --upload-certs --skip-token-print");
}

/// `first` gives the token and the pin; `server` is asked for the facts.
fn join_file(machine: &Machine, first: &Machine, server: &str, control_plane: bool) {
    let token = first.exec("kubeadm token create --ttl 10m --description test");
    let pin = first.exec(
        "openssl x509 -in /etc/kubernetes/pki/ca.crt -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
    );
    let pin = pin.split(' ').next().unwrap();
    let mut text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\ndiscovery:\n  bootstrapToken:\n    token: {}\n    \
         apiServerEndpoint: {server}:6443\n    caCertHashes: [\"sha256:{pin}\"]\n{}",
        token.trim(),
        registration(machine)
    );
    if control_plane {
        let own = format!("{{ advertiseAddress: {} }}", machine.address());
        writeln!(text, "controlPlane: {{ certificateKey: {KEY}, localAPIEndpoint: {own} }}")
            .unwrap();
    }
    machine.write("/root/join.yaml", text.as_bytes(), 0o600);
}

fn kubectl(machine: &Machine, arguments: &str) -> String {
    machine.exec(&format!("kubectl --kubeconfig /etc/kubernetes/admin.conf {arguments}"))
}

/// Waits until these nodes, and no others, are ready.
fn wait_ready(machine: &Machine, nodes: &[&str], within: Duration) {
    let path = r#"jsonpath='{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'"#;
    let wanted: Vec<_> = nodes.iter().map(|node| format!("{node}=True")).collect();
    wait_for(&format!("{wanted:?}"), within, || {
        let found = machine.attempt(&format!(
            "kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o {path}"
        ));
        (found.stdout.split_whitespace().collect::<Vec<_>>() == wanted).then_some(())
    });
}

/// Runs the proxy on a worker, in front of these machines.
fn run_proxy(machine: &Machine, backends: &[&Machine]) {
    machine.push(&common::program(), "/usr/local/bin/apiproxy", 0o755);
    let backends: Vec<_> =
        backends.iter().map(|backend| format!("--backend {}:6443", backend.address())).collect();
    machine.write(
        "/etc/apiproxy/config.yaml",
        b"apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\nhealthCheck: { type: tcp }\n",
        0o644,
    );
    let line = format!(
        "/usr/local/bin/apiproxy run --config /etc/apiproxy/config.yaml --listen 127.0.0.1:6443 {}",
        backends.join(" ")
    );
    machine.exec(&format!("systemd-run --quiet --unit proxy {line}"));
    wait_for("the proxy listens", Duration::from_secs(10), || {
        let connected = machine.attempt("timeout 1 bash -c '</dev/tcp/127.0.0.1/6443'");
        (connected.code == Some(0)).then_some(())
    });
}

#[test]
fn a_cluster_of_doubles_stands() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let [first, second, worker] = lab.boot_all(["cp1", "cp2", "w1"]);
    let started = Instant::now();
    for machine in [&first, &worker] {
        prepare(machine, "127.0.0.1");
    }
    prepare(&second, &first.address().to_string());

    init(&first);
    assert!(has_files(
        &first,
        &[
            "/etc/kubernetes/pki/etcd/server.crt",
            "/etc/kubernetes/manifests/etcd.yaml",
            "/etc/kubernetes/super-admin.conf",
            "/var/lib/kubelet/config.yaml",
            "/var/lib/kubelet/kubeadm-flags.env",
        ]
    ));
    kubectl(&first, "get node cp1");
    let real = std::env::var_os("KUBEBUILDER_ASSETS").is_some();
    // No network for pods yet.
    assert!(real || kubectl(&first, "get nodes -o yaml").contains("KubeletNotReady"));
    let network = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: network, namespace: kube-system }\nspec:\n  \
        selector: { matchLabels: { a: b } }\n  template:\n    metadata: { labels: { a: b } }\n    \
        spec: { containers: [{ name: a, image: a }] }\n";
    first.write("/root/network.yaml", network.as_bytes(), 0o644);
    let differs =
        "kubectl --kubeconfig /etc/kubernetes/admin.conf diff --server-side -f /root/network.yaml";
    assert_eq!(first.attempt(differs).code, Some(1), "{:?}", first.attempt(differs));
    kubectl(&first, "apply --server-side --force-conflicts -f /root/network.yaml");
    assert_eq!(first.attempt(differs).code, Some(0), "{:?}", first.attempt(differs));

    join_file(&second, &first, &first.address().to_string(), true);
    second.exec("kubeadm join --config /root/join.yaml");
    point(&second, "127.0.0.1");
    assert_eq!(second.attempt("kubeadm join --config /root/join.yaml").code, Some(1));

    // The facts come from an apiserver; then everything goes through 127.0.0.1, where nobody is.
    join_file(&worker, &first, &first.address().to_string(), false);
    assert!(!has_files(&worker, &["/etc/kubernetes/kubelet.conf"]));
    run_proxy(&worker, &[&first, &second]);
    worker.exec("kubeadm join --config /root/join.yaml");
    wait_ready(&second, &["cp1", "cp2", "w1"], Duration::from_secs(30));
    report(&format!("a cluster of doubles in {:.1} s", started.elapsed().as_secs_f64()));

    // A node cannot do what an admin can.
    let node = "kubectl --kubeconfig /etc/kubernetes/kubelet.conf";
    assert!(
        worker.attempt(&format!("{node} get secrets -n kube-system")).stderr.contains("Forbidden")
    );
    worker.exec(&format!("{node} get node w1"));
    kubectl(&first, "cordon w1");
    kubectl(&first, "drain w1 --ignore-daemonsets --force");
    kubectl(&first, "delete node w1");
    worker.exec("kubeadm reset --force");
    assert!(!has_files(&worker, &["/etc/kubernetes/kubelet.conf"]));

    // The second one leaves: etcd has one member again.
    kubectl(&first, "delete node cp2");
    let told = second.exec("kubeadm reset --force");
    assert!(!told.contains("Failed"), "{told}");
    let members = "ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt \
        --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key member list";
    assert_eq!(first.exec(members).lines().count(), 1);
    wait_ready(&first, &["cp1"], Duration::from_secs(30));
}

/// What kubeadm says to a file, on this host.
fn validated(text: &str, version: &str) -> Outcome {
    let (folder, kubeadm) = doubles::here("kubeadm", version);
    let file = folder.path().join("file.yaml");
    std::fs::write(&file, text).unwrap();
    outcome(Command::new(kubeadm).args(["config", "validate", "--config"]).arg(file))
}

#[test]
fn the_double_of_kubeadm_refuses_what_is_not_documented() {
    let fine = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n";
    assert_eq!(validated(fine, "v1.34.2").code, Some(0), "{:?}", validated(fine, "v1.34.2"));
    for (line, complaint) in [
        ("controlPlaneEndpoint: \"https://a:6443\"", "is no HOST:PORT"),
        ("kubernetesVersion: v1.36.0", "does not deploy"),
        ("networking: { podSubnet: 10.244.0.0 }", "is no CIDR"),
        ("apiServer: { certSANs: [\"a b\"] }", "neither an address nor a name"),
        (
            "apiServer: { extraArgs: [{ name: no-such-flag, value: a }] }",
            "has no flag --no-such-flag",
        ),
        ("apiServer: { timeoutForControlPlane: 4m0s }", "unknown field"),
        ("featureGates: { NoSuchGate: true }", "unrecognized feature-gate"),
        (
            "etcd: { local: { dataDir: /a }, external: { endpoints: [\"https://a:1\"], caFile: a, certFile: a, keyFile: a } }",
            "exclude",
        ),
    ] {
        let refused = validated(&format!("{fine}{line}\n"), "v1.34.2");
        assert!(
            refused.code == Some(1) && refused.stderr.contains(complaint),
            "{line}: {refused:?}"
        );
    }
    assert!(validated(fine, "v1.30.1").stderr.contains("has no kind"));
    let join = "apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\ndiscovery: { bootstrapToken: { token: T, apiServerEndpoint: \"a:6443\", caCertHashes: [P] } }\n";
    let (token, pin) = ("abcdef.0123456789abcdef", format!("\"sha256:{KEY}\""));
    let with = |token: &str, pin: &str| {
        validated(
            &join.replace(" T,", &format!(" {token},")).replace("[P]", &format!("[{pin}]")),
            "v1.30.1",
        )
    };
    assert_eq!(with(token, &pin).code, Some(0), "{:?}", with(token, &pin));
    assert!(with("abcdef", &pin).stderr.contains("not of the form"));
    assert!(with(token, "sha256:00").stderr.contains("invalid hash"));
    assert!(with(token, "").stderr.contains("unsafe"));
}
