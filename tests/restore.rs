//! etcd brought back by `apiproxy bootstrap etcd restore` on booted machines: onto other machines when all
//! are destroyed, onto the same ones although each of the riskiest steps is killed once, and from the one
//! member that is left of three.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::machines::{Lab, Machine, user};
use common::members::{BUMP, done, names, revision, voters};
use common::object_store::{BUCKET, CREDENTIALS, ObjectStore};
use common::operator::Operator;
use common::{Outcome, doubles, report};

const KEYS: usize = 50_000;

/// Where a cut costs most: data half aside, half restored, members half of the new cluster, and some hosts
/// that have forgotten the restore while others have not.
const RISKY: [&str; 4] = ["restore-etcd-stopped", "restore-data", "etcd-member", "restore-closed"];

/// The key of the object store, beside the cluster file and on the machines.
const KEY: &str = "store-key";
const KEY_THERE: &str = "/etc/apiproxy/backup/s3-credentials";

const COPIES: &str = "/var/lib/apiproxy-backup/copies";

const ETCDCTL: &str = "ETCDCTL_API=3 etcdctl --cacert=/etc/apiproxy/etcd/pki/ca.crt \
    --cert=/etc/apiproxy/etcd/pki/healthcheck-client.crt --key=/etc/apiproxy/etcd/pki/healthcheck-client.key";

/// Debian's etcd is 3.4, which kubeadm takes until 1.33; with etcd, etcdctl and etcdutl in
/// `KUBEBUILDER_ASSETS` it is that one.
fn write_spec(site: &Site, members: &[&Machine], spares: &[&Machine]) {
    let operator = &site.operator;
    let [plane, store] = [&site.plane, &site.store].map(Machine::address);
    let endpoint = format!("https://{}", site.bucket.address);
    let mut spec = format!(
        "  kubernetesVersion: v1.33.4\n  topology: external\n  ssh: {{ user: {} }}\n  \
         etcd: {{ backup: {{ copyTo: [x1], schedule: \"0 0 1 1 *\", s3: {{ endpoint: '{endpoint}', \
         bucket: {BUCKET}, prefix: etcd, credentialsFile: {KEY}, caFile: store.crt }} }} }}\n  hosts:\n    \
         - {{ name: cp1, address: {plane}, roles: [controlPlane] }}   # the first\n    \
         - {{ name: x1, address: {store}, roles: [external] }}\n",
        user::OPS,
    );
    for (machines, role) in [(members, "etcd"), (spares, "spare")] {
        for machine in machines {
            let (name, address) = (machine.name(), machine.address());
            writeln!(spec, "    - {{ name: {name}, address: {address}, roles: [{role}] }}")
                .unwrap();
        }
    }
    operator.write(&spec);
}

/// Writes the keys, 100 in a transaction.
fn fill(machine: &Machine, prefix: &str, keys: usize) {
    machine.exec(&format!(
        r#"n=0; while [ $n -lt {keys} ]; do {{ echo; i=0; while [ $i -lt 100 ]; do
        echo "put {prefix}/$((n + i)) value-$((n + i))"; i=$((i + 1)); done; echo; echo; }} |
        {ETCDCTL} txn >/dev/null || exit 1; n=$((n + 100)); done"#
    ));
}

/// How many keys there are, and a checksum of all, as this machine's member has them.
fn content(machine: &Machine) -> (usize, String) {
    let text = machine.exec(&format!(
        "{ETCDCTL} get registry/ --prefix >/root/all; sha256sum </root/all; wc -l </root/all; rm /root/all"
    ));
    let (sum, lines) = text.split_once('\n').unwrap();
    (lines.trim().parse::<usize>().unwrap() / 2, sum.to_owned())
}

/// What a watcher gets that goes on where it was before.
fn watch_from(machine: &Machine, revision: i64) -> String {
    let watch = format!("{ETCDCTL} watch registry/ --prefix --rev={revision}");
    machine.attempt(&format!("timeout 5 sh -c '{watch}' 2>&1")).stdout
}

fn restore(operator: &Operator, more: &[&str]) -> Outcome {
    operator.run(&[&["etcd", "restore"], more].concat())
}

/// What `apply` is about here.
const ETCD_ALONE: [&str; 5] = ["--skip-preflight", "--host", "e[1-3]", "--host", "x1"];

/// A cluster of etcd with backups: the control plane of the file is a machine that has only the keys of one.
struct Site {
    operator: Operator,
    plane: Machine,
    /// It takes copies of backups.
    store: Machine,
    /// So does it.
    bucket: ObjectStore,
    /// Dropped last.
    _lab: Lab,
}

impl Site {
    fn new(lab: Lab, plane: Machine, store: Machine) -> Self {
        for name in ["ca.crt", "ca.key", "sa.key", "sa.pub"] {
            plane.write(&format!("/etc/kubernetes/pki/{name}"), name.as_bytes(), 0o600);
        }
        let operator = Operator::new(&lab);
        report(&format!("etcd is {}", plane.exec("etcd --version | head -n 1").trim()));
        let gateway = lab.gateway().parse().unwrap();
        let (tls, authority) = ObjectStore::private_authority(gateway);
        let bucket = ObjectStore::start(gateway, Some(tls));
        fs::write(operator.folder().join(KEY), CREDENTIALS).unwrap();
        fs::write(operator.folder().join("store.crt"), authority).unwrap();
        Self { operator, plane, store, bucket, _lab: lab }
    }

    /// Founds etcd, and has it take backups.
    fn found(&self) {
        self.operator.apply(&ETCD_ALONE);
    }
}

#[test]
fn etcd_comes_back_on_other_machines_on_the_same_and_from_one_member() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let [e1, e2, e3, s1, s2, s3, plane, store] =
        lab.boot_all(["e1", "e2", "e3", "s1", "s2", "s3", "cp1", "x1"]);
    for machine in [&e1, &e2, &e3, &s1, &s2, &s3, &plane, &store] {
        doubles::install_etcd(machine);
    }
    let site = Site::new(lab, plane, store);
    let operator = &site.operator;
    write_spec(&site, &[&e1, &e2, &e3], &[&s1, &s2, &s3]);
    let outcome = restore(operator, &["--yes"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("no good backup was found; put one into"), "{outcome:?}");
    site.found();
    the_key_of_the_bucket_is_roots_alone(&site, &e1);

    // Backups run while keys are written; the last is taken when all are there.
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| fill(&e2, "registry/pods", KEYS));
        while !writer.is_finished() {
            done(operator.run(&["etcd", "backup"]));
            sleep(Duration::from_millis(500));
        }
    });
    done(operator.run(&["etcd", "backup"]));
    let before = content(&e1);
    let old = revision(&e1, ETCDCTL);
    assert_eq!(before.0, KEYS);
    fill(&e2, "registry/late", 200);
    report(&format!("backups: {}", site.store.exec(&format!("ls {COPIES}/*.tar | wc -l")).trim()));

    wrong_input_is_refused(&site, [&e1, &e2, &e3]);
    // All copies are gone but those in the bucket.
    site.store.exec(&format!("rm {COPIES}/*"));
    for machine in [e1, e2, e3] {
        machine.destroy();
    }
    site.plane.exec("rm /etc/kubernetes/pki/sa.key");
    // The spares have other names and other addresses.
    let begin = Instant::now();
    let outcome = done(restore(operator, &["--yes", "--write"]));
    report(&format!(
        "three destroyed members on three spares: {:.1} s",
        begin.elapsed().as_secs_f64()
    ));
    assert!(outcome.stdout.contains("e1 does not answer: s1 takes its place"), "{outcome:?}");
    let file = fs::read_to_string(operator.folder().join("cluster.yaml")).unwrap();
    assert!(file.contains("name: s3, ") && !file.contains("name: e1"), "{file}");
    assert!(file.contains("# the first"), "comments stay: {file}");
    for machine in [&s1, &s2, &s3] {
        assert_eq!(content(machine), before, "every key of the backup, and no later one");
        assert!(revision(machine, ETCDCTL) >= old + BUMP);
    }
    assert_eq!(voters(&s1, ETCDCTL), names(&["s1", "s2", "s3"]));
    assert_eq!(site.plane.exec("cat /etc/kubernetes/pki/sa.key"), "sa.key", "from the backup");
    let told = watch_from(&s2, old + 1);
    assert!(told.contains("compacted"), "{told}");
    let fresh = done(operator.run(&["etcd", "verify"]));
    let copies = format!("s1=,x1=,s3://{BUCKET}=");
    assert!(fresh.stdout.contains(&copies), "a backup of it was taken: {fresh:?}");

    the_same_machines_although_steps_are_killed(&site, [&s1, &s2, &s3]);
    from_the_one_that_is_left(&site, [&s1, &s2, &s3]);
}

/// A new one is told, not shown, and is the machines' with the next `apply`.
fn the_key_of_the_bucket_is_roots_alone(site: &Site, member: &Machine) {
    let there = || member.exec(&format!("stat -c '%a %U ' {KEY_THERE}; cat {KEY_THERE}"));
    assert_eq!(there(), format!("600 root \n{CREDENTIALS}"));
    site.operator.apply_again(&ETCD_ALONE);
    let newer = format!("# since today\n{CREDENTIALS}");
    fs::write(site.operator.folder().join(KEY), &newer).unwrap();
    let (outcome, _) = site.operator.apply(&ETCD_ALONE);
    assert!(
        outcome.stdout.contains("what it needs for backups is not as it should be"),
        "{outcome:?}"
    );
    assert_eq!(there(), format!("600 root \n{newer}"));
    let words = ["-rlF", "not/a+secret", "."];
    let found = Command::new("grep").args(words).current_dir(site.operator.folder()).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    assert_eq!(found, format!("./{KEY}\n"), "no log tells it");
    assert!(!format!("{outcome:?}").contains("not/a+secret"), "{outcome:?}");
}

fn wrong_input_is_refused(site: &Site, members: [&Machine; 3]) {
    let member = members[0];
    let before = member.exec("systemctl show -p MainPID --value apiproxy-etcd.service");
    let refused = |words: &[&str], code, why| restore(&site.operator, words).refused(code, why);
    refused(&["--yes", "other-20260101T000000Z-r5"], 2, "is a backup of the cluster other");
    refused(
        &["--yes", "test-20200101T000000Z-r5"],
        1,
        "no intact copy of test-20200101T000000Z-r5",
    );
    refused(
        &["--yes", "--before", "2020-01-01T00:00:00Z"],
        1,
        "no good backup from before that time",
    );
    refused(&["--yes", "--place", "e1=s9"], 2, "the file has no host s9");
    refused(&["--yes", "--place", "cp1=s1"], 2, "cp1 is no etcd host");
    refused(&["--yes", "--from-member", "s1"], 2, "s1 is no etcd host");
    let asked = restore(&site.operator, &[]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.stderr.contains("there is no terminal to ask on"), "{asked:?}");
    let shown = restore(&site.operator, &["--dry-run"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.stdout.contains("All that was written since then is lost."), "{shown:?}");
    no_copy_of_a_damaged_backup_is_taken(site, members);
    // Another cluster of the same name; and keys that are none.
    let authority = "/etc/kubernetes/pki/ca.crt";
    site.plane.write(authority, b"another", 0o600);
    refused(&["--yes"], 1, "is of another cluster of this name");
    site.plane.exec(&format!("rm {authority}"));
    refused(&["--yes"], 1, "ca.crt is no certificate");
    site.plane.write(authority, b"ca.crt", 0o600);
    let after = member.exec("systemctl show -p MainPID --value apiproxy-etcd.service");
    assert_eq!(before, after, "nobody touched it");
}

/// One copy of the newest has a flipped bit, so has that in the bucket, and the third is torn.
fn no_copy_of_a_damaged_backup_is_taken(site: &Site, members: [&Machine; 3]) {
    let newest = site.store.exec(&format!("basename $(ls {COPIES}/*.tar | tail -n 1) .tar"));
    let newest = newest.trim();
    let own = format!("/var/lib/apiproxy/backups/{newest}.tar");
    let has = |machine: &&&Machine| machine.attempt(&format!("test -e {own}")).code == Some(0);
    let taker = members.iter().find(has).unwrap();
    let copy = format!("{COPIES}/{newest}.tar");
    taker.exec(&format!(
        "cp -p {own} /root/sound; printf X | dd of={own} bs=1 seek=9000 conv=notrunc status=none"
    ));
    site.store.exec(&format!("cp -p {copy} /root/sound; truncate -s -4096 {copy}"));
    let flip = |bundle: &mut Vec<u8>| bundle[9000] ^= 1;
    site.bucket.change(&format!("{newest}.tar"), flip);
    let why = format!("no intact copy of {newest}");
    restore(&site.operator, &["--yes", newest]).refused(1, &why);
    let asked = restore(&site.operator, &["--dry-run"]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert!(asked.stdout.contains(", taken "), "{asked:?}");
    assert!(!asked.stdout.contains(&format!("{newest}, taken ")), "{asked:?}");
    assert!(asked.stdout.contains(&format!("{newest} is newer and is passed over")), "{asked:?}");
    // With one copy whole again it is that one's turn, though the other is damaged.
    site.store.exec(&format!("cp -p /root/sound {copy}"));
    let asked = restore(&site.operator, &["--dry-run"]);
    assert!(asked.stdout.contains(&format!("{newest}, taken ")), "{asked:?}");
    site.bucket.change(&format!("{newest}.tar"), flip);
    taker.exec(&format!("cp -p /root/sound {own}"));
}

/// Runs it again and again; each run is killed at a step where none was before.
fn the_same_machines_although_steps_are_killed(site: &Site, members: [&Machine; 3]) {
    let operator = &site.operator;
    let before = content(members[0]);
    let old = revision(members[0], ETCDCTL);
    fill(members[1], "registry/lost", 100);
    let (mut killed, begin) = (BTreeSet::new(), Instant::now());
    loop {
        let mut run = operator.start_words(&["etcd", "restore", "--yes", "-o", "json"]);
        // One host of each kind is enough: its step is the same on the others.
        let wanted = |step: &str| {
            let name = step.split_once('/').unwrap().1.to_owned();
            RISKY.contains(&name.as_str()) && killed.insert(name)
        };
        if run.step(wanted).is_none() {
            let (code, events) = run.end();
            assert_eq!(code, Some(0), "{events:#?}");
            break;
        }
        sleep(Duration::from_millis(60) * u32::try_from(killed.len() % 5).unwrap());
        run.kill();
    }
    let time = begin.elapsed().as_secs_f64();
    report(&format!("the same machines, killed at each of {} steps: {time:.1} s", killed.len()));
    assert_eq!(killed, names(&RISKY));
    for machine in members {
        assert_eq!(content(machine), before);
        assert!(revision(machine, ETCDCTL) > old);
        machine.exec("[ ! -e /var/lib/apiproxy/restore/current ]");
        // The way back.
        machine.exec("ls -d /var/lib/etcd/before-*/snap/db");
    }
    assert_eq!(voters(members[0], ETCDCTL), names(&["s1", "s2", "s3"]));
}

/// Two of three have lost their data; the third has what was never backed up.
fn from_the_one_that_is_left(site: &Site, [one, left, other]: [&Machine; 3]) {
    fill(left, "registry/after", 300);
    let before = content(left);
    let old = revision(left, ETCDCTL);
    for machine in [one, other] {
        machine.exec("systemctl stop apiproxy-etcd; rm -rf /var/lib/etcd/member");
    }
    // The key of etcd's authority is gone as well: a new one signs all certificates.
    let state = site.operator.folder().join(".local/state/apiproxy/test/pki");
    fs::remove_dir_all(state).unwrap();
    let authority = left.exec("cat /etc/apiproxy/etcd/pki/ca.crt");
    let begin = Instant::now();
    let outcome = done(restore(&site.operator, &["--yes", "--from-member", "s2"]));
    report(&format!("from the one that is left: {:.1} s", begin.elapsed().as_secs_f64()));
    assert!(outcome.stdout.contains("What s2 has is taken as it is"), "{outcome:?}");
    for machine in [one, left, other] {
        assert_eq!(content(machine), before);
        assert!(revision(machine, ETCDCTL) >= old + BUMP);
    }
    assert_eq!(voters(left, ETCDCTL), names(&["s1", "s2", "s3"]));
    assert_ne!(left.exec("cat /etc/apiproxy/etcd/pki/ca.crt"), authority);
}
