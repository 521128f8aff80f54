//! A cluster of booted machines and its operator, who has everything in a folder instead of the internet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::machines::{Lab, Machine};
use crate::common::operator::Operator;
use crate::common::{Outcome, copy_program, doubles, report, run};

/// Makes kubelet say that its pods have a network.
const NETWORK: &str = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: network, namespace: kube-system }\nspec:\n  \
    selector: { matchLabels: { a: b } }\n  template:\n    metadata: { labels: { a: b } }\n    \
    spec: { containers: [{ name: a, image: a }] }\n";

/// A cluster that is to be made.
pub(crate) struct Case {
    pub(crate) operator: Operator,
    machines: BTreeMap<&'static str, Machine>,
}

/// The part that a machine has by its name: `cp1`, `e1`, `w1`, and `s1` as a spare.
fn role(name: &str) -> &'static str {
    match &name[..1] {
        "c" => "controlPlane",
        "e" => "etcd",
        "w" => "worker",
        _ => "spare",
    }
}

impl Case {
    /// Boots the machines and writes the file of their cluster.
    pub(crate) fn new<const N: usize>(
        lab: &Lab,
        version: &str,
        proxy: &Path,
        names: [&'static str; N],
    ) -> Self {
        let machines = lab.boot_all(names);
        let case = Self {
            operator: Operator::new(lab),
            machines: names.into_iter().zip(machines).collect(),
        };
        for machine in case.machines.values().filter(|machine| is_plane(machine.name())) {
            doubles::install_images(machine, version);
        }
        case.collect(version);
        let folder = case.folder();
        copy_program(proxy, &folder.join(format!("apiproxy-linux-{}", arch())));
        case.sum();
        fs::write(case.operator.folder().join("network.yaml"), NETWORK).unwrap();
        case.write(version, &names);
        case
    }

    /// The folder that stands for the internet.
    fn folder(&self) -> PathBuf {
        self.operator.folder().join("artifacts")
    }

    /// Puts the programs of a version into it.
    fn collect(&self, version: &str) {
        let programs = self.folder().join("kubernetes").join(version).join(arch());
        fs::create_dir_all(&programs).unwrap();
        for name in ["kubeadm", "kubelet"] {
            doubles::make(version, &programs.join(name));
        }
        copy_program(&Lab::kubectl(), &programs.join("kubectl"));
    }

    fn sum(&self) {
        let sums = "find * -type f ! -name SHA256SUMS -exec sha256sum {} + >SHA256SUMS";
        run(Command::new("sh").args(["-euc", sums]).current_dir(self.folder()));
    }

    /// Puts another version there, and beside what stands for the images of the first.
    pub(crate) fn offer(&self, version: &str) {
        self.collect(version);
        self.sum();
        for machine in self.machines.values().filter(|machine| is_plane(machine.name())) {
            doubles::install_images_of(machine, version);
        }
    }

    fn write(&self, version: &str, names: &[&str]) {
        let external = names.iter().any(|name| role(name) == "etcd");
        let topology = if external { "external" } else { "stacked" };
        let mut spec = format!(
            "  kubernetesVersion: {version}\n  topology: {topology}\n  ssh: {{ user: root }}\n  \
             network: {{ cni: {{ manifest: ./network.yaml }} }}\n  \
             artifacts: {{ from: directory, path: ./artifacts }}\n  hosts:\n"
        );
        for name in names {
            writeln!(spec, "{}", self.line(name, role(name))).unwrap();
        }
        self.operator.write(&spec);
    }

    /// Puts more lines into the file, before its hosts.
    pub(crate) fn say(&self, more: &str) {
        let text = self.text().replace("  hosts:\n", &format!("{more}  hosts:\n"));
        fs::write(self.operator.folder().join("cluster.yaml"), text).unwrap();
    }

    /// The line of a machine in the cluster file.
    fn line(&self, name: &str, role: &str) -> String {
        let address = self.machine(name).address();
        let zone = if role == "worker" { ", zone: a" } else { "" };
        format!("    - {{ name: {name}, address: {address}, roles: [{role}]{zone} }}")
    }

    /// Puts a machine into the file that is not in it, with any role.
    pub(crate) fn put_in(&self, name: &str, role: &str) {
        let text = self.text() + &self.line(name, role) + "\n";
        fs::write(self.operator.folder().join("cluster.yaml"), text).unwrap();
    }

    /// The cluster file.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.operator.folder().join("cluster.yaml")).unwrap()
    }

    /// Takes hosts out of the file.
    pub(crate) fn leave_out(&self, names: &[&str]) {
        let is_one = |line: &&str| {
            let name =
                line.trim().strip_prefix("- { name: ").and_then(|rest| rest.split(',').next());
            name.is_some_and(|name| names.contains(&name))
        };
        let text = self.text();
        let (gone, rest): (Vec<_>, Vec<_>) = text.lines().partition(is_one);
        assert_eq!(gone.len(), names.len(), "{text}");
        fs::write(self.operator.folder().join("cluster.yaml"), rest.join("\n") + "\n").unwrap();
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        &self.machines[name]
    }

    pub(crate) fn machines<const N: usize>(&self, names: [&str; N]) -> [&Machine; N] {
        names.map(|name| self.machine(name))
    }

    /// The machine is gone, with all that is on it.
    pub(crate) fn destroy(&mut self, name: &str) {
        self.machines.remove(name).unwrap().destroy();
    }

    /// A command of the operator that succeeds; how long it takes is told.
    #[track_caller]
    pub(crate) fn done(&self, words: &[&str]) -> Outcome {
        let begun = Instant::now();
        let outcome = self.operator.run(words);
        assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
        report(&format!("{} in {:.1} s", words.join(" "), begun.elapsed().as_secs_f64()));
        outcome
    }

    /// The same of one that finds nothing to do.
    #[track_caller]
    pub(crate) fn idle(&self, words: &[&str]) -> Duration {
        let begun = Instant::now();
        let outcome = self.operator.run(words);
        assert_eq!(outcome.code, Some(0), "{}\n{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stdout.starts_with("Nothing to do: "), "{outcome:?}");
        begun.elapsed()
    }
}

/// Control planes, and spares, which may become some.
fn is_plane(name: &str) -> bool {
    matches!(role(name), "controlPlane" | "spare")
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
