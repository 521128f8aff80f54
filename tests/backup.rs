//! Backups of real etcd: what befalls them is named, refused or survived, and the last good one stays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "backup/booted.rs"]
mod booted;
#[path = "backup/bucket.rs"]
mod bucket;
#[path = "common/mod.rs"]
mod common;
#[path = "backup/rebuilt.rs"]
mod rebuilt;
#[path = "backup/rig.rs"]
mod rig;
#[path = "backup/strained.rs"]
mod strained;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use apiproxy::bootstrap::backup::{EtcdAccess, Settings};
use serde_json::Value;

use common::{Running, report, send_signal, sshd, wait_for};
use rig::{
    Rig, SmallDisk, Store, bundle, drill, drill_command, inventory, metric, name_of, obstacle,
};

/// Changes a byte in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_backup_holds_what_etcd_held_and_a_drill_proves_it() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 1000);
    rig.fill("/registry/secrets/default/", 50);
    rig.fill("plain", 3);
    rig.etcdctl(&["del", "/registry/pods/default/7"]);
    let settings = rig.settings(0);
    let document = rig.well(&settings);
    let manifest = &document["taken"]["label"]["manifest"];
    let contents = &manifest["contents"];
    assert_eq!(contents["keys"], 1052);
    assert_eq!(contents["prefixes"]["/registry/pods/"], 999);
    assert_eq!(contents["prefixes"]["/registry/secrets/"], 50);
    assert_eq!(contents["prefixes"][""], 3);
    assert_eq!(manifest["etcdVersion"].as_str().unwrap().split('.').next(), Some("3"));
    assert_eq!(manifest["members"][0]["name"], "e1");
    let warnings = document["taken"]["warnings"].to_string();
    assert!(warnings.contains("it is not encrypted"), "{warnings}");

    let (folder, name) = (rig.depot("e1"), name_of(&document));
    assert_eq!(inventory(&folder), [(name.clone(), None)]);
    let listed = Command::new("tar").arg("tf").arg(bundle(&folder, &name)).output().unwrap();
    let parts = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(parts, "manifest.json\netcd/snapshot.db\nsa.key\ncluster.yaml\n");
    let sums = format!("{name}.tar.sha256");
    let checked = Command::new("sha256sum").arg("-c").arg(sums).current_dir(&folder).output();
    assert!(checked.unwrap().status.success());
    assert_eq!(metric(&settings, "last_run_success").as_deref(), Some("1"));
    assert_eq!(metric(&settings, "stored").as_deref(), Some("1"));
    assert!(metric(&settings, "last_success_timestamp_seconds").is_some());

    let begin = Instant::now();
    let outcome = drill(&folder, &[]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    report(&format!("a drill with 1052 keys: {:.1} s", begin.elapsed().as_secs_f64()));
    let found = json(&outcome.stdout);
    assert_eq!((&found["passed"], found["name"].as_str()), (&true.into(), Some(name.as_str())));
    assert_eq!(found["findings"].as_array().unwrap().len(), 6, "{found}");

    // One that says of itself what is not so does not pass.
    let label = folder.join(format!("{name}.json"));
    let lie = fs::read_to_string(&label).unwrap().replace("\"keys\": 1052", "\"keys\": 1053");
    fs::write(&label, lie).unwrap();
    let outcome = drill(&folder, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(json(&outcome.stdout)["passed"], false);
}

#[test]
fn an_encrypted_backup_opens_with_its_key_alone() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/secrets/default/", 20);
    let [ours, other] = [(); 2].map(|()| age::x25519::Identity::generate());
    let mut settings = rig.settings(0);
    settings.recipients = vec![ours.to_public().to_string()];
    let document = rig.well(&settings);
    assert_eq!(document["taken"]["warnings"], Value::Array(vec![]));
    let (folder, name) = (rig.depot("e1"), name_of(&document));
    let sealed = fs::read(folder.join(format!("{name}.tar.age"))).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
    for secret in [&b"service accounts"[..], b"value-1"] {
        assert!(!sealed.windows(secret.len()).any(|window| window == secret));
    }
    let key = |identity: &age::x25519::Identity, file: &str| {
        let path = rig.folder.path().join(file);
        fs::write(&path, identity.to_string().expose_secret()).unwrap();
        path.display().to_string()
    };
    let outcome = drill(&folder, &["--identity", &key(&ours, "ours")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    drill(&folder, &["--identity", &key(&other, "other")]).refused(1, "for other recipients");
    drill(&folder, &[]).refused(1, "give the private key of one of its recipients");
    let cluster = key(&ours, "ours");
    fs::write(&cluster, "no key").unwrap();
    drill(&folder, &["--identity", &cluster]).refused(2, "there is no private key of age in it");
}

#[test]
fn damage_is_named_and_the_last_good_one_stays() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 100);
    let mut settings = rig.settings(0);
    settings.keep = 1;
    let folder = rig.depot("e1");
    let good = name_of(&rig.well(&settings));
    // Another cluster's, which is not ours to remove, and a later time than all.
    let foreign = rig.folder.path().join("foreign");
    let mut other = rig.settings(0);
    (other.cluster, other.directory) = ("test".to_owned(), foreign.clone());
    let others = name_of(&rig.well(&other));
    for end in ["tar", "tar.sha256", "json"] {
        let file = format!("{others}.{end}");
        fs::copy(foreign.join(&file), folder.join(&file)).unwrap();
    }
    // A backup whose key of service accounts is missing is taken and told, and no good one goes for it.
    rig.fill("/registry/pods/default/", 1);
    fs::rename(rig.folder.path().join("sa.key"), rig.folder.path().join("away")).unwrap();
    let mut lacking = settings.clone();
    lacking.files[0].file = rig.folder.path().join("gone.key");
    let outcome = rig.backup(&lacking);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let partial = json(&outcome.stdout);
    let missing = &partial["taken"]["label"]["manifest"]["missing"];
    assert!(missing[0].as_str().unwrap().ends_with("/gone.key"), "{missing}");
    assert_eq!(metric(&settings, "last_run_success").as_deref(), Some("0"));
    let names = |folder| inventory(folder).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert!(names(&folder).contains(&good));

    // A flipped bit and a torn end are found, and a drill does not pass.
    let partial = name_of(&partial);
    flip(&bundle(&folder, &partial));
    let found = inventory(&folder);
    let fault = |name: &str| found.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!(fault(&partial).as_deref(), Some("it is damaged: its checksum does not fit"));
    assert_eq!((fault(&good), fault(&others)), (None, None));
    drill(&folder, &[&partial]).refused(1, "is damaged");
    let torn = fs::read(bundle(&folder, &partial)).unwrap();
    fs::write(bundle(&folder, &partial), &torn[..torn.len() / 2]).unwrap();
    drill(&folder, &[&partial]).refused(1, "bytes in place of");

    // The next whole one replaces both of ours, and nothing of the other cluster.
    fs::rename(rig.folder.path().join("away"), rig.folder.path().join("sa.key")).unwrap();
    rig.fill("/registry/pods/default/", 1);
    let document = rig.well(&settings);
    assert_eq!(document["taken"]["pruned"].as_array().unwrap().len(), 2, "{document}");
    let left = names(&folder);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&name_of(&document)) && left.contains(&others), "{left:?}");
}

#[test]
fn a_torn_snapshot_makes_no_backup() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 100);
    let settings = rig.settings(0);
    let good = name_of(&rig.well(&settings));
    // An etcdctl whose snapshots lose their end, or get a flipped bit on the way.
    let programs = rig.folder.path().join("bin");
    fs::create_dir(&programs).unwrap();
    let path = std::env::var("PATH").unwrap();
    for (harm, said) in [
        ("truncate -s -4096 \"$file\"", "the snapshot is torn"),
        (
            "printf x | dd of=\"$file\" bs=1 seek=9000 conv=notrunc status=none",
            "the snapshot is torn",
        ),
        ("rm \"$file\"", "No such file"),
    ] {
        let script = format!(
            "#!/bin/sh\nPATH='{path}'\netcdctl \"$@\" || exit\ncase \"$*\" in *'snapshot save'*) \
             for file; do :; done; {harm};; esac\n"
        );
        let program = programs.join("etcdctl");
        fs::write(&program, script).unwrap();
        common::run(Command::new("chmod").arg("755").arg(&program));
        let mut backup = rig.backup_command(&settings, &["--now"]);
        backup.env("PATH", format!("{}:{path}", programs.display()));
        common::outcome(&mut backup).refused(1, said);
        assert_eq!(inventory(&rig.depot("e1")), [(good.clone(), None)]);
        assert_eq!(metric(&settings, "last_run_success").as_deref(), Some("0"));
    }
    // An etcd whose certificate has ended is named, and one that is not there.
    let (_expired, settings) = expired(&rig);
    rig.backup(&settings).refused(1, "certificate has expired or is not yet valid");
    let mut nobody = settings.clone();
    nobody.etcd.endpoint = "http://127.0.0.1:1".to_owned();
    rig.backup(&nobody).refused(1, "etcd on this host is not fit for a backup");
}

/// An etcd whose certificate ended long ago, and how it is asked.
fn expired(rig: &Rig) -> (Running, Settings) {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let [cert_file, key_file] = ["old.crt", "old.key"].map(|name| rig.folder.path().join(name));
    fs::write(&cert_file, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    let [client, peer] =
        ["https", "http"].map(|scheme| format!("{scheme}://127.0.0.1:{}", common::free_port()));
    let null = std::process::Stdio::null;
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(rig.folder.path().join("old"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--cert-file"])
        .args([cert_file.as_os_str(), "--key-file".as_ref(), key_file.as_os_str()])
        .stdin(null())
        .stdout(null())
        .stderr(null())
        .spawn();
    let child = Running(child.unwrap());
    let address: std::net::SocketAddr = client.trim_start_matches("https://").parse().unwrap();
    wait_for("it listens", Duration::from_secs(20), || {
        std::net::TcpStream::connect(address).ok().map(drop)
    });
    let ca_file = cert_file.clone();
    let mut settings = rig.settings(0);
    settings.etcd = EtcdAccess { endpoint: client, ca_file, cert_file, key_file };
    (child, settings)
}

#[test]
fn a_full_disk_takes_no_backup_and_loses_none() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    if !rustix::process::geteuid().is_root() {
        skip!("a small file system needs root");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 100);
    let settings = rig.settings(0);
    let disk = SmallDisk::mount(&rig.depot("e1"), 24);
    let good = name_of(&rig.well(&settings));
    fs::write(disk.0.join("others"), vec![0; 9 << 20]).unwrap();
    rig.backup(&settings).refused(1, "MiB are needed; make room there, no backup was removed");
    assert_eq!(inventory(&disk.0), [(good.clone(), None)]);
    assert_eq!(metric(&settings, "last_run_success").as_deref(), Some("0"));
    fs::remove_file(disk.0.join("others")).unwrap();
    let next = name_of(&rig.well(&settings));
    assert_eq!(inventory(&disk.0), [(next.clone(), None), (good.clone(), None)]);

    // Where the other host's disk is full the copy is missing, and nothing is removed for it here.
    if let Some(why) = sshd::obstacle() {
        skip!("{why}");
    }
    let (store, mut settings) = (Store::start(), settings);
    store.give(&mut settings);
    settings.keep = 1;
    let _full = SmallDisk::mount(&store.folder, 2);
    rig.fill("/registry/pods/default/", 1);
    let outcome = rig.backup(&settings);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("MiB are needed; make room there"), "{outcome:?}");
    let third = name_of(&json(&outcome.stdout));
    assert_eq!(inventory(&disk.0), [(third, None), (next, None), (good, None)]);
    assert!(inventory(&store.folder).is_empty());
    assert_eq!(metric(&settings, "copies_complete").as_deref(), Some("0"));
}

#[test]
fn copies_reach_another_host_and_catch_up_when_it_was_away() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    if let Some(why) = sshd::obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    let (mut store, mut settings) = (Store::start(), rig.settings(0));
    store.give(&mut settings);
    settings.keep = 1;
    let first = name_of(&rig.well(&settings));
    assert_eq!(inventory(&store.folder), [(first.clone(), None)]);

    // While it is away backups are taken, and nothing goes.
    store.away();
    rig.fill("/registry/pods/default/", 1);
    let outcome = rig.backup(&settings);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let second = json(&outcome.stdout);
    let fault = second["taken"]["copies"][0]["fault"].as_str().unwrap();
    assert!(fault.contains("Connection refused"), "{fault}");
    let second = name_of(&second);
    assert_eq!(inventory(&rig.depot("e1")), [(second.clone(), None), (first.clone(), None)]);
    assert_eq!(metric(&settings, "copies_complete").as_deref(), Some("0"));

    // What it missed is brought with the next one; a damaged copy is put right.
    store.back();
    flip(&bundle(&store.folder, &first));
    settings.keep = 3;
    rig.fill("/registry/pods/default/", 1);
    let third = rig.well(&settings);
    assert_eq!(third["taken"]["copies"][0]["sent"], 2, "{third}");
    let third = name_of(&third);
    let names =
        |folder: &Path| inventory(folder).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&store.folder), [third.clone(), second.clone(), first.clone()]);
    assert_eq!(metric(&settings, "copies_complete").as_deref(), Some("1"));

    // The key is good for nothing else, and not for another cluster.
    let asked = |words: &[&str]| store.ask(&settings, words);
    for words in [&["sh", "-c", "id"][..], &["cat", "/etc/shadow"], &[]] {
        let outcome = asked(words);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(json(&outcome.stdout)["refused"].is_string(), "{outcome:?}");
    }
    store.allow("test");
    rig.fill("/registry/pods/default/", 1);
    let outcome = rig.backup(&settings);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("is of another cluster than test"), "{outcome:?}");
    assert_eq!(names(&store.folder).len(), 3);
    assert_eq!(names(&rig.depot("e1")).len(), 4, "the last good ones are there");

    // A host that was away gets what it missed with the next time of the timer, whoever takes that one.
    store.allow("prod");
    rig.etcdctl(&["put", "more", "1"]);
    let timer = || common::outcome(&mut rig.backup_command(&settings, &["--turn", "0"]));
    let taken = timer();
    assert_eq!(taken.code, Some(0), "{taken:?}");
    store.away();
    rig.etcdctl(&["put", "more", "2"]);
    rig.backup(&settings);
    let left = timer();
    assert_eq!(left.code, Some(1), "{left:?}");
    assert!(json(&left.stdout)["copies"][0]["fault"].is_string(), "{left:?}");
    assert_eq!(metric(&settings, "last_run_success").as_deref(), Some("0"));
    store.back();
    let left = timer();
    assert_eq!(left.code, Some(0), "{left:?}");
    let left = json(&left.stdout);
    assert!(left["left"].is_string() && left["copies"][0]["sent"] == 1, "{left}");
    assert_eq!(metric(&settings, "copies_complete").as_deref(), Some("1"));
}

#[test]
fn exactly_one_member_takes_the_backup_of_a_slot() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let mut rig = Rig::start(3);
    rig.fill("/registry/pods/default/", 100);
    let all: Vec<_> = (0..3).map(|at| rig.settings(at)).collect();
    let run = |rig: &Rig, at: &[usize], turn: &str| -> Vec<(usize, Value)> {
        let mut runs: Vec<_> = Vec::new();
        for at in at {
            let mut command = rig.backup_command(&all[*at], &["--turn", turn]);
            let out = rig.folder.path().join(format!("{at}.out"));
            command.stdout(fs::File::create(&out).unwrap());
            command.stderr(fs::File::create(rig.folder.path().join("err")).unwrap());
            runs.push((*at, out, Running(command.spawn().unwrap())));
        }
        let mut said = Vec::new();
        for (at, out, mut child) in runs {
            let status =
                wait_for("the run ends", Duration::from_mins(1), || child.0.try_wait().unwrap());
            let text = fs::read_to_string(out).unwrap();
            assert!(status.success(), "{status}: {text}");
            said.push((at, json(&text)));
        }
        said
    };
    // All timers at once and nobody waits for anybody: the claim alone decides.
    let said = run(&rig, &[0, 1, 2], "0");
    let takers: Vec<_> = said.iter().filter(|(_, said)| said["taken"].is_object()).collect();
    assert_eq!(takers.len(), 1, "{said:?}");
    let taker = takers[0].0;
    let name = name_of(&takers[0].1);
    for (at, said) in said.iter().filter(|(at, _)| *at != taker) {
        assert_eq!(said["left"], format!("{name} was taken already"), "{at}");
        assert!(inventory(&rig.depot(&rig.members[*at].name)).is_empty());
        let newest = metric(&all[*at], "newest_timestamp_seconds");
        assert!(newest.is_some(), "it knows of a backup that another took");
    }
    // A timer that fires again, or late, does nothing more.
    let again = run(&rig, &[taker], "0");
    assert!(again[0].1["left"].is_string(), "{again:?}");

    // In the next slot the one that took it is gone: another one takes it, after its turn. The claim of
    // one that died before is left to run out, or is none.
    let slot = format!("/apiproxy.io/backups/{}/", all[0].cluster);
    let survivors: Vec<_> = (0..3).filter(|at| *at != taker).collect();
    rig.etcdctl(&["del", "--prefix", &slot]);
    let name = rig.members[taker].name.clone();
    rig.kill(&name);
    let begin = Instant::now();
    let said = run(&rig, &survivors, "1");
    let takers = said.iter().filter(|(_, said)| said["taken"].is_object()).count();
    assert_eq!(takers, 1, "{said:?}");
    report(&format!("another member took over within {:.1} s", begin.elapsed().as_secs_f64()));

    // Without a quorum the timer takes none and says why; asked for it, a member still gives what it has.
    let last = survivors[0];
    let other = rig.members[survivors[1]].name.clone();
    rig.kill(&other);
    let mut timer = rig.backup_command(&all[last], &[]);
    common::outcome_within(&mut timer, Duration::from_mins(1))
        .refused(1, "etcd on this host is not fit for a backup");
    let document = rig.well(&all[last]);
    let warnings = document["taken"]["warnings"].to_string();
    assert!(warnings.contains("the other members were not told"), "{warnings}");
}

#[test]
fn a_drill_that_is_ended_leaves_nothing() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 2000);
    rig.well(&rig.settings(0));
    let grounds = rig.folder.path().join("grounds");
    fs::create_dir(&grounds).unwrap();
    let running = |what: &str| {
        let text = grounds.display().to_string();
        let mut all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains(&text) && line.contains(what)).then_some(())
        });
        all.next()
    };
    for (signal, during) in [(2, "restore"), (15, "listen-client-urls"), (2, "listen-client-urls")]
    {
        let mut command = drill_command(&rig.depot("e1"), &[]);
        let errors = rig.folder.path().join("errors");
        command.env("TMPDIR", &grounds).stdout(std::process::Stdio::null());
        command.stderr(fs::File::create(&errors).unwrap());
        let mut child = Running(command.spawn().unwrap());
        let mut ended = None;
        wait_for("the drill is under way", Duration::from_secs(20), || {
            ended = child.0.try_wait().unwrap();
            running(during).or(ended.map(|_| ()))
        });
        if ended.is_none() {
            send_signal(child.0.id(), signal);
        }
        let status = wait_for("it ends", Duration::from_secs(10), || child.0.try_wait().unwrap());
        assert!(ended.is_some() || status.code() == Some(1), "{status}");
        let left: Vec<_> = fs::read_dir(&grounds).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(running(""), None, "a process of it is left");
    }
}
