//! A host for tests: it does what the commands of the steps do, and no more.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::bootstrap::transport::recording::When;
use crate::bootstrap::transport::{Command, Output};

/// What is so or not.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a model of facts that are so or not")]
struct Is {
    node: bool,
    swapping: bool,
    with_modules: bool,
    /// containerd.
    running: bool,
}

/// What of it is no file.
#[derive(Debug, Default)]
struct Model {
    is: Is,
    hostname: String,
    sysctls: BTreeMap<String, String>,
    packages: BTreeMap<String, String>,
    programs: BTreeMap<String, String>,
    held: BTreeSet<String>,
    enabled: BTreeSet<String>,
    images: BTreeSet<String>,
    restarts: usize,
    looks: usize,
}

/// A host that follows the commands of the steps.
pub(super) struct Machine {
    pub(super) transport: Arc<Recording>,
    model: Arc<Mutex<Model>>,
}

/// The whole names of packages that a package manager would bring, and their programs.
const BROUGHT: [(&str, &str, &str); 7] = [
    ("kubeadm", "kubeadm", "v1.34.2"),
    ("kubelet", "kubelet", "Kubernetes v1.34.2"),
    ("kubectl", "kubectl", "Client Version: v1.34.2"),
    ("containerd", "containerd", "containerd containerd.io 1.6.20~ds1"),
    ("runc", "runc", "runc version 1.1.5"),
    ("etcd-server", "etcd", "etcd Version: 3.5.30"),
    ("etcd-client", "etcdctl", ""),
];

fn ok(text: impl Into<Vec<u8>>) -> Output {
    Output { code: 0, stdout: text.into(), stderr: Vec::new() }
}

impl Machine {
    /// As Debian's installer leaves a machine.
    pub(super) fn fresh(cluster: &Cluster, name: &str) -> Self {
        let transport = Recording::new(name);
        let sysctls = render_host::sysctl(cluster).into_iter();
        let model = Arc::new(Mutex::new(Model {
            is: Is {
                node: crate::bootstrap::needs::is_node(cluster.host(name).unwrap()),
                swapping: true,
                ..Is::default()
            },
            hostname: "localhost".into(),
            sysctls: sysctls.map(|(name, _)| (name.to_owned(), "0".to_owned())).collect(),
            ..Model::default()
        }));
        transport.put(File::new(paths::ETC_HOSTS, "127.0.0.1 localhost\n"));
        let machine = Self { transport, model };
        machine.answers(cluster);
        machine
    }

    pub(super) fn looks(&self) -> usize {
        self.model.lock().unwrap().looks
    }

    pub(super) fn restarts(&self) -> usize {
        self.model.lock().unwrap().restarts
    }

    /// Answers commands that contain this, changing the model.
    fn does(
        &self,
        text: &str,
        act: impl Fn(&mut Model, &Recording, &[String]) -> Output + Send + Sync + 'static,
    ) {
        let model = Arc::clone(&self.model);
        self.transport.on(
            text,
            Answer::computed(move |transport, command: &Command| {
                let mut model = model.lock().unwrap_or_else(PoisonError::into_inner);
                act(&mut model, transport, &command.argv)
            }),
        );
    }

    fn answers(&self, cluster: &Cluster) {
        let modules: Vec<_> = render_host::modules(cluster);
        let tools = crate::bootstrap::needs::tools(cluster.kubernetes_version);
        let tools: Vec<_> = tools.into_iter().map(|(tool, _)| tool).collect();
        self.does("# How a host stands", move |model, transport, _| {
            model.looks += 1;
            ok(look(model, transport, &modules, &tools))
        });
        self.does("hostnamectl set-hostname", |model, _, argv| {
            model.hostname.clone_from(&argv[4]);
            ok("")
        });
        self.does("modprobe \"$module\"", |model, _, _| {
            model.is.with_modules = true;
            ok("")
        });
        self.does("the kernel does not take", |model, transport, argv| {
            let text = transport.text(&argv[4]).unwrap();
            let pairs = text.lines().filter_map(|line| line.split_once(" = "));
            model.sysctls.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            ok("")
        });
        self.does("swapoff -a", |model, _, _| {
            model.is.swapping = false;
            ok("")
        });
        self.packages();
        self.services();
    }

    fn packages(&self) {
        self.does("Release.key", |_, transport, _| {
            transport.put(File::new(packages::KEYRING, "key"));
            ok("")
        });
        self.does("mask --quiet etcd.service", |_, _, _| ok(""));
        self.does(" update", |_, _, _| ok(""));
        self.does("--no-install-recommends", |model, _, argv| {
            let packages = argv.iter().skip_while(|word| *word != "--allow-downgrades").skip(1);
            for request in packages {
                let (name, version) = request.split_once('=').unwrap_or((request, "1.0-1"));
                model.packages.insert(name.into(), version.replace('*', "1.1"));
            }
            for (package, program, says) in BROUGHT {
                if model.packages.contains_key(package) {
                    model
                        .programs
                        .insert(program.into(), format!("/usr/bin/{program} {package} {says}"));
                }
            }
            ok("")
        });
        self.does("apt-mark hold", |model, _, argv| {
            model.held.extend(argv.iter().skip(2).cloned());
            ok("")
        });
        self.does("--force-confold -i", |model, _, argv| {
            let name = argv.last().unwrap().rsplit('/').next().unwrap();
            model.packages.insert(name.split('_').next().unwrap().into(), "1.7".into());
            ok("")
        });
        self.does("unpack.XXXXXX", |model, transport, argv| {
            let (path, name, sum) = (&argv[4], &argv[5], &argv[6]);
            assert!(transport.file(path).is_some(), "{path} was brought");
            transport.put(File::new(format!("{MARKS}/{name}"), format!("{sum}\n")));
            let says = if name == "containerd" { "containerd containerd.io v2.1.4" } else { "" };
            if name == "cni-plugins" {
                transport.put(File::new(programs::LOOPBACK, "plugin").mode(0o755));
            } else {
                model.programs.insert(name.clone(), format!("/usr/local/bin/{name} - {says}"));
            }
            ok("")
        });
    }

    fn services(&self) {
        self.does("restart containerd.service", |model, transport, argv| {
            let [how, marks, name, sum] = &argv[4..] else { panic!("{argv:?}") };
            model.enabled.insert("containerd.service".into());
            if how == "restart" {
                model.restarts += 1;
                model.is.running = true;
                transport.put(File::new(format!("{marks}/{name}"), format!("{sum}\n")));
            }
            ok("")
        });
        self.does("enable --quiet kubelet.service", |model, transport, argv| {
            model.enabled.insert("kubelet.service".into());
            for path in &argv[4..] {
                transport.remove(path);
            }
            ok("")
        });
        self.does("images import", |model, transport, argv| {
            let archive = transport.file(&argv[4]).unwrap().content;
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.tar");
            fs::write(&path, archive).unwrap();
            model.images.extend(crate::bootstrap::artifacts::names_in_archive(&path).unwrap());
            ok("")
        });
        self.does("config images list", |_, _, _| ok("---\n"));
        let version = When::is(|command: &Command| command.argv[1..] == ["--version"]);
        self.transport.on(version, Answer::ok("apiproxy 0.1.0\n"));
    }
}

/// What the script would write there.
fn look(model: &Model, transport: &Recording, modules: &[&str], tools: &[&str]) -> String {
    let mut lines = vec![format!("hostname {}", model.hostname), "arch x86_64".into()];
    if transport.file("/etc/kubernetes/kubelet.conf").is_some() {
        lines.push("file /etc/kubernetes/kubelet.conf".into());
    }
    if model.is.swapping {
        lines.extend(["swap /dev/sda2".into(), "fstab /dev/sda2".into()]);
    }
    if model.is.node {
        let state = if model.is.with_modules { "loaded" } else { "available" };
        lines.extend(modules.iter().map(|name| format!("module {name} {state}")));
        lines.extend(model.sysctls.iter().map(|(name, value)| format!("sysctl {name} {value}")));
        lines.extend(tools.iter().map(|tool| format!("program {tool} /usr/bin/{tool} - ")));
    }
    for path in transport.paths() {
        let found = transport.file(&path).unwrap();
        let (user, group) = &found.owner;
        if let Some(mark) =
            path.strip_prefix(&format!("{MARKS}/")).filter(|mark| !mark.contains('/'))
        {
            lines.push(format!("mark {mark} {}", String::from_utf8_lossy(&found.content).trim()));
        } else if path.starts_with("/etc/") {
            let content = STANDARD.encode(&found.content);
            lines.push(format!("content {path} {:o} {user} {group} {content}", found.mode));
        } else if found.mode == 0o755 {
            lines.push(format!("sum {path} {}", sha256_hex(&found.content)));
            let name = path.rsplit('/').next().unwrap();
            lines.push(format!("program {name} {path} - v1.34.2"));
        }
    }
    lines.extend(model.programs.iter().map(|(name, rest)| format!("program {name} {rest}")));
    lines.extend(model.packages.iter().map(|(name, version)| format!("package {name} {version}")));
    lines.extend(model.held.iter().map(|name| format!("held {name}")));
    for unit in ["containerd.service", "kubelet.service"] {
        let active = if model.is.running { "active" } else { "inactive" };
        let enabled = if model.enabled.contains(unit) { "enabled" } else { "disabled" };
        lines.push(format!("unit {unit} loaded {active} {enabled} "));
    }
    lines.extend(model.images.iter().map(|image| format!("image {image}")));
    lines.push("end".into());
    lines.join("\n") + "\n"
}
