//! The steps of backups against hosts that are played.

use std::path::Path;

use super::gone::Duties;
use super::*;
use crate::bootstrap::backup::{DrillSettings, Schedule, Settings};
use crate::bootstrap::engine::{Check, Context, Graph, Hosts};
use crate::bootstrap::pki;
use crate::bootstrap::spec;
use crate::bootstrap::steps::documents::Rendered;
use crate::bootstrap::steps::etcd::{KeyHome, Keys, Renewal};
use crate::bootstrap::steps::{self as all_steps, shared::Shared as AllShared};
use crate::bootstrap::transport::recording::{Answer, Recording};
use crate::bootstrap::transport::{File, Transport};

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn cluster(topology: &str) -> Arc<Cluster> {
    let etcd = match topology {
        "external" => {
            "  - { name: e1, address: 10.0.0.21, roles: [etcd] }\n  \
             - { name: e2, address: 10.0.0.22, roles: [etcd] }\n  \
             - { name: e3, address: 10.0.0.23, roles: [etcd] }\n"
        }
        _ => "",
    };
    let text = format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
         kubernetesVersion: v1.34.2\n  topology: {topology}\n  hosts:\n  \
         - {{ name: cp1, address: 10.0.0.11, roles: [controlPlane] }}\n{etcd}  \
         - {{ name: s1, address: 10.0.0.41, roles: [spare], ssh: {{ port: 2222 }} }}\n  \
         etcd: {{ backup: {{ copyTo: [s1, cp1], recipients: [{RECIPIENT}], drill: {{ identityFile: /root/key }} }} }}\n"
    );
    Arc::new(spec::parse("cluster.yaml", &text, Path::new(""), None).unwrap())
}

fn sources() -> Vec<SourceFile> {
    let file = |name: &str| SourceFile { name: name.to_owned(), content: format!("# {name}\n") };
    vec![file("prod.yaml"), file("hosts.csv")]
}

fn shared(topology: &str) -> Arc<Shared> {
    let cluster = cluster(topology);
    let backup = cluster.etcd.backup.clone().unwrap();
    Arc::new(Shared { cluster, backup, sources: sources() })
}

fn hosts(cluster: &Cluster) -> (Context, std::collections::BTreeMap<String, Arc<Recording>>) {
    let all = cluster.hosts.iter().map(|host| (host.name.clone(), Recording::new(&host.name)));
    let all: std::collections::BTreeMap<_, _> = all.collect();
    let reached = |host: &Arc<Recording>| -> Arc<dyn Transport> { host.clone() };
    let hosts: Hosts = all.iter().map(|(name, host)| (name.clone(), reached(host))).collect();
    (Context::new(hosts), all)
}

#[test]
fn all_that_the_steps_need_is_there_in_both_topologies() {
    for (topology, count) in [("stacked", 6), ("external", 14)] {
        let cluster = cluster(topology);
        let store = pki::Store::new(Path::new("/nowhere").to_owned());
        let keys = Arc::new(Keys::new(KeyHome::Operator(store)));
        let shared = AllShared::new(cluster.clone(), Arc::new(Rendered));
        Graph::new(&all_steps::all(&shared, &keys, &sources(), Renewal::WhenDue)).unwrap();
        let ours = steps(&cluster, &sources());
        let ids: Vec<_> = ours.iter().map(|step| step.id().to_string()).collect();
        assert_eq!(ids.len(), count, "{ids:?}");
    }
    let mut without = (*cluster("stacked")).clone();
    without.etcd.backup = None;
    let ours = steps(&Arc::new(without), &sources());
    assert!(ours.iter().all(|step| step.id().name == GONE) && ours.len() == 2, "{ours:?}");
}

#[test]
fn a_host_is_told_all_that_it_reads_again() {
    for (topology, host, last) in [
        ("external", "e2", "/etc/apiproxy/backup/cluster-files.tar.age"),
        ("stacked", "cp1", "/etc/kubernetes/encryption/config.yaml"),
    ] {
        let shared = shared(topology);
        let host = shared.cluster.host(host).unwrap();
        let file = config::settings(&shared, host).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, &file.content).unwrap();
        let settings = Settings::load(&path).unwrap();
        assert_eq!(settings.files.last().unwrap().file, Path::new(last));
        assert_eq!(settings.recipients, [RECIPIENT]);
        let targets: Vec<_> =
            settings.copy_to.iter().map(|target| (target.name.as_str(), target.port)).collect();
        let all = [("s1", 2222), ("cp1", 22)];
        assert_eq!(targets, if topology == "stacked" { &all[..1] } else { &all });
        let documents = config::documents(&shared).unwrap();
        let written: Vec<_> = documents.iter().map(|file| file.path.as_str()).collect();
        for wanted in settings.files.iter().filter(|wanted| wanted.path.starts_with("spec/")) {
            assert!(written.contains(&wanted.file.to_str().unwrap()), "{wanted:?}");
        }
        assert_eq!(documents[0].content, b"# prod.yaml\n");
        assert!(documents.iter().all(|file| file.mode == 0o600));
    }
}

#[test]
fn the_timer_means_the_schedule() {
    let [service, timer] = unit::backup(&Schedule::parse("0 1 1 * mon").unwrap());
    let text = String::from_utf8(timer.content).unwrap();
    assert!(text.contains(
        "[Timer]\nOnCalendar=Mon *-*-* 01:00:00 UTC\nOnCalendar=*-*-01 01:00:00 UTC\nAccuracySec=1s\n"
    ));
    let text = String::from_utf8(service.content).unwrap();
    let command = "ExecStart=/usr/local/bin/apiproxy bootstrap etcd backup --local --config \
                   /etc/apiproxy/backup/config.json\n";
    assert!(text.contains(command), "{text}");
}

#[tokio::test]
async fn a_store_lets_in_who_has_a_key_and_keeps_that_of_one_that_is_away() {
    let shared = shared("external");
    let (cx, hosts) = hosts(&shared.cluster);
    let store = store::Store { host: shared.cluster.host("s1").unwrap().clone(), shared };
    let facts = |text: &str| Answer::ok(text.as_bytes().to_vec());
    hosts["s1"].on("entry=$(getent", facts("there is no user apiproxy-backup\n"));
    for name in ["e1", "e2"] {
        hosts[name].on("id_ed25519", facts(&format!("ssh-ed25519 KEYOF{name} x\n")));
    }
    hosts["e3"].on("id_ed25519", facts(""));
    let Check::Needed(change) = store.check(&cx).await.unwrap() else { panic!("nothing needed") };
    assert_eq!(change.why, "there is no user apiproxy-backup");

    hosts["s1"].on("# make the user", facts(""));
    store.apply(&cx).await.unwrap();
    let keys = hosts["s1"].text(AUTHORIZED_KEYS).unwrap();
    let command = "restrict,command=\"/usr/local/bin/apiproxy bootstrap etcd receive --directory \
                   /var/lib/apiproxy-backup/copies --cluster prod --keep 28 --at-least 302400\"";
    let line = |name: &str| format!("{command} ssh-ed25519 KEYOF{name} apiproxy-backup@{name}\n");
    assert_eq!(keys, line("e1") + &line("e2"));

    // Its user is there now; e3 has no key yet, and e1 is away.
    hosts["s1"].on("entry=$(getent", facts(""));
    assert_eq!(store.check(&cx).await.unwrap(), Check::After(StepId::new("e3", KEY)));
    hosts["e1"].die("it is off");
    hosts["e3"].on("id_ed25519", facts("ssh-ed25519 KEYOFe3 x\n"));
    store.apply(&cx).await.unwrap();
    let keys = hosts["s1"].text(AUTHORIZED_KEYS).unwrap();
    assert_eq!(keys, line("e1") + &line("e2") + &line("e3"));
    assert_eq!(store.check(&cx).await.unwrap(), Check::Done);
}

#[tokio::test]
async fn the_clusters_keys_come_to_an_external_etcd_sealed() {
    let shared = shared("external");
    let (cx, hosts) = hosts(&shared.cluster);
    assert!(cluster_files::Bundle::of(&cx, &shared).await.unwrap().is_none());
    for (path, always) in cluster_files::FILES {
        if always {
            hosts["cp1"].put(File::secret(path, format!("secret of {path}")));
        }
    }
    let bundle = cluster_files::Bundle::of(&cx, &shared).await.unwrap().unwrap();
    assert_eq!(bundle.sums().lines().count(), 3);
    let sealed = bundle.archive(&shared.backup.recipients).unwrap();
    assert_eq!(
        (sealed.path.as_str(), sealed.mode),
        ("/etc/apiproxy/backup/cluster-files.tar.age", 0o600)
    );
    assert!(sealed.content.starts_with(b"age-encryption.org/v1\n"));
    let plain = bundle.archive(&[]).unwrap();
    assert_eq!(plain.path, "/etc/apiproxy/backup/cluster-files.tar");
    assert!(plain.content.windows(9).any(|window| window == b"secret of"));
}

#[test]
fn what_a_host_does_not_do_leaves_nothing_there() {
    let mut cluster = (*cluster("external")).clone();
    let duties = |cluster: &Cluster, host: &str| Duties::of(cluster, cluster.host(host).unwrap());
    let e1 = Duties { takes: true, gives: true, keeps: false, drills: false, sends: false };
    assert_eq!(duties(&cluster, "e1"), e1);
    assert_eq!(duties(&cluster, "s1"), Duties { keeps: true, drills: true, ..Duties::default() });
    assert_eq!(duties(&cluster, "cp1"), Duties { keeps: true, ..Duties::default() });
    let gone = duties(&cluster, "s1").superfluous();
    assert!(gone.contains(&"/etc/systemd/system/apiproxy-etcd-backup.timer".to_owned()));
    assert!(!gone.iter().any(|file| file == FOLDER || file == AUTHORIZED_KEYS), "{gone:?}");
    assert!(!gone.iter().any(|file| file.contains("drill")), "{gone:?}");
    // No backup, and no folder of them, is ever among what goes.
    cluster.etcd.backup = None;
    let all = duties(&cluster, "e1").superfluous();
    let kept = [crate::bootstrap::backup::fleet::COPIES, "/var/lib/apiproxy/backups", HOME];
    for kept in kept.map(Path::new) {
        assert!(!all.iter().any(|file| kept.starts_with(file)), "{all:?}");
    }
    assert!(all.contains(&FOLDER.to_owned()) && all.contains(&AUTHORIZED_KEYS.to_owned()));
}

#[test]
fn drills_are_held_where_the_copies_are() {
    let shared = shared("external");
    let drill = shared.backup.drill.clone().unwrap();
    let host = shared.cluster.drill_host().unwrap().clone();
    assert_eq!(host.name, "s1");
    let files = drill::Drill { shared, host, wished: drill }.files().unwrap();
    let text = |at: usize| String::from_utf8(files[at].content.clone()).unwrap();
    let settings: DrillSettings = serde_json::from_str(&text(0)).unwrap();
    assert_eq!(settings.folders, [Path::new("/var/lib/apiproxy-backup/copies")]);
    assert_eq!(settings.identity_file.as_deref(), Some(Path::new("/root/key")));
    assert!(text(1).contains("TMPDIR=/var/tmp\n"), "{}", text(1));
    assert!(text(2).contains("OnCalendar=Sun *-*-* 04:30:00 UTC\n"), "{}", text(2));
}
