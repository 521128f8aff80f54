//! Hosts that cannot be, and clusters that their hosts do not make.

use super::*;

const HOSTS: &[(&str, &str)] = &[
    ("no hosts", "VERSION"),
    ("misspelt hosts have one fault", "VERSION\nhost: []"),
    ("an empty list", "VERSION\nhosts: []"),
    ("an empty item, and one that is no host", "BASE\n-\n- w1"),
    ("a host of nothing", "BASE\n- {}"),
    (
        "names",
        "BASE\n- { name: W_1, address: 10.0.0.2, roles: [worker] }\n- { name: 5, address: 10.0.0.3, roles: [worker] }",
    ),
    (
        "a name of 64 characters",
        "BASE\n- { name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, address: 10.0.0.2, roles: [worker] }",
    ),
    ("a name twice", "BASE\n- { name: cp1, address: 10.0.0.2, roles: [worker] }"),
    ("an address twice", "BASE\n- { name: w1, address: 10.0.0.11, roles: [worker] }"),
    (
        "ranges that meet",
        "BASE\n- { name: 'w[1-9]', address: '10.0.1.[1-9]', roles: [worker] }\n- { name: 'w[8-12]', address: '10.0.1.[8-12]', roles: [worker] }",
    ),
    (
        "a range that meets itself",
        "BASE\n- { name: 'w[1-3,2]', address: '10.0.1.[1-4]', roles: [worker] }",
    ),
    (
        "ranges of different lengths",
        "BASE\n- { name: 'w[1-3]', address: '10.0.1.[1-4]', roles: [worker] }\n- { name: w7, address: '10.0.2.[1-4]', roles: [worker] }\n- { name: 'v[1-3]', address: 10.0.3.1, roles: [worker] }",
    ),
    (
        "no ranges",
        "BASE\n- { name: 'w[1-3', address: '10.0.1.[a]', roles: [worker] }\n- { name: 'r[1-2]n[1-2]', address: '10.0.1.[3-1]', roles: [worker] }\n- { name: 'w[01-200]', address: '10.0.1.[1-20000]', roles: [worker] }",
    ),
    (
        "a range past the end of a network",
        "BASE\n- { name: 'w[1-10]', address: '10.0.1.[250-259]', roles: [worker] }",
    ),
    (
        "addresses",
        "BASE\n- { name: a, address: a.example.com, roles: [worker] }\n- { name: b, address: 10.0.0.2:22, roles: [worker] }\n- { name: c, address: 0.0.0.0, roles: [worker] }\n- { name: d, address: 127.0.0.1, roles: [worker] }\n- { name: e, address: 224.0.0.1, roles: [worker] }\n- { name: f, address: 169.254.0.1, roles: [worker] }\n- { name: g, address: 'fe80::1', roles: [worker] }",
    ),
    (
        "roles",
        "BASE\n- { name: a, address: 10.0.0.2, roles: [] }\n- { name: b, address: 10.0.0.3, roles: [wroker] }\n- { name: c, address: 10.0.0.4, roles: worker }\n- { name: d, address: 10.0.0.5, roles: [worker, worker] }\n- { name: e, address: 10.0.0.6, roles: [worker, ] }",
    ),
    (
        "roles that exclude each other",
        "BASE\n- { name: a, address: 10.0.0.2, roles: [spare, worker] }\n- { name: b, address: 10.0.0.3, roles: [external, worker] }\n- { name: c, address: 10.0.0.4, roles: [controlPlane, monitoring] }\n- { name: d, address: 10.0.0.5, roles: [etcd] }\n- { name: cp3, address: 10.0.0.6, roles: [controlPlane] }",
    ),
    (
        "zones and labels",
        "BASE\n- { name: a, address: 10.0.0.2, roles: [worker], zone: a b }\n- { name: b, address: 10.0.0.3, roles: [worker], zone: '' }\n- name: c\n  address: 10.0.0.4\n  roles: [worker]\n  labels: { kubernetes.io/hostname: x, topology.kubernetes.io/zone: a, a/b/c: d, ok: no way, ratio: 1.5, none: }",
    ),
    (
        "taints",
        "BASE\n- { name: a, address: 10.0.0.2, roles: [worker], taints: ['a=b', 'a:noschedule', '-:NoExecute', 'a=b c:NoExecute', 'a:NoExecute', 'a=b:NoExecute', ] }",
    ),
    (
        "labels and taints of what is no node",
        "BASE\n- { name: x, address: 10.0.0.2, roles: [external], labels: { a: b }, taints: ['a:NoExecute'] }",
    ),
    (
        "settings of what a host does not run",
        "BASE\n- { name: x, address: 10.0.0.2, roles: [external], kubelet: {}, containerd: {}, kubeletExtraArgs: {} }\n- { name: w, address: 10.0.0.3, roles: [worker], apiServer: {}, controllerManager: {}, scheduler: {}, kubeProxy: {} }",
    ),
    (
        "ssh",
        "BASE\n- { name: a, address: 10.0.0.2, roles: [worker], ssh: { user: '-oProxyCommand=x', port: 0, identityFile: '~bob/key' } }\nssh: { user: 'a b', port: 65536, identityFile: '', key: x }",
    ),
    (
        "two hosts that are here",
        "BASE\n- { name: 'w[1-2]', address: '10.0.1.[1-2]', roles: [worker], ssh: { local: true } }",
    ),
];

const COUNTS: &[(&str, &str)] = &[
    ("no control plane", "VERSION\nhosts: [{ name: a, address: 10.0.0.1, roles: [worker] }]"),
    (
        "two control planes",
        "VERSION\nhosts: [{ name: 'a[1-2]', address: '10.0.0.[1-2]', roles: [controlPlane] }]",
    ),
    (
        "four control planes",
        "VERSION\nhosts: [{ name: 'a[1-4]', address: '10.0.0.[1-4]', roles: [controlPlane] }]",
    ),
    (
        "nine control planes",
        "VERSION\nhosts: [{ name: 'a[1-9]', address: '10.0.0.[1-9]', roles: [controlPlane] }]",
    ),
    ("external etcd without hosts", "BASE\ntopology: external"),
    (
        "external etcd on six hosts",
        "BASE\n- { name: 'e[1-6]', address: '10.0.0.[1-6]', roles: [etcd] }\ntopology: external",
    ),
    (
        "what may be there is not missed",
        "VERSION\nhosts: [{ name: a, address: 10.0.0.1, roles: [contrlPlane] }]\ntopology: external\netcd: { backup: { copyTo: [b] } }",
    ),
    (
        "more nodes than Kubernetes takes",
        "BASE\n- { name: 'w[1-5000]', address: '10.[1-5000].0.1', roles: [worker] }\nnetwork: { podCIDR: 10.64.0.0/10, serviceCIDR: 10.128.0.0/12 }",
    ),
];

#[test]
fn every_fault_of_hosts_is_told() {
    insta::assert_snapshot!(told(HOSTS));
}

#[test]
fn clusters_that_cannot_work_are_refused() {
    insta::assert_snapshot!(told(COUNTS));
}

#[test]
fn home_has_to_be_known() {
    let text = file("BASE\nssh: { identityFile: ~/k }");
    let error = parse("c.yaml", &text, Path::new(""), None).unwrap_err();
    assert_eq!(
        error.lines(),
        [
            "c.yaml:8:24: `spec.ssh.identityFile`: `~` cannot be resolved: HOME is not set (write the whole path)"
        ]
    );
}
