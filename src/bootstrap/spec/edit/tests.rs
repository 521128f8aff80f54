//! What is changed in a text, and what stays.

use std::collections::BTreeSet;
use std::path::Path;

use super::{with_replacement, with_version};
use crate::bootstrap::spec::{Cluster, Host, Role, Topology, Version, example, parse};

fn cluster(text: &str) -> Cluster {
    parse("cluster.yaml", text, Path::new(""), None)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn file(hosts: &str, rest: &str) -> String {
    format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
         kubernetesVersion: v1.34.2\n{hosts}{rest}"
    )
}

/// The new host of the file with the roles of the old one.
fn with_roles(text: &str, old: &str, new: &str) -> Host {
    let cluster = cluster(text);
    let gone = cluster.host(old).unwrap();
    let mut comes = cluster.host(new).unwrap().clone();
    comes.roles.clone_from(&gone.roles);
    comes.labels.extend(gone.labels.clone());
    comes.taints.clone_from(&gone.taints);
    comes.overrides = comes.overrides.or(&gone.overrides);
    comes
}

/// The lines that go, and those that come, after it was seen that the text says what was wished.
fn replaced(text: &str, old: &str, new: &str) -> String {
    let comes = with_roles(text, old, new);
    let changed = with_replacement(text, None, old, &comes).unwrap().0;
    let after = cluster(&changed);
    assert_eq!(after.host(old), None, "{changed}");
    assert_eq!(after.host(new), Some(&comes), "{changed}");
    assert_eq!(after.hosts.len() + 1, cluster(text).hosts.len(), "{changed}");
    let diff = similar::TextDiff::from_lines(text, &changed);
    let lines = diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal);
    lines.map(|line| format!("{}{line}", line.tag())).collect::<Vec<_>>().concat()
}

const FLOW: &str = "  hosts:            # ours
    # the control planes
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane], zone: a }   # first
    - { name: cp2, address: 10.0.0.12, roles: [controlPlane], zone: b }   # in rack b
    - { name: cp3, address: 10.0.0.13, roles: [controlPlane] }

    - { name: \"w[001-200]\", address: \"10.0.1.[1-200]\", roles: [worker], labels: { disk: ssd } }
    # these wait
    - { name: 's[1-3]', address: '10.0.0.[41-43]', roles: [spare], zone: c }   # 64 GiB
    - { name: s9, address: 10.0.0.49, roles: [ spare ] }   # the last
";

#[test]
fn a_spare_of_its_own_line_changes_its_roles_and_the_old_line_goes() {
    assert_eq!(
        replaced(&file(FLOW, ""), "cp2", "s9"),
        "-    - { name: cp2, address: 10.0.0.12, roles: [controlPlane], zone: b }   # in rack b\n\
         -    - { name: s9, address: 10.0.0.49, roles: [ spare ] }   # the last\n\
         +    - { name: s9, address: 10.0.0.49, roles: [controlPlane] }   # the last\n"
    );
}

#[test]
fn one_of_a_range_leaves_it_and_one_of_another_gets_its_own_line() {
    assert_eq!(
        replaced(&file(FLOW, ""), "w017", "s2"),
        "-    - { name: \"w[001-200]\", address: \"10.0.1.[1-200]\", roles: [worker], labels: { disk: ssd } }\n\
         +    - { name: \"w[001-016,018-200]\", address: \"10.0.1.[1-16,18-200]\", roles: [worker], labels: { disk: ssd } }\n\
         -    - { name: 's[1-3]', address: '10.0.0.[41-43]', roles: [spare], zone: c }   # 64 GiB\n\
         +    - { name: 's[1,3]', address: '10.0.0.[41,43]', roles: [spare], zone: c }   # 64 GiB\n\
         +    - { name: 's2', address: '10.0.0.42', roles: [worker], zone: c, labels: { disk: \"ssd\" } }   # 64 GiB\n"
    );
}

#[test]
fn entries_of_many_lines_keep_their_form() {
    let hosts = "  hosts:
  - name: cp1
    address: 10.0.0.11
    roles: [controlPlane]
  -
    name: gpu1   # loud
    address: 10.0.0.31

    roles:
      - worker
    labels:
      example.com/gpu: a100
    taints: [\"example.com/gpu=a100:NoSchedule\"]
    # its own way in
    ssh: { user: root }

  # a spare
  - roles:
      # idle
      - spare
    name: s1
    labels:
      rack: \"7\"   # of the hall
    address: 10.0.0.41
  - name: w[1-2]
    address: 10.0.1.[1-2]
    roles: [worker]
";
    assert_eq!(
        replaced(&file(hosts, ""), "gpu1", "s1"),
        "-  -\n-    name: gpu1   # loud\n-    address: 10.0.0.31\n-    roles:\n-      - worker\n\
         -    labels:\n-      example.com/gpu: a100\n-    taints: [\"example.com/gpu=a100:NoSchedule\"]\n\
         -    # its own way in\n-    ssh: { user: root }\n-\n\
         -      - spare\n+      - worker\n+      example.com/gpu: \"a100\"\n\
         +    taints: [\"example.com/gpu=a100:NoSchedule\"]\n"
    );
    assert_eq!(
        replaced(&file(hosts, ""), "w1", "s1"),
        "-      - spare\n+      - worker\n-  - name: w[1-2]\n-    address: 10.0.1.[1-2]\n\
         +  - name: w2\n+    address: 10.0.1.2\n"
    );
}

#[test]
fn lists_in_brackets_lose_an_item_with_its_comma() {
    let hosts = "  hosts: [{name: cp1, address: 10.0.0.11, roles: [controlPlane]},
    {name: \"w[1-2]\", address: \"10.0.0.[21-22]\", roles: [worker]}, {name: \"s[1-2]\", address: \"10.0.0.[31-32]\", roles: [spare]},
    {name: w9, address: 10.0.0.29, roles: [worker]}]\n";
    let text = file(hosts, "");
    assert_eq!(
        replaced(&text, "w9", "s1"),
        "-    {name: \"w[1-2]\", address: \"10.0.0.[21-22]\", roles: [worker]}, {name: \"s[1-2]\", address: \"10.0.0.[31-32]\", roles: [spare]},\n\
         -    {name: w9, address: 10.0.0.29, roles: [worker]}]\n\
         +    {name: \"w[1-2]\", address: \"10.0.0.[21-22]\", roles: [worker]}, {name: \"s2\", address: \"10.0.0.32\", roles: [spare]}, {name: \"s1\", address: \"10.0.0.31\", roles: [worker]}]\n"
    );
    replaced(&text, "w2", "s2");
}

#[test]
fn copies_of_backups_follow() {
    let of = |copies: &str| file(FLOW, &format!("  etcd:\n    backup:\n      copyTo: {copies}\n"));
    let copies = |copies: &str, old, new| {
        let text = of(copies);
        let changed = with_replacement(&text, None, old, &with_roles(&text, old, new)).unwrap().0;
        cluster(&changed).etcd.backup.unwrap().copy_to
    };
    assert_eq!(copies("[cp2, s2]   # twice", "cp2", "s9"), ["s9", "s2"]);
    assert_eq!(copies("[cp2, s9]", "cp2", "s9"), ["s9"]);
    assert_eq!(copies("[s9, \"cp2\"]", "cp2", "s9"), ["s9"]);
    assert_eq!(copies("\n        - s9\n        # near\n        - cp2", "cp2", "s9"), ["s9"]);
    assert_eq!(copies("[s9]", "cp2", "s9"), ["s9"]);
    let drills = of("[cp2]\n      drill: { host: 'cp2' }   # weekly");
    let wished = with_roles(&drills, "cp2", "s9");
    let changed = with_replacement(&drills, None, "cp2", &wished).unwrap().0;
    assert!(changed.contains("drill: { host: 's9' }   # weekly"), "{changed}");
}

#[test]
fn a_host_that_has_the_roles_already_keeps_its_line() {
    let text = file(FLOW, "");
    assert_eq!(
        replaced(&text, "w001", "w200"),
        "-    - { name: \"w[001-200]\", address: \"10.0.1.[1-200]\", roles: [worker], labels: { disk: ssd } }\n\
         +    - { name: \"w[002-200]\", address: \"10.0.1.[2-200]\", roles: [worker], labels: { disk: ssd } }\n"
    );
}

#[test]
fn the_version_alone_changes() {
    let version = Version::new(1, 35, 1);
    for line in ["v1.34.2  # with care", "\"v1.34.2\"", "'1.34.2'   ", "v1.34.2"] {
        let text = file(FLOW, "").replace("v1.34.2", line);
        let changed = with_version(&text, version).unwrap();
        let new = line.replace("v1.34.2", "v1.35.1").replace("1.34.2", "v1.35.1");
        assert_eq!(changed, file(FLOW, "").replace("v1.34.2", &new));
    }
    let marked = format!("\u{feff}{}", file(FLOW, ""));
    assert!(with_version(&marked, version).unwrap().starts_with("\u{feff}apiVersion"));
    let windows = file(FLOW, "").replace('\n', "\r\n");
    let changed = with_version(&windows, version).unwrap();
    assert_eq!(changed, windows.replace("v1.34.2", "v1.35.1"));
    assert!(with_version("kind: [", version).unwrap_err().to_string().contains("mend the file"));
    assert!(with_version("kind: Cluster\n", version).unwrap_err().to_string().contains("v1.35.1"));
}

#[test]
fn every_host_of_the_examples_can_be_replaced() {
    for topology in [Topology::Stacked, Topology::External] {
        let text = example(topology, "prod");
        let hosts = cluster(&text).hosts;
        for host in hosts.iter().filter(|host| host.roles != BTreeSet::from([Role::Spare])) {
            replaced(&text, &host.name, "s1");
        }
    }
}

#[test]
fn rows_of_the_table_change_as_entries_do() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "# from the inventory
name, address, roles, zone, labels
w[1-3],10.0.1.[1-3],worker,a,\"disk=ssd;rack=7\"
gpu1,  10.0.1.9,  worker
s[1-2],10.0.2.[1-2],spare,b
s9,10.0.2.9,spare
";
    let text = file(
        "  hosts:\n    - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }\n    - { name: s8, address: 10.0.2.8, roles: [spare] }\n  hostsFrom: hosts.csv\n",
        "",
    );
    let load = |text: &str, rows: &str| {
        std::fs::write(folder.path().join("hosts.csv"), rows).unwrap();
        parse("cluster.yaml", text, folder.path(), None).unwrap_or_else(|error| panic!("{error}"))
    };
    let replaced = |old: &str, new: &str| {
        let before = load(&text, rows);
        let mut comes = before.host(new).unwrap().clone();
        comes.roles = before.host(old).unwrap().roles.clone();
        comes.labels = before.host(old).unwrap().labels.clone();
        let (file, table) = with_replacement(&text, Some(rows), old, &comes).unwrap();
        let table = table.unwrap();
        let after = load(&file, &table);
        assert_eq!((after.host(old), after.host(new)), (None, Some(&comes)), "{table}");
        assert_eq!(after.hosts.len() + 1, before.hosts.len());
        (file, table)
    };
    let (file, table) = replaced("w2", "s1");
    assert_eq!(file, text);
    assert_eq!(
        table,
        "# from the inventory\nname, address, roles, zone, labels\n\
         \"w[1,3]\",\"10.0.1.[1,3]\",worker,a,\"disk=ssd;rack=7\"\ngpu1,  10.0.1.9,  worker\n\
         s2,10.0.2.2,spare,b\ns1,10.0.2.1,worker,b,disk=ssd;rack=7\ns9,10.0.2.9,spare\n"
    );
    let (_, table) = replaced("w1", "s9");
    assert!(table.ends_with("s9,10.0.2.9,worker,,disk=ssd;rack=7\n"), "{table}");
    let (file, table) = replaced("gpu1", "s8");
    assert!(
        !table.contains("gpu1") && file.contains("s8, address: 10.0.2.8, roles: [worker]"),
        "{file}"
    );
    assert!(replaced("cp1", "s9").1.ends_with("s9,10.0.2.9,controlPlane\n"));
}

#[test]
fn settings_of_components_go_over_unless_there_are_own_ones() {
    let hosts = "  hosts:
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }
    - name: w1
      address: 10.0.0.31
      roles: [worker]
      kubelet: { maxPods: 200, evictionHard: { \"memory.available\": 5% } }
      kubeletExtraArgs: { v: 4 }
    - name: s1
      address: 10.0.0.41
      roles: [spare]
      kubelet: { maxPods: 50 }
    - { name: s2, address: 10.0.0.42, roles: [spare] }
";
    let first = replaced(&file(hosts, ""), "w1", "s1");
    assert!(first.ends_with("+      kubeletExtraArgs: {\"v\":\"4\"}\n"), "{first}");
    let second = replaced(&file(hosts, ""), "w1", "s2");
    let line = "roles: [worker], kubelet: {\"evictionHard\":{\"memory.available\":\"5%\"},\"maxPods\":200}, ";
    assert!(second.contains(line), "{second}");
}

#[test]
fn a_host_that_is_nowhere_is_left_to_its_owner() {
    let text = file(FLOW, "");
    let mut stranger = with_roles(&text, "cp1", "s9");
    stranger.name = "x".to_owned();
    let error = with_replacement(&text, None, "cp1", &stranger).unwrap_err().to_string();
    assert!(error.starts_with("x is written in a way that is not understood"), "{error}");
}
