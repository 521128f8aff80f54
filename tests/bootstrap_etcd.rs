//! External etcd by `apiproxy bootstrap apply` on booted machines: made although each step was killed
//! once, left alone when it is well, and mended when a machine is gone.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use common::machines::{Lab, Machine, user};
use common::operator::Operator;
use common::{report, wait_for};

/// Only these hosts: the control plane of the file is another test's.
const MEMBERS: [&str; 2] = ["--host", "e[1-3]"];

const KEYS: usize = 10_000;

const ETCDCTL: &str = "ETCDCTL_API=3 etcdctl --cacert=/etc/apiproxy/etcd/pki/ca.crt \
    --cert=/etc/apiproxy/etcd/pki/healthcheck-client.crt --key=/etc/apiproxy/etcd/pki/healthcheck-client.key";

/// Debian's etcd is 3.4, which kubeadm takes until 1.33.
fn write_spec(operator: &Operator, control_plane: &Machine, members: &[&Machine]) {
    let mut spec = format!(
        "  kubernetesVersion: v1.33.4\n  topology: external\n  ssh: {{ user: {} }}\n  hosts:\n    \
         - {{ name: cp1, address: {}, roles: [controlPlane] }}\n",
        user::OPS,
        control_plane.address()
    );
    for member in members {
        let (name, address) = (member.name(), member.address());
        writeln!(spec, "    - {{ name: {name}, address: {address}, roles: [etcd] }}").unwrap();
    }
    operator.write(&spec);
}

/// Who votes and is well, as the member of this machine has it.
fn voters(machine: &Machine) -> BTreeSet<String> {
    // It fails while one of them is down.
    let health = machine.exec(&format!("{ETCDCTL} endpoint health --cluster 2>&1 || true"));
    let list = machine.exec(&format!("{ETCDCTL} member list || true"));
    let voters = list.lines().filter_map(|line| {
        // Number, state, name, peer URL, client URL, learner or not.
        let fields: Vec<_> = line.split(", ").collect();
        let well =
            health.lines().any(|line| line.starts_with(&format!("{} is healthy", fields[4])));
        (well && fields[1] == "started" && fields[5] == "false").then(|| fields[2].to_owned())
    });
    voters.collect()
}

fn all() -> BTreeSet<String> {
    BTreeSet::from(["e1", "e2", "e3"].map(str::to_owned))
}

/// Writes the keys, 100 in a transaction.
fn fill(machine: &Machine) {
    machine.exec(&format!(
        r#"n=0; while [ $n -lt {KEYS} ]; do {{ echo; i=0; while [ $i -lt 100 ]; do
        echo "put keys/$((n + i)) value-$((n + i))"; i=$((i + 1)); done; echo; echo; }} |
        {ETCDCTL} txn >/dev/null || exit 1; n=$((n + 100)); done"#
    ));
}

/// How many keys there are, and a checksum of all, as this machine's member has them.
fn content(machine: &Machine) -> (usize, String) {
    let script =
        format!("{ETCDCTL} get keys/ --prefix >/root/all; sha256sum </root/all; wc -l </root/all");
    let text = machine.exec(&script);
    let (sum, lines) = text.split_once('\n').unwrap();
    (lines.trim().parse::<usize>().unwrap() / 2, sum.to_owned())
}

fn pid(machine: &Machine) -> String {
    machine.exec("systemctl show -p MainPID --value apiproxy-etcd.service")
}

#[test]
fn etcd_of_three_machines_is_made_left_alone_and_mended() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let [e1, e2, e3, cp1] = lab.boot_all(["e1", "e2", "e3", "cp1"]);
    let operator = Operator::new(&lab);
    write_spec(&operator, &cp1, &[&e1, &e2, &e3]);

    is_made_although_each_step_is_killed_once(&operator);
    let time = operator.apply_again(&MEMBERS);
    report(&format!("nothing to do on 3 hosts in {:.1} s", time.as_secs_f64()));
    assert!(time < Duration::from_secs(10), "{time:?}");
    is_closed_to_strangers(&e1, &e2);

    fill(&e2);
    let before = content(&e1);
    assert_eq!(before.0, KEYS);
    what_breaks_the_quorum_is_refused(&operator, &e1, &e2);

    // Its machine is gone with all its data; another one takes its name, elsewhere.
    e3.destroy();
    let e3 = lab.boot("e3");
    write_spec(&operator, &cp1, &[&e1, &e2, &e3]);
    let (_, time) = operator.apply(&MEMBERS);
    report(&format!("a destroyed member was replaced in {:.1} s", time.as_secs_f64()));
    assert_eq!(voters(&e3), all());
    assert_eq!(content(&e3), before);
    operator.apply_again(&MEMBERS);
}

/// Runs `apply` again and again; each is killed where the last had not come to yet.
fn is_made_although_each_step_is_killed_once(operator: &Operator) {
    let begun = Instant::now();
    let mut killed = BTreeSet::new();
    loop {
        let mut run = operator.start(&MEMBERS);
        if run.step(|step| killed.insert(step.to_owned())).is_none() {
            let (code, events) = run.end();
            assert_eq!(code, Some(0), "{events:#?}");
            break;
        }
        // Some at once, others in the middle.
        std::thread::sleep(Duration::from_millis(40) * u32::try_from(killed.len() % 4).unwrap());
        run.kill();
    }
    let (count, time) = (killed.len(), begun.elapsed().as_secs_f64());
    report(&format!("made although killed at each of {count} steps, in {time:.1} s"));
    for step in ["apiproxy", "etcd-certificates", "etcd-member"] {
        assert!((1..=3).all(|n| killed.contains(&format!("e{n}/{step}"))), "{killed:?}");
    }
    assert!(killed.contains("e1/etcd-healthy"), "{killed:?}");
}

fn is_closed_to_strangers(one: &Machine, other: &Machine) {
    assert_eq!(voters(one), all());
    let bare = format!(
        "ETCDCTL_API=3 etcdctl --cacert=/etc/apiproxy/etcd/pki/ca.crt --endpoints=https://{}:2379 get x",
        other.address()
    );
    assert_ne!(one.attempt(&bare).code, Some(0));
    let plain = bare.replace("https:", "http:");
    assert_ne!(one.attempt(&plain).code, Some(0));
    // The authority's key is with the operator alone.
    one.exec("! find / -xdev -name '*ca.key' 2>/dev/null | grep .");
}

fn what_breaks_the_quorum_is_refused(operator: &Operator, one: &Machine, other: &Machine) {
    let before = pid(one);
    one.exec("echo ETCD_SNAPSHOT_COUNT=7 >>/etc/apiproxy/etcd/member.env");
    other.exec("systemctl stop apiproxy-etcd.service");
    let outcome = operator.run(&[&["apply", "--yes"], &MEMBERS[..]].concat());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told =
        "it would leave 1 of 3 etcd members well, and quorum is 2; e2 is ill; mend that first";
    assert!(outcome.stdout.contains(told), "{outcome:?}");
    assert_eq!(pid(one), before, "nobody touched it");
    // The one that was down is mended by the same run; then the other may be restarted.
    wait_for("all are well", Duration::from_secs(30), || (voters(one) == all()).then_some(()));
    operator.apply(&MEMBERS);
    assert_ne!(pid(one), before);
}
