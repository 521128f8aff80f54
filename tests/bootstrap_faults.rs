//! What `apiproxy bootstrap apply` says and leaves when a booted machine is not fit, fills up or dies:
//! one line with the remedy, and nothing half done.
//!
//! That a host key is not known or another's, that the login is refused, that sudo wants a password or
//! got a wrong one, and that a file does not fit on a disk, is tested with a real sshd in tests/ssh.rs.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::time::{Duration, Instant};

use common::machines::{Lab, Machine, user};
use common::operator::Operator;
use common::report;

const MEMBER: [&str; 2] = ["--host", "e1"];

fn write_spec(operator: &Operator, user: &str, [control_plane, member]: [&Machine; 2]) {
    operator.write(&format!(
        "  kubernetesVersion: v1.33.4\n  topology: external\n  ssh: {{ user: {user} }}\n  hosts:\n    \
         - {{ name: cp1, address: {}, roles: [controlPlane] }}\n    \
         - {{ name: e1, address: {}, roles: [etcd] }}\n",
        control_plane.address(),
        member.address()
    ));
}

/// `apply` fails and its report has one line with this reason and this remedy.
#[track_caller]
fn refused(operator: &Operator, reason: &str, remedy: &str) {
    let outcome = operator.run(&[&["apply", "--yes"], &MEMBER[..]].concat());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let told = outcome.stdout.lines().filter(|told| told.contains(reason));
    let told: Vec<_> = told.collect();
    assert!(told.len() == 1 && told[0].contains(remedy), "{reason}; {remedy}: {outcome:?}");
}

/// There is nothing of ours on it.
#[track_caller]
fn untouched(machine: &Machine) {
    machine.exec(
        "! ls -d /usr/local/bin/apiproxy /etc/apiproxy /var/lib/apiproxy 2>/dev/null | grep .",
    );
    assert_eq!(machine.exec("apt-mark showhold"), "");
}

#[test]
fn a_fault_is_one_line_and_leaves_nothing_half_done() {
    if let Some(why) = Lab::impossible() {
        skip!("{why}");
    }
    let lab = Lab::new();
    let [control_plane, member] = lab.boot_all(["cp1", "e1"]);
    let operator = Operator::new(&lab);

    write_spec(&operator, user::NO_SUDO, [&control_plane, &member]);
    refused(&operator, "e1: sudo asks for a password", "give --ask-sudo-password");
    write_spec(&operator, user::OPS, [&control_plane, &member]);

    member.skew_clock(3660);
    refused(
        &operator,
        "e1: its clock is 1 h",
        "ahead of ours; run `timedatectl set-ntp true` on it",
    );
    member.skew_clock(0);

    member.exec("systemd-run --quiet --unit squatter socat TCP-LISTEN:2379,fork /dev/null");
    refused(&operator, "e1: port 2379 is held by socat", "and etcd needs it; stop socat");
    member.exec("systemctl stop squatter");

    member.small_disk("/var/lib/etcd", 250);
    member.fill_disk("/var/lib/etcd");
    refused(&operator, "e1: 0 MiB are free on /var/lib/etcd", "make room");
    member.exec("umount /var/lib/etcd");
    untouched(&member);

    member.small_disk("/usr/local/bin", 4);
    refused(&operator, "e1: /usr/local/bin/apiproxy: the disk is full", "free some space there");
    assert_eq!(member.exec("ls -A /usr/local/bin"), "");
    member.exec("umount /usr/local/bin");

    dies_in_the_middle(&operator, &member);
    let (_, time) = operator.apply(&MEMBER);
    report(&format!("one etcd host, after all faults, in {:.1} s", time.as_secs_f64()));
    operator.apply_again(&MEMBER);
    assert_eq!(member.exec("ls -A /usr/local/bin"), "apiproxy\n");
    member.exec("systemctl is-active apiproxy-etcd.service");
}

/// The power goes while the program is on its way; what is there later is whole or not there.
fn dies_in_the_middle(operator: &Operator, member: &Machine) {
    let mut run = operator.start(&MEMBER);
    assert!(run.step(|step| step == "e1/apiproxy").is_some(), "{:?}", run.seen);
    let died = Instant::now();
    member.power_off();
    let (code, events) = run.end();
    let noticed = died.elapsed();
    assert_eq!(code, Some(1), "{events:#?}");
    assert!(noticed < Duration::from_secs(40), "{noticed:?}");
    let failed: Vec<_> = events.iter().filter(|event| event["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{events:#?}");
    let why = failed[0]["why"].as_str().unwrap();
    // A command there may notice it first, or who holds the lock.
    assert!(why.contains("e1: the connection was lost: ") && !why.contains('\n'), "{why}");
    assert!(why.contains("is it up?"), "{why}");
    report(&format!("a host that died was noticed after {:.1} s", noticed.as_secs_f64()));

    member.power_on();
    member.exec("[ ! -e /usr/local/bin/apiproxy ] || apiproxy --version");
}
