//! What `manifest static-pod --from-*` prints is run on a worker's folders: there, and back again.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use apiproxy::demo::ApiServer;
use common::{Cluster, apiproxy, free_port, has_program, outcome, program};

/// A worker's /etc, and programs that stand in for those of the node.
struct Worker {
    folder: tempfile::TempDir,
}

impl Worker {
    fn new(cluster: &Cluster) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["etc/kubernetes/manifests", "etc/kubernetes/pki", "bin"] {
            fs::create_dir_all(this.at(folder)).unwrap();
        }
        fs::copy(cluster.ca_file(), this.at("etc/kubernetes/pki/ca.crt")).unwrap();
        std::os::unix::fs::symlink(program(), this.at("bin/apiproxy")).unwrap();
        this
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// A program that does this.
    fn fake(&self, name: &str, script: &str) {
        let file = self.at("bin").join(name);
        let _ = fs::remove_file(&file);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a printed line, in this folder instead of `/`.
    fn sh(&self, line: &str) {
        let root = self.folder.path().to_str().unwrap();
        let line = line.replace(root, "").replace("/etc/", &format!("{root}/etc/"));
        let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
        let outcome = outcome(Command::new("sh").args(["-c", &line]).env("PATH", path));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

/// The swap and the way back, as printed.
fn lines(flag: &str, file: &Path) -> (String, String) {
    let printed = apiproxy(&["manifest", "static-pod", flag, file.to_str().unwrap()]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let after = |title: &str| {
        let (_, rest) = printed.stdout.split_once(title).unwrap();
        rest.lines().nth(1).unwrap().trim_start_matches(['#', ' ']).to_owned()
    };
    (after("# Swap:"), after("# The way back:"))
}

/// Swaps in and out while something listens on the port for a while, as the old proxy does.
fn swaps(flag: &str, file: &str, text: impl Fn(&str, &[SocketAddr]) -> String, old: &str) {
    if !has_program("ss") {
        skip!("there is no ss; install iproute2");
    }
    let cluster = Cluster::new(3);
    let worker = Worker::new(&cluster);
    let listen = format!("127.0.0.1:{}", free_port());
    let servers: Vec<_> = cluster.servers.iter().map(ApiServer::address).collect();
    let file = worker.at(file);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text(&listen, &servers)).unwrap();
    fs::write(worker.at(old), "the old pod").unwrap();
    let (swap, back) = lines(flag, &file);
    let busy = TcpListener::bind(&listen).unwrap();
    let started = Instant::now();
    let freed = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        drop(busy);
    });
    worker.sh(&swap);
    freed.join().unwrap();
    assert!(started.elapsed() >= Duration::from_millis(1500), "it did not wait for the port");
    let config = worker.read("etc/apiproxy/config.yaml");
    assert!(config.contains(&format!("listen: [\"{listen}\"]")), "{config}");
    for server in &servers {
        assert!(config.contains(&format!("address: \"{server}\"")), "{config}");
    }
    let pod = worker.read("etc/kubernetes/manifests/apiproxy.yaml");
    assert!(pod.contains("kind: Pod") && pod.contains("priority: 2000001000"), "{pod}");
    assert!(pod.contains("etc/apiproxy/config.yaml"), "{pod}");
    assert!(!worker.at(old).exists());
    worker.sh(&back);
    assert_eq!(worker.read(old), "the old pod");
    assert!(!worker.at("etc/kubernetes/manifests/apiproxy.yaml").exists());
}

#[test]
fn the_haproxy_of_kubekey_is_swapped_and_back() {
    let text = |listen: &str, servers: &[SocketAddr]| {
        let server = |(n, at): (usize, &SocketAddr)| {
            format!("  server cp{n} {at} check check-ssl verify none\n")
        };
        let servers: Vec<_> = servers.iter().enumerate().map(server).collect();
        format!(
            "defaults\n  mode http\nfrontend api\n  bind {listen}\n  mode tcp\n  default_backend api\n\
             backend api\n  mode tcp\n  balance leastconn\n{}",
            servers.concat()
        )
    };
    swaps(
        "--from-haproxy",
        "etc/kubekey/haproxy/haproxy.cfg",
        text,
        "etc/kubernetes/manifests/haproxy.yaml",
    );
}

#[test]
fn the_nginx_of_kubespray_is_swapped_and_back() {
    let text = |listen: &str, servers: &[SocketAddr]| {
        let servers: Vec<_> = servers.iter().map(|at| format!("    server {at};\n")).collect();
        format!(
            "stream {{\n  upstream api {{\n    least_conn;\n{}  }}\n  server {{\n    listen {listen};\n    \
             proxy_pass api;\n  }}\n}}\n",
            servers.concat()
        )
    };
    swaps("--from-nginx", "etc/nginx/nginx.conf", text, "etc/kubernetes/manifests/nginx-proxy.yml");
}

#[test]
fn kubelet_is_pointed_at_the_proxy_and_back() {
    let cluster = Cluster::new(1);
    let worker = Worker::new(&cluster);
    let text = |server: &str| {
        format!(
            "kind: Config\nclusters:\n- name: c\n  cluster:\n    server: {server}\n    tls-server-name: x\n"
        )
    };
    // No such server answers in a test: `check` says yes, everything else is the program's own.
    let real = program();
    worker.fake("apiproxy", &format!("[ \"$1\" = check ] || exec {} \"$@\"", real.display()));
    worker.fake("curl", "exit 0");
    worker.fake("systemctl", "echo \"$@\" >> \"$(dirname \"$0\")/../systemctl.log\"");
    for server in ["https://10.0.0.1:6443", "\"https://[fd00::1]:6443\"", "https://cp.example.com"]
    {
        let file = worker.at("etc/kubernetes/kubelet.conf");
        fs::write(&file, text(server)).unwrap();
        let (swap, back) = lines("--from-kubeconfig", &file);
        worker.sh(&swap);
        let quote = if server.starts_with('"') { "\"" } else { "" };
        let local = format!("{quote}https://127.0.0.1:6443{quote}");
        assert_eq!(worker.read("etc/kubernetes/kubelet.conf"), text(&local));
        assert!(worker.read("etc/kubernetes/manifests/apiproxy.yaml").contains("kind: Pod"));
        worker.sh(&back);
        assert_eq!(worker.read("etc/kubernetes/kubelet.conf"), text(server));
        assert!(!worker.at("etc/kubernetes/manifests/apiproxy.yaml").exists());
    }
    assert_eq!(worker.read("systemctl.log"), "restart kubelet\n".repeat(6));
}

#[test]
fn what_cannot_be_replaced_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    let path = file.to_str().unwrap();
    let pod = |arguments: &[&str]| apiproxy(&[&["manifest", "static-pod"], arguments].concat());
    fs::write(&file, "frontend a\n  mode tcp\n  bind :1\n  use_backend b if x\n").unwrap();
    pod(&["--from-haproxy", path]).refused(2, &format!("{path}:4: `use_backend` chooses by rules"));
    pod(&["--from-nginx", path]).refused(2, &format!("{path}:1: no `;` after `frontend`"));
    pod(&["--from-kubeconfig", "/nowhere"]).refused(2, "--from-kubeconfig: /nowhere: No such file");
    pod(&["--from-nginx", "/dev/zero"]).refused(2, "it is no file of at most");
    pod(&["--from-nginx", "/tmp"]).refused(2, "it is no file of at most");
    pod(&["--from-nginx", path, "--from-haproxy", path]).refused(2, "cannot be used with");
    pod(&["--from-nginx", path, "-b", "a:1"]).refused(2, "cannot be used with");
    pod(&["--section", "x"]).refused(2, "required arguments");
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    pod(&["--from-haproxy", path]).refused(2, "valid UTF-8");
}
