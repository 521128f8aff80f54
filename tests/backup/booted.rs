//! Backups on whole machines: what `apply` puts there, the timer's unit, and the commands over ssh.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use apiproxy::bootstrap::engine::{Check, Context, Hosts, Step, StepError};
use apiproxy::bootstrap::pki::Store;
use apiproxy::bootstrap::spec::{self, Cluster};
use apiproxy::bootstrap::steps::etcd::{KeyHome, Keys, Renewal};
use apiproxy::bootstrap::steps::{backup, etcd};
use apiproxy::bootstrap::transport::{Dialer, Dialing, Ssh, Transport};
use serde_json::Value;

use crate::common::machines::{Lab, Machine};
use crate::common::{Outcome, command, outcome_within, program, report, wait_for};
use crate::skip;

/// Two machines: a control plane, which gets copies, and an etcd host.
struct Site {
    lab: Lab,
    plane: Machine,
    member: Machine,
    folder: tempfile::TempDir,
    file: PathBuf,
    cluster: Arc<Cluster>,
}

impl Site {
    fn new() -> Self {
        let lab = Lab::new();
        let [plane, member] = lab.boot_all(["cp1", "e1"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.yaml");
        let text = format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
             kubernetesVersion: v1.34.2\n  topology: external\n  ssh: {{ user: root }}\n  hosts:\n  \
             - {{ name: cp1, address: {}, roles: [controlPlane] }}\n  \
             - {{ name: e1, address: {}, roles: [etcd] }}\n  etcd:\n    \
             backup: {{ copyTo: [cp1], keep: 2, schedule: \"{yearly}\", \
             drill: {{ host: e1, schedule: \"{yearly}\" }} }}\n",
            plane.address(),
            member.address(),
            yearly = super::rig::YEARLY,
        );
        fs::write(&file, text).unwrap();
        let cluster = Arc::new(spec::load(&file).unwrap_or_else(|error| panic!("{error}")));
        for machine in [&plane, &member] {
            machine.push(&program(), "/usr/local/bin/apiproxy", 0o755);
        }
        for name in ["ca.crt", "ca.key", "sa.key", "sa.pub"] {
            let text = format!("the cluster's {name}");
            plane.write(&format!("/etc/kubernetes/pki/{name}"), text.as_bytes(), 0o600);
        }
        Self { lab, plane, member, folder, file, cluster }
    }

    fn context(&self) -> Context {
        let dialing = Dialing { config_file: Some(self.lab.ssh_config()), ..Dialing::default() };
        let dialer = Arc::new(Dialer::new(dialing).unwrap());
        let hosts = self.cluster.hosts.iter().map(|host| {
            let reached: Arc<dyn Transport> = Arc::new(Ssh::new(host, &dialer));
            (host.name.clone(), reached)
        });
        Context::new(hosts.collect::<Hosts>())
    }

    /// The steps of etcd and of backups, in an order in which they can be done.
    fn steps(&self) -> Vec<Arc<dyn Step>> {
        let store = Store::new(self.folder.path().join("pki"));
        let keys = Arc::new(Keys::new(KeyHome::Operator(store)));
        let mut steps = etcd::steps(&self.cluster, &keys, Renewal::WhenDue);
        let sources = spec::Loaded::read(&self.file).unwrap().sources();
        let mut backups = backup::steps(&self.cluster, &sources);
        let order = [backup::KEY, backup::STORE, backup::BACKUP, backup::DRILL, backup::GONE];
        backups.sort_by_key(|step| order.iter().position(|name| *name == step.id().name));
        steps.extend(backups);
        steps
    }

    /// Does what is not done yet; its names.
    fn apply(&self) -> Result<Vec<String>, StepError> {
        self.carry_out(self.steps())
    }

    fn carry_out(&self, steps: Vec<Arc<dyn Step>>) -> Result<Vec<String>, StepError> {
        let cx = self.context();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut done = Vec::new();
            for step in steps {
                if step.check(&cx).await? == Check::Done {
                    continue;
                }
                step.apply(&cx).await?;
                step.verify(&cx).await?;
                done.push(step.id().to_string());
            }
            Ok(done)
        })
    }

    /// `bootstrap etcd` with these words.
    fn etcd(&self, words: &[&str]) -> Outcome {
        let mut etcd = command(&["bootstrap", "etcd"]);
        etcd.args(words).arg("--file").arg(&self.file);
        etcd.arg("--ssh-config").arg(self.lab.ssh_config());
        etcd.arg("--log-dir").arg(self.folder.path().join("runs"));
        etcd.env("XDG_STATE_HOME", self.folder.path());
        outcome_within(&mut etcd, Duration::from_mins(1))
    }

    fn json(&self, words: &[&str]) -> Value {
        let outcome = self.etcd(&[words, &["-o", "json"]].concat());
        serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"))
    }
}

const COPIES: &str = "/var/lib/apiproxy-backup/copies";
const UNIT: &str = "apiproxy-etcd-backup";

#[test]
fn apply_makes_hosts_take_and_keep_backups() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let site = Site::new();
    let done = site.apply().unwrap();
    let ours = ["e1/backup-key", "cp1/backup-store", "e1/backup", "e1/backup-drill"];
    assert!(done.ends_with(&ours.map(str::to_owned)), "{done:?}");
    assert_eq!(site.apply().unwrap(), [""; 0], "the second run changes nothing");
    let member = &site.member;
    assert_eq!(member.exec("systemctl is-active apiproxy-etcd-backup.timer"), "active\n");
    let next =
        member.exec(&format!("systemctl show -p NextElapseUSecRealtime --value {UNIT}.timer"));
    assert!(next.contains("-01-01 00:00:00 UTC"), "{next}");
    let modes = member.exec("stat -c '%a %n' /etc/apiproxy/backup/*");
    for file in ["config.json", "cluster.yaml", "id_ed25519", "cluster-files.tar"] {
        assert!(modes.contains(&format!("600 /etc/apiproxy/backup/{file}\n")), "{modes}");
    }

    // The timer's own unit takes one; it is on both hosts and intact.
    member.exec(&format!("systemctl start {UNIT}.service"));
    let listed = site.json(&["verify"]);
    let copies = listed["backups"][0]["copies"].as_array().unwrap();
    let states: Vec<_> = copies.iter().map(|copy| (&copy["host"], &copy["state"])).collect();
    let intact = Value::from("intact");
    assert_eq!(states, [(&"e1".into(), &intact), (&"cp1".into(), &intact)], "{listed}");
    let manifest = &listed["backups"][0]["label"]["manifest"];
    let parts = manifest["parts"].as_array().unwrap().iter();
    let parts: Vec<_> = parts.map(|part| part["path"].as_str().unwrap()).collect();
    let all = ["etcd/snapshot.db", "spec/cluster.yaml", "spec/kubeadm.yaml", "cluster-files.tar"];
    assert_eq!(parts, all);
    assert_eq!(manifest["missing"], Value::Array(vec![]));
    let metrics = member.exec("cat /var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom");
    assert!(
        metrics.contains("apiproxy_etcd_backup_last_run_success{cluster=\"prod\"} 1"),
        "{metrics}"
    );
    let modes = "cd /var/lib/prometheus && stat -c %a . node-exporter node-exporter/*.prom";
    assert_eq!(member.exec(modes), "755\n755\n644\n", "node-exporter is another user");
    // So does the unit of drills.
    member.exec("systemctl start apiproxy-etcd-drill.service");
    let metrics = member.exec("cat /var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom");
    let drilled = "apiproxy_etcd_backup_last_drill_success{cluster=\"prod\"} 1\n";
    assert!(metrics.contains(drilled) && metrics.contains("_due_timestamp_seconds{"), "{metrics}");
    // A second run in the same slot leaves it at that.
    member.exec(&format!("systemctl start {UNIT}.service"));
    assert_eq!(site.json(&["list"])["backups"].as_array().unwrap().len(), 1);

    over_ssh(&site);
    what_changed_is_put_right(&site);
    let mut site = site;
    an_upgrade_is_told(&mut site);
    the_drill_of_a_timer_opens_encrypted_backups(&mut site);
    a_host_gets_copies_no_more(&mut site);
    what_is_not_wished_leaves_and_backups_stay(&mut site);
}

impl Site {
    /// The file says something else from now on.
    fn edit(&mut self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).unwrap();
        assert_eq!(text.matches(from).count(), 1, "{text}");
        fs::write(&self.file, text.replace(from, to)).unwrap();
        let cluster = spec::load(&self.file).unwrap_or_else(|error| panic!("{error}"));
        self.cluster = Arc::new(cluster);
    }
}

fn an_upgrade_is_told(site: &mut Site) {
    site.edit("v1.34.2", "v1.35.1");
    let sources = spec::Loaded::read(&site.file).unwrap().sources();
    let steps = || backup::upgraded(&site.cluster, &sources, &[]);
    assert_eq!(site.carry_out(steps()).unwrap(), ["e1/backup"]);
    let config = site.member.exec("cat /etc/apiproxy/backup/config.json");
    assert!(config.contains("\"kubernetesVersion\": \"v1.35.1\""), "{config}");
    assert_eq!(site.carry_out(steps()).unwrap(), [""; 0]);
}

/// The key is on the host where drills are held.
fn the_drill_of_a_timer_opens_encrypted_backups(site: &mut Site) {
    let key = age::x25519::Identity::generate();
    site.member.write("/root/drill.key", key.to_string().expose_secret().as_bytes(), 0o600);
    site.edit("drill: { host: e1,", "drill: { host: e1, identityFile: /root/drill.key,");
    site.edit("keep: 2,", &format!("keep: 2, recipients: [{}],", key.to_public()));
    assert_eq!(site.apply().unwrap(), ["e1/backup", "e1/backup-drill"]);
    assert_eq!(site.etcd(&["backup"]).code, Some(0));
    let metrics = "/var/lib/prometheus/node-exporter/apiproxy_etcd_backup.prom";
    let drill = format!(
        "systemctl start apiproxy-etcd-drill.service; \
         grep ^apiproxy_etcd_backup_last_drill_success {metrics}"
    );
    let drilled = "apiproxy_etcd_backup_last_drill_success{cluster=\"prod\"} 1\n";
    assert_eq!(site.member.exec(&drill), drilled);
    site.member.exec("ls /var/lib/apiproxy/backups/*.tar.age");
    site.member.exec(
        "mv /root/drill.key /root/other; ! systemctl start apiproxy-etcd-drill.service; \
         mv /root/other /root/drill.key",
    );
}

fn a_host_gets_copies_no_more(site: &mut Site) {
    let copies = format!("ls {COPIES}");
    let before = site.plane.exec(&copies);
    site.edit("copyTo: [cp1],", "copyTo: [],");
    assert_eq!(site.apply().unwrap(), ["e1/backup", "cp1/backup-gone", "e1/backup-gone"]);
    assert_eq!(site.plane.exec("getent passwd apiproxy-backup; true"), "");
    assert_eq!(site.etcd(&["backup"]).code, Some(0));
    assert_eq!(site.plane.exec(&copies), before, "what it had stays, and it got nothing");
    assert_eq!(site.apply().unwrap(), [""; 0]);
}

fn what_is_not_wished_leaves_and_backups_stay(site: &mut Site) {
    let kept = |site: &Site| {
        let copies = site.plane.exec(&format!("ls {COPIES}/*.tar*"));
        (copies, site.member.exec("ls /var/lib/apiproxy/backups/*.tar*"))
    };
    let before = kept(site);
    site.edit("    backup: {", "    extraArgs: {}\n  # backup: {");
    assert_eq!(site.apply().unwrap(), ["e1/backup-gone"]);
    assert_eq!(kept(site), before);
    let left = "ls -d /etc/apiproxy/backup /etc/systemd/system/apiproxy-etcd-[bd]* \
                /var/lib/prometheus/node-exporter/* /var/lib/apiproxy/backup-journal.* 2>/dev/null; \
                systemctl list-timers --all | grep apiproxy; getent passwd apiproxy-backup; true";
    for machine in [&site.plane, &site.member] {
        assert_eq!(machine.exec(left), "");
    }
    assert_eq!(site.plane.exec(&format!("stat -c '%U %a' {COPIES}")), "root 700\n");
    assert_eq!(site.apply().unwrap(), [""; 0]);
}

fn over_ssh(site: &Site) {
    let begin = std::time::Instant::now();
    let taken = site.etcd(&["backup"]);
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(taken.stdout.contains("cp1: has all, 1 sent"), "{taken:?}");
    assert!(taken.stdout.contains("warning: it is not encrypted"), "{taken:?}");
    report(&format!("a backup over ssh: {:.1} s", begin.elapsed().as_secs_f64()));
    for words in [&["drill"][..], &["drill", "--on", "cp1"], &["drill", "--on", "e1"]] {
        let drilled = site.etcd(words);
        assert_eq!(drilled.code, Some(0), "{drilled:?}");
        assert!(drilled.stdout.contains(" passed: open "), "{drilled:?}");
    }
    let left = "ls -d /tmp/apiproxy-[d]rill-* 2>/dev/null || pgrep -f 'apiproxy-[d]rill'; true";
    assert_eq!(site.plane.exec(left), "");
    let listed = site.etcd(&["list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].ends_with("e1,cp1"), "{listed:?}");

    // A damaged copy is named, and the drill takes the other one.
    let newest = lines[1].split(' ').next().unwrap().to_owned();
    site.plane.exec(&format!("printf x | dd of={COPIES}/{newest}.tar bs=1 seek=9000 conv=notrunc"));
    let verified = site.etcd(&["verify", &newest]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let said = format!("{newest} on cp1 ({COPIES}): it is damaged: its checksum does not fit");
    assert!(verified.stdout.contains(&said), "{verified:?}");
    site.etcd(&["drill", &newest, "--on", "cp1"]).refused(1, "etcd/snapshot.db is damaged");
    site.etcd(&["verify", "prod-20200101T000000Z-r1"]).refused(1, "nobody has prod-20200101");

    // A host that is away is named; so is etcd that does not answer, and nothing is lost.
    site.member.exec("systemctl stop apiproxy-etcd.service");
    let refused = site.etcd(&["backup"]);
    refused.refused(1, "no backup was taken, and those there still are");
    assert!(refused.stderr.contains("e1: etcd on this host is not fit"), "{refused:?}");
    site.member.exec("systemctl start apiproxy-etcd.service");
    site.plane.exec("systemctl stop ssh.service");
    let listed = site.etcd(&["list"]);
    assert_eq!(listed.code, Some(1), "{listed:?}");
    assert!(listed.stdout.contains("cp1 gave no answer: "), "{listed:?}");
    site.plane.exec("systemctl start ssh.service");
    wait_for("cp1 lets in", Duration::from_secs(20), || {
        (site.plane.ssh("root", "true").code == Some(0)).then_some(())
    });
}

fn what_changed_is_put_right(site: &Site) {
    site.plane.write("/etc/kubernetes/pki/sa.key", b"another one", 0o600);
    site.plane
        .exec("echo 'ssh-ed25519 AAAA intruder' >>/var/lib/apiproxy-backup/.ssh/authorized_keys");
    site.member.exec("systemctl disable --now apiproxy-etcd-backup.timer");
    assert_eq!(site.apply().unwrap(), ["cp1/backup-store", "e1/backup"]);
    let keys = site.plane.exec("cat /var/lib/apiproxy-backup/.ssh/authorized_keys");
    assert_eq!(keys.lines().count(), 1, "{keys}");
    assert!(keys.starts_with("restrict,command=\"/usr/local/bin/apiproxy bootstrap etcd receive "));
    let held = site
        .member
        .exec("tar xOf /etc/apiproxy/backup/cluster-files.tar etc/kubernetes/pki/sa.key");
    assert_eq!(held, "another one");
    assert_eq!(site.apply().unwrap(), [""; 0]);
}
