//! Files that are fine, and what they mean.

use std::net::IpAddr;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.hosts.iter().map(|host| host.name.as_str()).collect()
}

/// The sample of the design, whole.
const DESIGN: &str = r#"apiVersion: apiproxy.io/v1alpha1
kind: Cluster
metadata: { name: prod }
spec:
  kubernetesVersion: v1.34.2
  endpoint: { name: apiserver.prod.local, port: 6443 }   # 127.0.0.1 on every node, through /etc/hosts
  topology: external                                     # | stacked
  ssh: { user: ops, port: 22, identityFile: ~/.ssh/id_ed25519, sudo: true }
  hosts:
    - { name: cp1, address: 10.0.0.11, roles: [controlPlane] }
    - { name: e1,  address: 10.0.0.21, roles: [etcd] }       # external topology only
    - { name: w1,  address: 10.0.0.31, roles: [worker], zone: a }
    - { name: s1,  address: 10.0.0.41, roles: [spare] }      # prepared, idle
    - { name: x1,  address: 10.0.0.51, roles: [external] }   # runs controllers outside the cluster
  network: { podCIDR: 10.244.0.0/16, serviceCIDR: 10.96.0.0/12, cni: { manifest: ./cni.yaml } }
  artifacts: { from: packages }                          # | from: directory, path: ./artifacts (air-gapped)
  etcd: { backup: { schedule: "0 */6 * * *", keep: 28, directory: /var/lib/apiproxy/backups, copyTo: [s1] } }
  monitoring: { enabled: true, pushgateway: false }
  extensions:
    - { name: batch-scheduler, kind: scheduler, placement: controlPlane, image: registry.local/batch:1.2 }
    - { name: billing-controller, kind: controller, placement: external, command: [/opt/billing/controller] }
"#;

#[test]
fn the_sample_of_the_design_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cni.yaml"), "").unwrap();
    let path = folder.path().join("cluster.yaml");
    std::fs::write(&path, DESIGN).unwrap();
    let cluster = load(&path).unwrap();
    assert_eq!(cluster.name, "prod");
    assert_eq!(cluster.topology, Topology::External);
    assert_eq!(names(&cluster), ["cp1", "e1", "w1", "s1", "x1"]);
    assert_eq!(cluster.etcd_hosts().map(|host| &host.name).collect::<Vec<_>>(), ["e1"]);
    assert_eq!(cluster.host("w1").unwrap().zone.as_deref(), Some("a"));
    assert_eq!(cluster.network.cni, Cni::Manifest(folder.path().join("./cni.yaml")));
    let ssh = &cluster.hosts[0].ssh;
    let key = std::env::home_dir().unwrap().join(".ssh/id_ed25519");
    assert_eq!(
        (ssh.user.as_deref(), ssh.port, &ssh.identity_file),
        (Some("ops"), Some(22), &Some(key))
    );
    let backup = cluster.etcd.backup.unwrap();
    assert_eq!((backup.keep, backup.copy_to), (28, vec!["s1".to_owned()]));
    let image = "registry.local/batch:1.2".to_owned();
    let command = vec!["/opt/billing/controller".to_owned()];
    let placements: Vec<_> =
        cluster.extensions.into_iter().map(|e| (e.kind, e.placement)).collect();
    assert_eq!(
        placements,
        [
            (ExtensionKind::Scheduler, Placement::ControlPlane { image }),
            (ExtensionKind::Controller, Placement::External { command }),
        ]
    );
}

#[test]
fn the_rest_has_defaults() {
    let cluster = good("BASE");
    let ssh = Ssh { user: None, port: None, identity_file: None, sudo: true, local: false };
    let expected = Cluster {
        name: "prod".to_owned(),
        kubernetes_version: Version::new(1, 34, 2),
        endpoint: Endpoint { name: "apiserver.prod.local".to_owned(), port: 6443 },
        topology: Topology::Stacked,
        ssh: ssh.clone(),
        hosts: vec![Host {
            name: "cp1".to_owned(),
            address: ip("10.0.0.11"),
            roles: [Role::ControlPlane].into(),
            zone: None,
            labels: [].into(),
            taints: Vec::new(),
            ssh,
            overrides: Overrides::default(),
        }],
        network: Network {
            pod_cidrs: vec![(ip("10.244.0.0"), 16)],
            service_cidrs: vec![(ip("10.96.0.0"), 12)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::None,
        },
        artifacts: Artifacts::Packages {
            kubernetes_mirror: None,
            distribution_mirror: None,
            registry: None,
        },
        etcd: Etcd { version: None, extra_args: [].into(), backup: None },
        monitoring: Monitoring { enabled: true, pushgateway: false },
        extensions: Vec::new(),
        overrides: Overrides::default(),
        audit: false,
        encryption_at_rest: false,
    };
    assert_eq!(cluster, expected);
    let backup = good("BASE\netcd: { backup: {} }").etcd.backup.unwrap();
    let expected = EtcdBackup {
        schedule: "0 */6 * * *".to_owned(),
        keep: 28,
        directory: "/var/lib/apiproxy/backups".to_owned(),
        copy_to: Vec::new(),
        to_spares: true,
        recipients: Vec::new(),
        s3: None,
        drill: None,
    };
    assert_eq!(backup, expected);
    for (text, host, schedule) in [
        ("drill: {}", "cp1", "30 4 * * 0"),
        ("copyTo: [cp1], drill: { schedule: '0 1 1 * *' }", "cp1", "0 1 1 * *"),
    ] {
        let cluster = good(&format!("BASE\netcd: {{ backup: {{ {text} }} }}"));
        assert_eq!(cluster.drill_host().unwrap().name, host);
        assert_eq!(cluster.etcd.backup.unwrap().drill.unwrap().schedule, schedule);
    }
}

#[test]
fn spares_get_copies_of_backups_unless_the_file_says_who_does() {
    let spares = "- { name: 's[1-2]', address: '10.0.0.[41-42]', roles: [spare] }";
    let copies = |backup: &str| {
        let text = format!("BASE\n{spares}\netcd: {{ backup: {{ {backup} }} }}");
        good(&text).etcd.backup.unwrap().copy_to
    };
    assert_eq!(copies(""), ["s1", "s2"]);
    assert_eq!(copies("copyTo: [s2]"), ["s2"]);
    assert_eq!(copies("copyTo: []"), [""; 0]);
}

#[test]
fn ranges_make_many_hosts() {
    let cluster = good(
        "BASE\n- { name: 'w[001-200]', address: '10.0.1.[1-200]', roles: [worker], zone: b }\n\
         - { name: 'v[1-2,7]', address: '10.0.2.[5,9-10]', roles: [worker] }",
    );
    assert_eq!(cluster.hosts.len(), 204);
    assert_eq!(names(&cluster)[198..], ["w198", "w199", "w200", "v1", "v2", "v7"]);
    let last = cluster.host("w200").unwrap();
    assert_eq!((last.address, last.zone.as_deref()), (ip("10.0.1.200"), Some("b")));
    assert_eq!(cluster.host("v2").unwrap().address, ip("10.0.2.9"));
    assert_eq!(cluster.host("w001").unwrap().address, ip("10.0.1.1"));
}

#[test]
fn a_host_may_say_otherwise_how_it_is_reached() {
    let cluster = good(
        "VERSION\nssh: { user: ops, port: 2222, identityFile: keys/a, sudo: false }\nhosts:\n\
         - { name: a, address: 10.0.0.1, roles: [controlPlane] }\n\
         - { name: b, address: 10.0.0.2, roles: [worker], ssh: { user: root, identityFile: ~/b } }\n\
         - { name: c, address: 10.0.0.3, roles: [worker], ssh: { user: x, port: 22 } }\n\
         - { name: d, address: 10.0.0.4, roles: [worker], ssh: { local: true, identityFile: /k } }",
    );
    let ssh = |user: &str, port, file: &str, sudo, local| Ssh {
        user: Some(user.to_owned()),
        port: Some(port),
        identity_file: Some(file.into()),
        sudo,
        local,
    };
    let found: Vec<_> = cluster.hosts.into_iter().map(|host| host.ssh).collect();
    assert_eq!(
        found,
        [
            ssh("ops", 2222, "/nowhere/keys/a", false, false),
            ssh("root", 2222, "/home/me/b", false, false),
            ssh("x", 22, "/nowhere/keys/a", true, false),
            ssh("ops", 2222, "/k", false, true),
        ]
    );
}

#[test]
fn components_may_be_set_otherwise() {
    let cluster = good(
        "BASE\n- name: w1\n  address: 10.0.0.31\n  roles: [worker]\n  labels: { a.io/b: 1, c: true }\n  \
         taints: ['a=b:NoExecute', 'a:NoSchedule']\n  kubelet: { maxPods: 50 }\n  kubeletExtraArgs: { v: 4 }\n\
         kubelet: { maxPods: 200, evictionHard: { memory.available: 5% } }\n\
         containerd: { debug: { level: info } }\n\
         apiServer: { extraArgs: { goaway-chance: '0.001', v: 2, profiling: false } }\n\
         controllerManager: { extraArgs: { concurrent-gc-syncs: 30 } }\n\
         scheduler: { extraArgs: { v: 1 } }\n\
         kubeProxy: { mode: nftables }\nkubeletExtraArgs: { v: 2 }\naudit: true\nencryptionAtRest: true\n\
         etcd: { extraArgs: { quota-backend-bytes: 8589934592 } }",
    );
    let all = &cluster.overrides;
    assert_eq!(all.kubelet["maxPods"], 200);
    assert_eq!(all.kubelet["evictionHard"]["memory.available"], "5%");
    assert_eq!(all.containerd["debug"]["level"], "info");
    let flags = [("goaway-chance", "0.001"), ("profiling", "false"), ("v", "2")];
    let flags = flags.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(all.api_server, flags.into());
    assert_eq!(all.controller_manager["concurrent-gc-syncs"], "30");
    assert_eq!((all.scheduler["v"].as_str(), all.kubelet_flags["v"].as_str()), ("1", "2"));
    assert_eq!(all.kube_proxy["mode"], "nftables");
    assert!(cluster.audit && cluster.encryption_at_rest);
    assert_eq!(cluster.etcd.extra_args["quota-backend-bytes"], "8589934592");
    let worker = cluster.host("w1").unwrap();
    assert_eq!((worker.labels["a.io/b"].as_str(), worker.labels["c"].as_str()), ("1", "true"));
    let taints: Vec<_> = worker.taints.iter().map(|t| (&*t.key, &*t.value, &*t.effect)).collect();
    assert_eq!(taints, [("a", "b", "NoExecute"), ("a", "", "NoSchedule")]);
    assert_eq!(worker.overrides.kubelet["maxPods"], 50);
    assert_eq!(worker.overrides.kubelet_flags["v"], "4");
}

#[test]
fn what_works_is_taken() {
    let external = "topology: external\nVERSION\nhosts:\n- { name: 'cp[1-2]', address: '10.0.0.[1-2]', roles: [controlPlane] }\n";
    for spec in [
        // Both families, and IPv6 alone.
        "BASE\nnetwork: { podCIDR: '10.244.0.0/16,fd00:244::/48', serviceCIDR: '10.96.0.0/12, fd00:96::/108' }".to_owned(),
        "VERSION\nhosts: [{ name: a, address: 'fd00::1', roles: [controlPlane] }]\n\
         network: { podCIDR: 'fd00:244::/56', serviceCIDR: 'fd00:96::/112' }"
            .to_owned(),
        // An external etcd leaves the number of control planes free, and may share their hosts.
        format!("{external}- {{ name: 'e[1-5]', address: '10.0.0.[21-25]', roles: [etcd] }}\netcd: {{ version: v3.5.26 }}"),
        format!("{external}- {{ name: cp3, address: 10.0.0.3, roles: [controlPlane, etcd] }}"),
        // A control plane that takes pods.
        "VERSION\nhosts: [{ name: a, address: 10.0.0.1, roles: [controlPlane, worker] }]".to_owned(),
        // Outside of the cluster.
        "BASE\n- { name: x, address: 10.0.0.12, roles: [external, monitoring] }".to_owned(),
        // Sources of all kinds.
        "BASE\nartifacts: { from: directory, path: ./artifacts }".to_owned(),
        "BASE\nartifacts: { kubernetesMirror: 'http://m:81/k', registry: r.local:5000/k8s,\n  distributionMirror: 'deb http://m/debian trixie main' }".to_owned(),
        // A node's part of the pods may be smaller, and nobody may divide them at all.
        "BASE\nnetwork: { podCIDR: 10.244.0.0/25 }\ncontrollerManager: { extraArgs: { node-cidr-mask-size: 26 } }".to_owned(),
        "BASE\nnetwork: { podCIDR: 10.244.0.0/28 }\ncontrollerManager: { extraArgs: { allocate-node-cidrs: false } }".to_owned(),
        // What is ours only when it is asked of us.
        "BASE\napiServer: { extraArgs: { audit-log-path: /a, encryption-provider-config: /b, anonymous-auth: true } }".to_owned(),
    ] {
        good(&spec);
    }
    for minor in [22, 36] {
        let spec = "BASE\nartifacts: { from: directory, path: ./artifacts }";
        let text = file(spec).replace("v1.34.2", &format!("v1.{minor}.1"));
        assert_eq!(read(&text).unwrap().kubernetes_version.minor, minor);
    }
    // The first release with packages.
    let text = file("BASE").replace("v1.34.2", "v1.24.0");
    assert_eq!(read(&text).unwrap().kubernetes_version.minor, 24);
}
