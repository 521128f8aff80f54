//! The data of a member made anew of a snapshot: started by real etcd, with every key, greater revisions,
//! and watchers from before told so. With another etcd first in `PATH` it is that one's turn.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use apiproxy::bootstrap::restore::{BUMP, Order, Rebuilt};

use crate::common::{Outcome, Running, command, free_port, outcome_within, report, wait_for};
use crate::rig::{Rig, bundle, name_of, obstacle};
use crate::skip;

fn rebuild(order: &Order) -> Outcome {
    let file = order.snapshot.with_extension("order");
    fs::write(&file, serde_json::to_string(order).unwrap()).unwrap();
    let mut rebuild = command(&["bootstrap", "etcd", "rebuild"]);
    rebuild.stdin(fs::File::open(&file).unwrap());
    outcome_within(&mut rebuild, Duration::from_mins(1))
}

fn etcdctl(url: &str, words: &[&str]) -> std::process::Output {
    let mut etcdctl = Command::new("timeout");
    etcdctl.args(["5", "etcdctl", &format!("--endpoints={url}")]).args(words);
    etcdctl.env("ETCDCTL_API", "3").stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_member_made_anew_has_every_key_and_greater_revisions() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 2000);
    rig.etcdctl(&["del", "/registry/pods/default/7"]);
    let before = rig.etcdctl(&["get", "", "--prefix"]);
    let document = rig.well(&rig.settings(0));
    let contents = &document["taken"]["label"]["manifest"]["contents"];
    let revision = contents["revision"].as_i64().unwrap();
    let folder = rig.folder.path();
    let archive = bundle(&rig.depot("e1"), &name_of(&document));
    let untar = Command::new("tar").arg("xf").arg(archive).arg("-C").arg(folder).status();
    assert!(untar.unwrap().success());

    let peer = format!("http://127.0.0.1:{}", free_port());
    let order = Order {
        id: "one".to_owned(),
        snapshot: folder.join("etcd/snapshot.db"),
        summed: true,
        digest: contents["digest"].as_str().unwrap().to_owned(),
        keys: contents["keys"].as_u64().unwrap(),
        revision,
        name: "m1".to_owned(),
        peer_url: peer.clone(),
        initial_cluster: format!("m1={peer}"),
        token: "new".to_owned(),
        data: folder.join("new"),
        owner: None,
        etcd: apiproxy::bootstrap::restore::Etcd::default(),
    };
    fs::create_dir(&order.data).unwrap();
    // What is not in the snapshot is missed, and then nothing is put in place.
    let other = Order { digest: "0".repeat(64), ..order.clone() };
    rebuild(&other).refused(1, "what was restored is not what is in the snapshot");
    assert!(!order.data.join("member").exists());
    let outcome = rebuild(&order);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let rebuilt: Rebuilt = serde_json::from_str(&outcome.stdout).unwrap();
    report(&format!("{} bumps by itself: {}", rebuilt.tool, rebuilt.tool_bumps));
    assert_eq!(rebuilt.revision, revision + BUMP);
    // Once more it is left; another restore finds the place taken.
    assert_eq!(rebuild(&order).code, Some(0));
    let next = Order { id: "two".to_owned(), ..order.clone() };
    rebuild(&next).refused(1, "there are data of another member");

    let url = format!("http://127.0.0.1:{}", free_port());
    let log = fs::File::create(folder.join("new.log")).unwrap();
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(&order.data).args(["--name", "m1", "--initial-cluster"]);
    etcd.arg(&order.initial_cluster).args(["--listen-peer-urls", &peer]);
    etcd.args(["--initial-advertise-peer-urls", &peer, "--listen-client-urls", &url]);
    etcd.args(["--advertise-client-urls", &url]).stdin(Stdio::null());
    etcd.stdout(log.try_clone().unwrap()).stderr(log);
    let _etcd = Running(etcd.spawn().unwrap());
    wait_for("etcd answers", Duration::from_secs(30), || {
        etcdctl(&url, &["endpoint", "health"]).status.success().then_some(())
    });
    let after = etcdctl(&url, &["get", "", "--prefix"]);
    assert!(after.status.success() && after.stdout == before.as_bytes(), "the same keys");
    // A watcher that goes on where it was gets an error, not silence.
    let old = (revision + 1).to_string();
    let watch = etcdctl(&url, &["watch", "", "--prefix", "--rev", &old]);
    let told = [watch.stdout, watch.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("compacted"), "{told}");
    // It writes on, above all that was.
    let put = etcdctl(&url, &["put", "x", "y", "-w", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!(answer["header"]["revision"].as_i64(), Some(revision + BUMP + 1), "{answer}");
}
