//! Real etcd members on the loopback address, each with the settings of its host, and a host that takes
//! copies: a real sshd whose key allows nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use apiproxy::bootstrap::backup::{EtcdAccess, Settings, SshAccess, Target, Wanted};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::sshd::Server;
use crate::common::{
    Outcome, Running, command, free_port, has_program, outcome_within, program, run, wait_for,
};

/// Once in a year: no slot begins while a test runs, whenever that is. It begins in winter, and by then
/// the members remember another one.
pub(crate) const YEARLY: &str = "0 0 1 1 *";

/// How long a backup with its copies may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why there can be no etcd here, if there can be none.
pub(crate) fn obstacle() -> Option<String> {
    let missing = ["etcd", "etcdctl", "setpriv", "ssh"].into_iter().find(|name| !has_program(name));
    missing.map(|program| format!("there is no {program}"))
}

/// An etcd member and the host that it is on.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    process: Option<Running>,
}

/// A cluster of etcd.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) members: Vec<Member>,
}

impl Rig {
    /// Starts so many members and waits until they have a leader.
    pub(crate) fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = || format!("http://127.0.0.1:{}", free_port());
        let all: Vec<_> = (1..=count).map(|number| (format!("e{number}"), url(), url())).collect();
        let initial: Vec<_> = all.iter().map(|(name, _, peer)| format!("{name}={peer}")).collect();
        let start = |(name, client, peer): &(String, String, String)| {
            let log = fs::File::create(folder.path().join(format!("{name}.log"))).unwrap();
            let child = Command::new("etcd")
                .arg("--data-dir")
                .arg(folder.path().join(name))
                .args(["--name", name, "--initial-cluster", &initial.join(",")])
                .args(["--listen-client-urls", client, "--advertise-client-urls", client])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap();
            let process = Some(Running(child));
            Member { name: name.clone(), endpoint: client.clone(), process }
        };
        let members = all.iter().map(start).collect();
        let rig = Self { folder, members };
        for at in 0..count {
            wait_for("etcd is healthy", Duration::from_secs(30), || {
                rig.etcdctl_of(at, &["endpoint", "health"]).status.success().then_some(())
            });
        }
        rig
    }

    fn etcdctl_of(&self, at: usize, words: &[&str]) -> std::process::Output {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").stdin(Stdio::null());
        command.arg(format!("--endpoints={}", self.members[at].endpoint));
        command.args(words).output().unwrap()
    }

    /// What etcdctl says at the first member.
    pub(crate) fn etcdctl(&self, words: &[&str]) -> String {
        let output = self.etcdctl_of(0, words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes so many keys below a prefix.
    pub(crate) fn fill(&self, prefix: &str, count: usize) {
        for start in (0..count).step_by(100) {
            let puts = (start..count.min(start + 100))
                .map(|number| format!("put {prefix}{number} value-{number}\n"));
            let text = format!("\n{}\n\n", puts.collect::<String>());
            let file = self.folder.path().join("txn");
            fs::write(&file, text).unwrap();
            let endpoint = format!("--endpoints={}", self.members[0].endpoint);
            let mut txn = Command::new("etcdctl");
            txn.env("ETCDCTL_API", "3").args([&endpoint, "txn"]);
            let output = txn.stdin(fs::File::open(&file).unwrap()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
    }

    /// Takes a member away, as a loss of power does.
    pub(crate) fn kill(&mut self, name: &str) {
        let member = self.members.iter_mut().find(|member| member.name == name);
        member.unwrap().process = None;
    }

    /// The folder of backups of a member's host.
    pub(crate) fn depot(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}-backups"))
    }

    /// The settings of a member's host, with two files of a cluster.
    pub(crate) fn settings(&self, at: usize) -> Settings {
        let Member { name, endpoint, .. } = &self.members[at];
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("sa.key"), "the key of service accounts").unwrap();
        fs::write(path("cluster.yaml"), "kind: Cluster\n").unwrap();
        let wanted = |file: &str| Wanted { path: file.into(), file: path(file), required: true };
        Settings {
            cluster: "prod".to_owned(),
            host: name.clone(),
            kubernetes_version: "v1.34.2".to_owned(),
            etcd: EtcdAccess {
                endpoint: endpoint.clone(),
                ca_file: path("none"),
                cert_file: path("none"),
                key_file: path("none"),
            },
            schedule: YEARLY.to_owned(),
            keep: 3,
            directory: self.depot(name),
            recipients: vec![],
            copy_to: vec![],
            ssh: SshAccess {
                user: "root".to_owned(),
                identity_file: path("none"),
                known_hosts_file: path("none"),
            },
            s3: None,
            files: vec![wanted("sa.key"), wanted("cluster.yaml")],
            textfile: path(&format!("{name}.prom")),
            journal: path(&format!("{name}.journal")),
        }
    }

    /// Writes the settings of a host.
    pub(crate) fn write(&self, settings: &Settings) -> PathBuf {
        let path = self.folder.path().join(format!("{}.json", settings.host));
        fs::write(&path, serde_json::to_string(settings).unwrap()).unwrap();
        path
    }

    /// A run of the timer or, with `--now`, of somebody.
    pub(crate) fn backup_command(&self, settings: &Settings, more: &[&str]) -> Command {
        let config = self.write(settings);
        let mut backup = command(&["bootstrap", "etcd", "backup", "--local", "-o", "json"]);
        backup.arg("--config").arg(config).args(more);
        backup
    }

    /// Takes a backup now.
    pub(crate) fn backup(&self, settings: &Settings) -> Outcome {
        outcome_within(&mut self.backup_command(settings, &["--now"]), PATIENCE)
    }

    /// The same, which must go well; what it says.
    pub(crate) fn well(&self, settings: &Settings) -> Value {
        let outcome = self.backup(settings);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        serde_json::from_str(&outcome.stdout).unwrap()
    }
}

/// The name of a backup that was taken.
pub(crate) fn name_of(document: &Value) -> String {
    document["taken"]["label"]["manifest"]["name"].as_str().unwrap().to_owned()
}

/// A bundle in a folder.
pub(crate) fn bundle(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.tar"))
}

/// What lies in a folder, read and compared: name and fault, the newest first.
pub(crate) fn inventory(folder: &Path) -> Vec<(String, Option<String>)> {
    let mut list = command(&["bootstrap", "etcd", "inventory", "--examine", "--directory"]);
    let outcome = outcome_within(list.arg(folder), PATIENCE);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let all: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let one = |stored: &Value| {
        let name = stored["name"].as_str().unwrap().to_owned();
        (name, stored["fault"].as_str().map(str::to_owned))
    };
    all.iter().map(one).collect()
}

/// A drill with a backup of a folder.
pub(crate) fn drill_command(folder: &Path, more: &[&str]) -> Command {
    let mut drill = command(&["bootstrap", "etcd", "drill", "--local", "-o", "json"]);
    drill.arg("--directory").arg(folder).args(more);
    drill
}

/// The same, to its end.
pub(crate) fn drill(folder: &Path, more: &[&str]) -> Outcome {
    outcome_within(&mut drill_command(folder, more), PATIENCE)
}

/// One metric of a host.
pub(crate) fn metric(settings: &Settings, name: &str) -> Option<String> {
    let text = fs::read_to_string(&settings.textfile).unwrap();
    let line =
        text.lines().find(|line| line.starts_with(&format!("apiproxy_etcd_backup_{name}{{")))?;
    Some(line.rsplit(' ').next().unwrap().to_owned())
}

/// A host that takes copies of the cluster `prod`.
pub(crate) struct Store {
    server: Server,
    pub(crate) folder: PathBuf,
}

impl Store {
    pub(crate) fn start() -> Self {
        let server = Server::start("");
        let folder = server.path("copies");
        let store = Self { server, folder };
        store.allow("prod");
        store
    }

    /// The key is for backups of this cluster.
    pub(crate) fn allow(&self, cluster: &str) {
        let key = fs::read_to_string(self.server.path("user.pub")).unwrap();
        let line = format!(
            "restrict,command=\"{} bootstrap etcd receive --directory {} --cluster {cluster} --keep 3 \
             --at-least 0\" {key}",
            program().display(),
            self.folder.display()
        );
        fs::write(self.server.path("authorized"), line).unwrap();
    }

    /// Has a host bring its copies there.
    pub(crate) fn give(&self, settings: &mut Settings) {
        let known = settings.textfile.with_extension("known_hosts");
        let key = fs::read_to_string(self.server.path("host.pub")).unwrap();
        fs::write(&known, format!("s1 {key}")).unwrap();
        let address = [127, 0, 0, 1].into();
        settings.copy_to = vec![Target { name: "s1".to_owned(), address, port: self.server.port }];
        settings.ssh.identity_file = self.server.path("user");
        settings.ssh.known_hosts_file = known;
    }

    /// Anything else with the key.
    pub(crate) fn ask(&self, settings: &Settings, words: &[&str]) -> Outcome {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "HostKeyAlias=s1", "-i"]);
        ssh.arg(&settings.ssh.identity_file).arg("-o");
        ssh.arg(format!("UserKnownHostsFile={}", settings.ssh.known_hosts_file.display()));
        ssh.args(["-p", &self.server.port.to_string(), "root@127.0.0.1"]).args(words);
        outcome_within(ssh.stdin(Stdio::null()), PATIENCE)
    }

    /// Its sshd is gone; `back` starts it again.
    pub(crate) fn away(&mut self) {
        self.server.stop();
    }

    pub(crate) fn back(&mut self) {
        self.server.resume();
    }
}

/// A small file system; gone when it is dropped.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: &Path, mebibytes: u32) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at));
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
