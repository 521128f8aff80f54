//! Doubles of the programs of Kubernetes, put on machines or into folders of artifacts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::copy_program;
use super::machines::{Lab, Machine};

/// The programs of static pods.
const IMAGES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"];

/// As the packages of Kubernetes have them.
const UNIT: &str = "[Unit]\nDescription=kubelet\nWants=network-online.target\nAfter=network-online.target\n\
    [Service]\nExecStart=/usr/bin/kubelet\nRestart=always\nStartLimitInterval=0\nRestartSec=1\n\
    [Install]\nWantedBy=multi-user.target\n";
const DROP_IN: &str = r#"[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

/// The program. It is built here, once for each run, because `cargo test` builds an example that has
/// tests of its own only for those.
fn program() -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().unwrap();
        let target = own.ancestors().find(|folder| folder.ends_with("deps"));
        let target = target.unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["build", "--quiet", "--locked", "--example", "double", "--target-dir"]);
        assert!(cargo.arg(target.parent().unwrap()).status().unwrap().success());
        // It goes to many machines: without its tables it is a fourth as large.
        let (whole, small) = (target.join("examples/double"), target.join("examples/double-small"));
        let own = small.with_extension(std::process::id().to_string());
        let stripped = Command::new("strip").arg("-o").arg(&own).arg(&whole).status();
        if !stripped.is_ok_and(|status| status.success()) {
            return whole;
        }
        // At a stroke: other tests may be at it as well.
        std::fs::rename(own, &small).unwrap();
        small
    });
    BUILT.clone()
}

/// Makes a double that claims a version, such as `v1.34.2`; its name says which program it stands for.
pub fn make(version: &str, path: &Path) {
    copy_program(&program(), path);
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    // As tests/doubles/version.rs reads it.
    writeln!(file, "\ndouble-of-version {version}").unwrap();
}

/// Puts kubeadm, kubelet and kubectl of a version on a machine, as packages do, and what stands for the
/// programs of images.
pub fn install(machine: &Machine, version: &str) {
    install_images(machine, version);
    for name in ["kubeadm", "kubelet"] {
        machine.exec(&format!("cp /usr/local/lib/doubles/double /usr/bin/{name}"));
    }
    machine.push(&Lab::kubectl(), "/usr/bin/kubectl", 0o755);
    machine.write("/etc/systemd/system/kubelet.service", UNIT.as_bytes(), 0o644);
    machine.write(
        "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
        DROP_IN.as_bytes(),
        0o644,
    );
    machine.exec("systemctl daemon-reload; systemctl enable --quiet kubelet");
}

/// The folder of real programs of a control plane, if all of them are there.
fn assets() -> Option<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    assets.filter(|folder| IMAGES.iter().all(|name| folder.join(name).is_file()))
}

/// Puts another etcd with its tools in the place of the machine's, if all of them are in
/// `KUBEBUILDER_ASSETS`.
pub fn install_etcd(machine: &Machine) {
    const NAMES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];
    let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else { return };
    if NAMES.iter().all(|name| folder.join(name).is_file()) {
        for name in NAMES {
            machine.push(&folder.join(name), &format!("/usr/bin/{name}"), 0o755);
        }
    }
}

/// Are the programs of images real ones?
pub fn are_real() -> bool {
    assets().is_some()
}

/// Puts on a machine what the double of kubelet runs in the place of a control plane's images: the real
/// ones of `KUBEBUILDER_ASSETS` if all of them are there. (etcd is always real: Debian's otherwise.)
pub fn install_images(machine: &Machine, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let double = folder.path().join("double");
    make(version, &double);
    machine.push(&double, "/usr/local/lib/doubles/double", 0o755);
    for name in IMAGES {
        let target = format!("/usr/local/lib/doubles/{name}");
        match assets() {
            Some(folder) => machine.push(&folder.join(name), &target, 0o755),
            None if name == "etcd" => {}
            None => drop(machine.exec(&format!("ln -f /usr/local/lib/doubles/double {target}"))),
        }
    }
}

/// Puts doubles of another version beside them, for when `kubeadm upgrade` has written its images.
pub fn install_images_of(machine: &Machine, version: &str) {
    let folder = tempfile::tempdir().unwrap();
    let double = folder.path().join("double");
    make(version, &double);
    let programs = format!("/usr/local/lib/doubles/{version}");
    machine.push(&double, &format!("{programs}/double"), 0o755);
    for name in IMAGES.into_iter().filter(|name| *name != "etcd") {
        machine.exec(&format!("ln {programs}/double {programs}/{name}"));
    }
}

/// Is every file there?
pub fn has_files(machine: &Machine, files: &[&str]) -> bool {
    files.iter().all(|file| machine.attempt(&format!("test -s '{file}'")).code == Some(0))
}

/// The doubles' program, to run on this host under a name.
pub fn here(name: &str, version: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    make(version, &path);
    (folder, path)
}
