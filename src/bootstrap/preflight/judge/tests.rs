//! Every finding by a case of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::bootstrap::needs::{self, sample};
use crate::bootstrap::preflight::clock::Skew;
use crate::bootstrap::preflight::facts::{Disk, Facts, Listener, Module, Program, Reach};
use crate::bootstrap::preflight::finding::{Fix, Level};
use crate::bootstrap::render::host as kernel;
use crate::bootstrap::spec::{Role, Version};

type All = BTreeMap<String, Gathered>;

fn program(package: Option<&str>, version: Option<Version>) -> Program {
    Program { path: "/usr/bin/x".into(), package: package.map(Into::into), version }
}

/// A host of which nothing can be said but good.
fn well(cluster: &Cluster, host: &Host) -> Gathered {
    let tools = needs::tools(cluster.kubernetes_version).into_iter();
    let disk = Disk { free: 100 << 30, size: 200 << 30, mount: "/".into() };
    let folders = ["/var/lib/etcd", "/var/lib/containerd", "/var/lib/kubelet", "/"];
    let peers = needs::peers(cluster, host).into_iter();
    let sysctls = kernel::sysctl(cluster).into_iter();
    let modules = kernel::modules(cluster).into_iter();
    let facts = Facts {
        user: Some(0),
        os: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        kernel: "6.1.0".into(),
        arch: "amd64".into(),
        cpus: Some(2),
        memory: Some(4 << 30),
        hostname: host.name.clone(),
        machine_id: format!("id of {}", host.name),
        product_uuid: format!("uuid of {}", host.name),
        init: "systemd".into(),
        modules: modules.map(|name| (name.to_owned(), Module::Loaded)).collect(),
        cgroup: Some(2),
        controllers: ["cpu", "cpuset", "memory", "pids"].map(Into::into).into(),
        sysctls: sysctls.map(|(name, value)| (name.into(), value.into())).collect(),
        addresses: [host.address].into(),
        disks: folders.map(|folder| (folder.to_owned(), disk.clone())).into(),
        sync: vec![900; 100],
        programs: tools.map(|(tool, _)| (tool.to_owned(), program(None, None))).collect(),
        candidates: [("etcd-server".to_owned(), "3.5.30-1".to_owned())].into(),
        reach: peers.map(|(_, address, port)| ((address, port), Reach::Refused)).collect(),
        ..Facts::default()
    };
    let skew = Skew { ahead: true, off: Duration::from_millis(3), uncertain: Duration::ZERO };
    Gathered { facts, skew: Some(skew) }
}

fn all_well(cluster: &Cluster) -> All {
    cluster.hosts.iter().map(|host| (host.name.clone(), well(cluster, host))).collect()
}

/// What is found that is not well.
fn complaints(cluster: &Cluster, all: &All) -> Vec<(String, Level, &'static str, String)> {
    let found = judge(cluster, all).into_iter().filter(|finding| finding.level != Level::Ok);
    found.map(|found| (found.host, found.level, found.code, found.what)).collect()
}

/// What changes when this changes on one host of a cluster that is well: one finding, with a remedy
/// and one line each.
#[track_caller]
fn expect(
    cluster: &Cluster,
    host: &str,
    change: impl FnOnce(&mut Gathered),
    level: Level,
    code: &str,
    what: &str,
) -> Finding {
    let mut all = all_well(cluster);
    change(all.get_mut(host).unwrap());
    let found = judge(cluster, &all);
    let mut found: Vec<_> =
        found.into_iter().filter(|f| f.host == host && f.level != Level::Ok).collect();
    assert_eq!(found.len(), 1, "one finding about {host}: {found:#?}");
    let found = found.remove(0);
    assert_eq!((found.level, found.code), (level, code), "{}", found.what);
    assert!(found.what.contains(what), "{:?} tells of {what:?}", found.what);
    assert!(!found.remedy.is_empty(), "{code} has a remedy");
    assert!(!found.what.contains('\n') && !found.remedy.contains('\n'));
    assert_eq!(found.fixable, found.fix.is_some());
    found
}

#[test]
fn of_hosts_that_are_well_nothing_else_is_said() {
    for cluster in [sample::stacked(), sample::external()] {
        assert_eq!(complaints(&cluster, &all_well(&cluster)), []);
        let found = judge(&cluster, &all_well(&cluster));
        assert!(found.iter().all(|finding| finding.remedy.is_empty()));
        for code in ["root", "os", "hostname", "clock-skew", "port", "disk-space", "reach"] {
            let of = |finding: &&Finding| finding.code == code && finding.host == "cp1";
            assert_eq!(found.iter().filter(of).count(), 1, "{code}");
        }
    }
}

#[test]
fn the_system_is_judged() {
    let cluster = sample::stacked();
    let on_cp1 = |change: fn(&mut Facts), level, code, what| {
        expect(&cluster, "cp1", |host| change(&mut host.facts), level, code, what)
    };
    let (error, warning) = (Level::Error, Level::Warning);
    on_cp1(|f| f.user = Some(1000), error, "root", "user 1000");
    on_cp1(|f| f.user = None, error, "root", "broke off");
    on_cp1(|f| f.os_version = "10".into(), warning, "os", "older than Debian 11");
    on_cp1(|f| f.os = "rocky".into(), error, "os", "not dnf");
    on_cp1(|f| f.arch = "riscv64".into(), error, "arch", "riscv64");
    on_cp1(|f| f.init = "runit".into(), error, "systemd", "runit");
    on_cp1(|f| f.cpus = Some(1), error, "cpus", "1 processor");
    on_cp1(|f| f.memory = Some(1 << 30), error, "memory", "1024 MiB");
    on_cp1(|f| f.selinux = Some("Enforcing".into()), warning, "selinux", "enforcing");
    let firewall = |f: &mut Facts| f.firewalls.extend(["ufw".into()]);
    let found = on_cp1(firewall, warning, "firewall", "ufw");
    assert_eq!(found.remedy, "let in TCP 2379, 2380, 6443, 10250, 10256 from the other hosts");
    let small = |host: &mut Gathered| host.facts.memory = Some(1 << 30);
    expect(&cluster, "w1", small, warning, "memory", "little for pods");
    let offline = sample::offline(cluster.clone(), "/a");
    let rocky = |host: &mut Gathered| host.facts.os = "rocky".into();
    expect(&offline, "w1", rocky, warning, "os", "not among the systems");
}

#[test]
fn names_are_judged() {
    let cluster = sample::stacked();
    let (error, warning) = (Level::Error, Level::Warning);
    let rename = |host: &mut Gathered| host.facts.hostname = "localhost".into();
    let found =
        expect(&cluster, "w1", rename, warning, "hostname", "\"localhost\", the file \"w1\"");
    assert_eq!(found.fix, Some(Fix::Hostname("w1".into())));
    let joined = |host: &mut Gathered| {
        rename(host);
        host.facts.files.insert("/etc/kubernetes/kubelet.conf".into());
    };
    let found = expect(&cluster, "w1", joined, error, "hostname", "has joined");
    assert!(!found.fixable, "a node is not renamed");
    let none = |host: &mut Gathered| host.facts.machine_id.clear();
    expect(&cluster, "w1", none, error, "machine-id", "no machine id");
    let other = |host: &mut Gathered| host.facts.addresses = [[10, 9, 9, 9].into()].into();
    expect(&cluster, "w1", other, error, "address", "10.0.0.31");
    let dns = |host: &mut Gathered| {
        host.facts.names = [("pkgs.k8s.io".to_owned(), false)].into();
        host.facts.nameservers = vec!["10.0.0.53".into()];
    };
    expect(&cluster, "w1", dns, warning, "dns", "pkgs.k8s.io; its DNS servers are 10.0.0.53");
}

#[test]
fn copies_of_a_machine_are_found_on_both() {
    let cluster = sample::stacked();
    let mut all = all_well(&cluster);
    for host in ["cp2", "cp3"] {
        all.get_mut(host).unwrap().facts.machine_id = "same".into();
    }
    all.get_mut("w1").unwrap().facts.product_uuid = "uuid of cp1".into();
    let found: Vec<_> =
        complaints(&cluster, &all).into_iter().map(|(host, _, code, _)| (host, code)).collect();
    let expected = [
        ("cp1", "product-uuid"),
        ("cp2", "machine-id"),
        ("cp3", "machine-id"),
        ("w1", "product-uuid"),
    ];
    assert_eq!(found, expected.map(|(host, code)| (host.to_owned(), code)));
    // Two addresses that lead to the same machine.
    let mut all = all_well(&cluster);
    all.get_mut("cp2").unwrap().facts.hostname = "cp1".into();
    let found = complaints(&cluster, &all);
    assert!(found.iter().any(|(host, _, code, _)| host == "cp1" && *code == "hostname-twin"));
}

#[test]
fn clocks_are_judged() {
    let cluster = sample::stacked();
    let off = |ahead, milliseconds, uncertain| {
        move |host: &mut Gathered| {
            let (off, uncertain) =
                (Duration::from_millis(milliseconds), Duration::from_millis(uncertain));
            host.skew = Some(Skew { ahead, off, uncertain });
        }
    };
    let what = "its clock is 1 h 0 min behind ours";
    let found = expect(&cluster, "cp2", off(false, 3_600_000, 5), Level::Error, "clock-skew", what);
    assert_eq!(
        found.remedy,
        "run `timedatectl set-ntp true` on it, with chrony or systemd-timesyncd installed"
    );
    let what = "its clock is 2.0 s ahead of ours";
    expect(&cluster, "cp2", off(true, 2000, 100), Level::Warning, "clock-skew", what);
    expect(&cluster, "cp2", |host| host.skew = None, Level::Warning, "clock-skew", "not read");
    let loose = |host: &mut Gathered| host.facts.synchronised = Some(false);
    expect(&cluster, "cp2", loose, Level::Warning, "clock-unsynchronised", "nothing keeps");
    // A slow way proves nothing.
    let mut all = all_well(&cluster);
    off(true, 2000, 1500)(all.get_mut("cp2").unwrap());
    assert_eq!(complaints(&cluster, &all), []);
    // All agree: it is our own clock.
    let mut all = all_well(&cluster);
    all.values_mut().for_each(off(true, 7_200_000, 5));
    let found = judge(&cluster, &all);
    let own = found.iter().filter(|found| found.remedy.ends_with("set the clock of this machine"));
    assert_eq!(own.count(), 4);
}

#[test]
fn the_kernel_is_judged() {
    let mut cluster = sample::stacked();
    let (error, warning) = (Level::Error, Level::Warning);
    let module = |state| {
        move |host: &mut Gathered| host.facts.modules.extend([("br_netfilter".into(), state)])
    };
    let found =
        expect(&cluster, "w1", module(Module::Available), warning, "module", "br_netfilter");
    assert_eq!(found.fix, Some(Fix::Modules));
    expect(&cluster, "w1", module(Module::Missing), error, "module", "has no module br_netfilter");
    let forward = |host: &mut Gathered| {
        host.facts.sysctls.insert("net.ipv4.ip_forward".into(), "0".into());
    };
    let found =
        expect(&cluster, "w1", forward, warning, "sysctl", "net.ipv4.ip_forward is 0, not 1");
    assert_eq!(found.fix, Some(Fix::Sysctls));
    let more = |host: &mut Gathered| {
        host.facts.sysctls.insert("fs.inotify.max_user_instances".into(), "99999".into());
    };
    let mut all = all_well(&cluster);
    more(all.get_mut("w1").unwrap());
    assert_eq!(complaints(&cluster, &all), [], "more than enough is enough");
    let swap = |host: &mut Gathered| host.facts.swap.push("/dev/sda2".into());
    let found = expect(&cluster, "w1", swap, warning, "swap", "/dev/sda2");
    assert_eq!(found.fix, Some(Fix::Swap));
    let memory = |host: &mut Gathered| host.facts.controllers.retain(|name| name != "memory");
    expect(&cluster, "w1", memory, error, "cgroup", "missing: memory");
    expect(&cluster, "w1", |host| host.facts.cgroup = None, error, "cgroup", "no cgroups");
    let v1 = |host: &mut Gathered| host.facts.cgroup = Some(1);
    expect(&cluster, "w1", v1, warning, "cgroup", "only maintains since 1.31");
    cluster.kubernetes_version = Version::new(1, 35, 0);
    expect(&cluster, "w1", v1, error, "cgroup", "refuses to start since 1.35");
    // What the file says wins.
    cluster.overrides.kubelet.insert("failCgroupV1".into(), false.into());
    cluster.hosts[3].overrides.kubelet.insert("failSwapOn".into(), false.into());
    let mut all = all_well(&cluster);
    v1(all.get_mut("w1").unwrap());
    swap(all.get_mut("w1").unwrap());
    let found: Vec<_> = complaints(&cluster, &all).into_iter().map(|found| found.2).collect();
    assert_eq!(found, ["cgroup"], "a warning is left, and no word of swap");
}

#[test]
fn ports_are_judged() {
    let cluster = sample::external();
    let held = |port, owner: Option<&'static str>| {
        move |host: &mut Gathered| {
            let (address, owner) = ("0.0.0.0".to_owned(), owner.map(Into::into));
            host.facts.listeners.push(Listener { address, port, owner });
        }
    };
    let what = "port 6443 is held by haproxy (0.0.0.0), and kube-apiserver needs it";
    expect(&cluster, "cp1", held(6443, Some("haproxy")), Level::Error, "port", what);
    let what = "port 6443 is held, and apiproxy needs it";
    expect(&cluster, "w1", held(6443, None), Level::Error, "port", what);
    expect(&cluster, "e1", held(2380, Some("consul")), Level::Error, "port", "consul");
    for (host, port, owner) in [
        ("cp1", 6443, "kube-apiserver"),
        // Cut at 15 bytes by the kernel.
        ("cp1", 10257, "kube-controller"),
        ("w1", 6443, "apiproxy"),
        ("e1", 2379, "etcd"),
        ("e1", 6443, "haproxy"),
        ("cp1", 22, "sshd"),
    ] {
        let mut all = all_well(&cluster);
        held(port, Some(owner))(all.get_mut(host).unwrap());
        assert_eq!(complaints(&cluster, &all), [], "{owner} may hold {port} on {host}");
    }
}

#[test]
fn disks_are_judged() {
    let cluster = sample::stacked();
    let free = |folder: &'static str, free| {
        move |host: &mut Gathered| host.facts.disks.get_mut(folder).unwrap().free = free
    };
    let full = free("/var/lib/etcd", 10 << 20);
    expect(&cluster, "cp1", full, Level::Error, "disk-full", "10 MiB are free on /");
    let little = free("/var/lib/containerd", 5 << 30);
    expect(&cluster, "w1", little, Level::Warning, "disk-space", "5.0 GiB are free");
    let slow = |host: &mut Gathered| host.facts.sync[..2].fill(25_300);
    expect(&cluster, "cp1", slow, Level::Warning, "disk-sync", "takes 25.3 ms");
    let not = |host: &mut Gathered| host.facts.sync.clear();
    expect(&cluster, "cp1", not, Level::Warning, "disk-sync", "was not measured");
    // One slow write of a hundred is no more than the guidance allows, and workers have no etcd.
    let mut all = all_well(&cluster);
    all.get_mut("cp1").unwrap().facts.sync[0] = 90_000;
    all.get_mut("w1").unwrap().facts.sync.clear();
    free("/var/lib/etcd", 1 << 30)(all.get_mut("w1").unwrap());
    assert_eq!(complaints(&cluster, &all), []);
}

#[test]
fn programs_are_judged() {
    let mut cluster = sample::stacked();
    let (error, warning) = (Level::Error, Level::Warning);
    let has = |name: &'static str, version: Version, files: &'static [&'static str]| {
        move |host: &mut Gathered| {
            let found = program(Some(name), Some(version));
            host.facts.programs.insert(name.into(), found);
            host.facts.held.insert(name.into());
            host.facts.files.extend(files.iter().map(|file| (*file).to_owned()));
        }
    };
    let v = Version::new;
    let joined = &["/etc/kubernetes/kubelet.conf"][..];
    let lost = |host: &mut Gathered| drop(host.facts.programs.remove("iptables"));
    let found = expect(&cluster, "w1", lost, warning, "tool", "iptables is not installed");
    assert_eq!(found.fix, Some(Fix::Package("iptables")));
    let old = has("kubelet", v(1, 33, 1), &[]);
    let found = expect(&cluster, "w1", old, warning, "version", "kubelet is v1.33.1");
    assert!(found.remedy.contains("`apply` installs"));
    let containerd = |host: &mut Gathered| {
        has("containerd", v(1, 7, 2), &[])(host);
    };
    let with = |version, host: &mut Gathered| {
        containerd(host);
        has("kubelet", version, joined)(host);
    };
    let behind = |host: &mut Gathered| with(v(1, 33, 1), host);
    let found = expect(&cluster, "w1", behind, warning, "version", "the file says v1.34.2");
    assert!(found.remedy.contains("bootstrap upgrade"), "{}", found.remedy);
    for far in [v(1, 30, 9), v(1, 35, 0)] {
        expect(&cluster, "w1", |host| with(far, host), error, "version", "too far from v1.34.2");
    }
    let loose = |host: &mut Gathered| {
        has("kubelet", v(1, 34, 2), &[])(host);
        host.facts.held.clear();
    };
    expect(&cluster, "w1", loose, warning, "held", "kubelet is not held");
    let other = |host: &mut Gathered| has("kubelet", v(1, 34, 2), joined)(host);
    expect(&cluster, "w1", other, error, "runtime", "another container runtime");
    cluster.kubernetes_version = v(1, 36, 0);
    expect(
        &cluster,
        "w1",
        containerd,
        error,
        "containerd",
        "containerd v1.7.2 (package containerd)",
    );
    let candidate = |host: &mut Gathered| {
        host.facts.candidates.insert("containerd".into(), "1.6.20~ds1-1".into());
    };
    expect(
        &cluster,
        "w1",
        candidate,
        error,
        "containerd",
        "the distribution has containerd v1.6.20",
    );
    cluster.kubernetes_version = v(1, 31, 0);
    let lost = |host: &mut Gathered| drop(host.facts.programs.remove("conntrack"));
    expect(&cluster, "w1", lost, warning, "tool", "conntrack");
    let offline = sample::offline(cluster, "/a");
    let found = expect(&offline, "w1", lost, error, "tool", "conntrack");
    assert!(found.remedy.contains("debs/") && !found.fixable);
}

#[test]
fn etcd_is_judged() {
    let cluster = sample::external();
    let candidate = |version: Option<&'static str>| {
        move |host: &mut Gathered| {
            host.facts.candidates.clear();
            let version = version.map(|version| ("etcd-server".to_owned(), version.to_owned()));
            host.facts.candidates.extend(version);
        }
    };
    let what = "etcd v3.4.23 is too old: kubeadm v1.34 wants v3.5.24 or newer";
    expect(&cluster, "e1", candidate(Some("3.4.23-4+b4")), Level::Error, "etcd", what);
    expect(&cluster, "e1", candidate(None), Level::Error, "etcd", "no package etcd-server");
    let mut all = all_well(&cluster);
    let e1 = all.get_mut("e1").unwrap();
    candidate(None)(e1);
    e1.facts.programs.insert("etcd".into(), program(None, Some(Version::new(3, 5, 26))));
    assert_eq!(complaints(&cluster, &all), [], "it is there");
}

#[test]
fn ways_between_hosts_are_judged() {
    let cluster = sample::stacked();
    let reach = |outcome| {
        move |host: &mut Gathered| {
            host.facts.reach.extend([(([10, 0, 0, 12].into(), 6443), outcome)]);
        }
    };
    let what = "no answer from port 6443 of cp2 (10.0.0.12)";
    let found = expect(&cluster, "w1", reach(Reach::Silent), Level::Error, "reach", what);
    assert_eq!(found.remedy, "let TCP 6443 through from 10.0.0.31: a firewall drops it");
    expect(&cluster, "w1", reach(Reach::Unreachable), Level::Error, "reach", "no way to port 6443");
    expect(&cluster, "w1", reach(Reach::Untried), Level::Warning, "reach", "was not tried");
    let mut all = all_well(&cluster);
    reach(Reach::Open)(all.get_mut("w1").unwrap());
    assert_eq!(complaints(&cluster, &all), []);
    let ports = |host: &str| {
        let host = cluster.host(host).unwrap();
        needs::peers(&cluster, host).into_iter().map(|(name, _, port)| (name, port)).collect()
    };
    let of_worker: Vec<(String, u16)> = ports("w1");
    assert_eq!(of_worker, ["cp1", "cp2", "cp3"].map(|name| (name.to_owned(), 6443)));
    assert!(ports("cp1").contains(&("w1".to_owned(), 10250)), "logs and exec go that way");
    let external = sample::external();
    let of_member = needs::peers(&external, external.host("e1").unwrap());
    let of_member: Vec<_> =
        of_member.iter().map(|(name, _, port)| (name.as_str(), *port)).collect();
    assert_eq!(of_member, [("e2", 2379), ("e2", 2380), ("e3", 2379), ("e3", 2380)]);
}

#[test]
fn a_thousand_workers_are_not_all_tried_from_each_control_plane() {
    let mut cluster = sample::stacked();
    for n in 0..1000_u32 {
        let mut host = sample::host(&format!("n{n}"), 1, Role::Worker);
        host.address = std::net::Ipv4Addr::from(0x0a01_0000 + n).into();
        cluster.hosts.push(host);
    }
    let peers = needs::peers(&cluster, &cluster.hosts[0]);
    assert_eq!(peers.iter().filter(|(.., port)| *port == 10250).count(), 32);
}

#[test]
fn only_hosts_that_answered_are_judged() {
    let cluster = sample::stacked();
    let mut all = all_well(&cluster);
    all.remove("cp3");
    assert!(judge(&cluster, &all).iter().all(|finding| finding.host != "cp3"));
}
