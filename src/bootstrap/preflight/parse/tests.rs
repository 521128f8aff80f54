//! What the script prints, here and torn.

use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::bootstrap::needs::sample;
use crate::bootstrap::preflight::gather;

/// A Debian 12 machine with Kubernetes' packages, a control plane of which runs on it, shortened.
const JOINED: &str = include_str!("joined.txt");

#[test]
fn the_facts_of_a_control_plane_are_read() {
    let facts = parse(JOINED);
    assert_eq!(facts.clock, Some((1_795_544_571_817_567_169, 1_795_544_573_616_638_852)));
    assert_eq!((facts.user, facts.cpus, facts.memory), (Some(0), Some(4), Some(8_138_936 * 1024)));
    assert_eq!((&*facts.os, &*facts.os_version), ("debian", "12"));
    assert_eq!(facts.os_name, "Debian GNU/Linux 12 (bookworm)");
    assert_eq!((&*facts.arch, &*facts.init, &*facts.systemd), ("amd64", "systemd", "degraded"));
    assert_eq!(facts.synchronised, Some(false));
    assert_eq!(facts.modules["br_netfilter"], Module::Available);
    assert_eq!(facts.cgroup, Some(2));
    assert!(facts.controllers.contains("memory"));
    assert_eq!(facts.sysctls["net.ipv4.ip_forward"], "0");
    let at = |port| facts.listeners.iter().find(|listener| listener.port == port);
    assert_eq!(at(6443).and_then(|found| found.owner.as_deref()), Some("kube-apiserver"));
    assert_eq!(at(22).map(|found| found.address.as_str()), Some("::"));
    assert_eq!(at(2381).and_then(|found| found.owner.as_deref()), None);
    assert_eq!(facts.disks["/var/lib/etcd"].free, 33_193_856 * 1024);
    assert_eq!(facts.disks["/var/lib/etcd"].mount, "/var/lib/etcd disk");
    assert_eq!(facts.sync, [1215, 4790, 12]);
    assert_eq!(facts.version("kubelet"), Some(Version::new(1, 34, 1)));
    assert_eq!(facts.version("containerd"), Some(Version::new(1, 6, 20)));
    assert_eq!(facts.version("conntrack"), Some(Version::new(1, 4, 7)));
    assert_eq!(facts.version("losetup"), None);
    assert_eq!(facts.programs["losetup"].package, None);
    assert_eq!(facts.programs["kubelet"].package.as_deref(), Some("kubelet"));
    assert_eq!(facts.sources["containerd"], "http://deb.debian.org/debian");
    assert!(facts.held.contains("kubelet") && facts.joined() && facts.apparmor);
    assert!(!facts.names["pkgs.k8s.io"]);
    assert_eq!(facts.reach[&([10, 0, 0, 12].into(), 6443)], Reach::Silent);
    assert_eq!(facts.swap, ["/dev/sda2"]);
}

#[test]
fn busyboxs_date_has_no_nanoseconds() {
    let facts = parse("begin 1795544571%N\nend 1795544573N\n");
    assert_eq!(facts.clock, Some((1_795_544_571_000_000_000, 1_795_544_573_000_000_000)));
    assert_eq!(parse("begin 17955445718175671x9\nend 5\n").clock, None);
}

#[test]
fn without_ss_ports_are_read_from_proc() {
    let facts = parse("hexport 192B\nhexport zz\nhexport 123456\n");
    assert_eq!(facts.listeners.iter().map(|found| found.port).collect::<Vec<_>>(), [6443]);
}

#[test]
fn versions_are_found_in_what_programs_say() {
    for (said, found) in [
        ("Kubernetes v1.34.2", Some(Version::new(1, 34, 2))),
        ("v1.22.17", Some(Version::new(1, 22, 17))),
        (
            "Client Version: version.Info{Major:\"1\", GitVersion:\"v1.22.4\"}",
            Some(Version::new(1, 22, 4)),
        ),
        ("runc version 1.1.5+ds1", Some(Version::new(1, 1, 5))),
        ("etcd Version: 3.5.26", Some(Version::new(3, 5, 26))),
        (
            "containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7193e4",
            Some(Version::new(2, 1, 4)),
        ),
        ("3.4.23-4+b4", Some(Version::new(3, 4, 23))),
        ("command not found", None),
        ("", None),
    ] {
        assert_eq!(version(said), found, "{said}");
    }
}

/// The script itself, on the machine that tests run on.
#[test]
fn this_machine_tells_what_it_is() {
    let mut cluster = sample::stacked();
    for (host, last) in cluster.hosts.iter_mut().zip(2..) {
        host.address = [127, 0, 0, last].into();
    }
    let command = gather::command(&cluster, &cluster.hosts[0]);
    let output = Command::new(&command.argv[0]).args(&command.argv[1..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it complains of nothing");
    let facts = parse(&String::from_utf8_lossy(&output.stdout));
    let (begun, ended) = facts.clock.expect("it read its clock");
    assert!(begun < ended);
    assert!(!facts.kernel.is_empty() && !facts.hostname.is_empty() && !facts.os.is_empty());
    assert_eq!(facts.arch, arch(std::env::consts::ARCH));
    assert!(facts.cpus >= Some(1) && facts.memory > Some(1 << 20));
    assert_eq!(facts.sync.len(), 100, "the disk of etcd was measured");
    assert!(facts.disks.contains_key("/var/lib/etcd") && facts.disks["/"].size > 0);
    assert!(facts.programs.contains_key("cp") && facts.cgroup.is_some());
    assert!(facts.modules.contains_key("overlay"));
    // Nobody listens there, and loopback says so.
    assert_eq!(facts.reach.len(), 9, "{:?}", facts.reach);
    assert_eq!(facts.reach[&([127, 0, 0, 3].into(), 2380)], Reach::Refused);
}

proptest! {
    #[test]
    fn nothing_makes_the_parser_fall(
        lines in prop::collection::vec(
            (
                "(begin|end|user|os|cpus|memory|port|hexport|disk|program|reach|sync|cgroup|module|sysctl|name|x)",
                "\\PC{0,40}",
            ),
            0..30,
        ),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let text: String = lines.iter().flat_map(|(kind, rest)| [kind, " ", rest, "\n"]).collect();
        parse(&text);
        parse(&String::from_utf8_lossy(&bytes));
        // What is well-formed is read whatever stands around it.
        let facts = parse(&format!("{text}kernel 6.1.0\n"));
        prop_assert_eq!(facts.kernel, "6.1.0");
    }
}
