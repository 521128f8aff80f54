//! Values that cannot be, and exactly what is said of them.

use super::*;

const VALUES: &[(&str, &str)] = &[
    ("no version", "hosts: [{ name: a, address: 10.0.0.1, roles: [controlPlane] }]"),
    (
        "a version as a number",
        "kubernetesVersion: 1.34\nhosts: [{ name: a, address: 10.0.0.1, roles: [controlPlane] }]",
    ),
    ("a key twice", "BASE\nkubernetesVersion: v1.33.0"),
    (
        "unknown keys",
        "BASE\nkubernetesversion: v1.34.2\nnetworks: {}\nnetwork: { podCidr: 10.0.0.0/16 }",
    ),
    ("endpoint", "BASE\nendpoint: { name: 10.0.0.1, port: 0 }"),
    ("endpoint: another's name and port", "BASE\nendpoint: { name: cp1, port: 10250 }"),
    ("endpoint: taken names", "BASE\nendpoint: { name: localhost, port: 70000 }"),
    ("endpoint: no name", "BASE\nendpoint: { name: API_server }"),
    (
        "topology",
        "BASE\n- { name: e1, address: 10.0.0.2, roles: [etcd] }\ntopology: externl\netcd: { version: v3.5.26 }",
    ),
    (
        "artifacts: packages",
        "BASE\nartifacts: { path: ./a, kubernetesMirror: 'ftp://x', distributionMirror: 'http://x', registry: 'kubernetes' }",
    ),
    (
        "artifacts: a folder",
        "BASE\nartifacts: { from: directory, kubernetesMirror: 'http://m', distributionMirror: 'deb http://x', registry: r.local }",
    ),
    ("artifacts: from elsewhere", "BASE\nartifacts: { from: dir, path: x }"),
    ("etcd: version of stacked", "BASE\netcd: { version: v3.5.26 }"),
    (
        "backup",
        "BASE\netcd: { backup: { schedule: '@daily', keep: 0, directory: ../b, copyTo: [cp2, cp1, cp1], recipients: [age1x, AGE-SECRET-KEY-1X, bob] } }",
    ),
    (
        "backup: schedules and folders",
        "BASE\netcd: { backup: { schedule: '0 25 * * *', keep: 10001, directory: /var, copyTo: [nobody] } }",
    ),
    (
        "backup: drills",
        "BASE\netcd: { backup: { recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p], drill: { schedule: daily, host: nobody } } }",
    ),
    (
        "backup: where drills cannot be held",
        "BASE\netcd: { backup: { drill: { host: cp2, identityFile: key } } }",
    ),
    (
        "backup: a bucket",
        "BASE\netcd: { backup: { s3: { endpoint: 'http://minio:9000', bucket: No_Bucket, prefix: /a/, region: '', caFile: ca.crt } } }",
    ),
    (
        "backup: a bucket without an address",
        "BASE\netcd: { backup: { s3: { bucket: backups, credentialsFile: keys, endpoint: 'https://a:b@minio' } } }",
    ),
    (
        "backup: a schedule that never comes",
        "BASE\netcd: { backup: { schedule: '0 0 30 2 *', directory: '/a b/c' } }",
    ),
    (
        "extensions",
        "BASE\nextensions:\n- {}\n- { name: a, kind: sheduler, placement: controlPlane }\n- { name: A, kind: scheduler, placement: controlPlane, image: a b, command: [x] }\n- { name: a, kind: controller, placement: external, image: x }\n- { name: b, kind: controller, placement: external, command: [] }\n- { name: c, kind: controller, placement: external, command: [run, ] }\n- { name: d, kind: controller, placement: everywhere }",
    ),
    ("audit and encryption", "BASE\naudit: yes\nencryptionAtRest: 1\nmonitoring: { enabled: on }"),
];

const NETWORKS: &[(&str, &str)] = &[
    (
        "no ranges",
        "BASE\nnetwork: { podCIDR: 10.244.0.0, serviceCIDR: 10.96.0.0/33, dnsDomain: Cluster_local, cni: {} }",
    ),
    (
        "addresses inside a range",
        "BASE\nnetwork: { podCIDR: 10.244.3.1/16, serviceCIDR: 10.96.0.1/12 }",
    ),
    ("pods and services overlap", "BASE\nnetwork: { podCIDR: 10.96.0.0/16 }"),
    (
        "hosts inside",
        "BASE\n- { name: w1, address: 10.244.0.7, roles: [worker] }\nnetwork: { serviceCIDR: 10.0.0.0/12 }",
    ),
    ("sizes", "BASE\nnetwork: { podCIDR: 11.0.0.0/8, serviceCIDR: 12.0.0.0/8 }"),
    ("sizes: too small", "BASE\nnetwork: { podCIDR: 10.244.0.0/25, serviceCIDR: 10.96.0.0/29 }"),
    (
        "sizes: too large for a node's part",
        "BASE\nnetwork: { podCIDR: 'fd00::/40', serviceCIDR: 'fd01::/64' }",
    ),
    (
        "too many nodes",
        "BASE\n- { name: 'w[1-300]', address: '10.1.[1-300].1', roles: [worker] }\n",
    ),
    (
        "no room for the nodes",
        "BASE\n- { name: 'w[1-20]', address: '10.0.1.[1-20]', roles: [worker] }\nnetwork: { podCIDR: 10.244.0.0/20 }",
    ),
    ("families that differ", "BASE\nnetwork: { podCIDR: '10.244.0.0/16,fd00:244::/48' }"),
    (
        "families in another order",
        "BASE\nnetwork: { podCIDR: '10.244.0.0/16,fd00:244::/48', serviceCIDR: 'fd00:96::/108,10.96.0.0/12' }",
    ),
    ("a family twice", "BASE\nnetwork: { podCIDR: '10.244.0.0/16,10.245.0.0/16' }"),
    ("a node of the other family", "BASE\n- { name: w1, address: 'fd00::1', roles: [worker] }"),
    ("no manifest", "BASE\nnetwork: { cni: { manifest: cni.yaml } }"),
];

const SETTINGS: &[(&str, &str)] = &[
    (
        "flags of apiservers",
        "BASE\napiServer: { extraArgs: { advertise-address: 10.0.0.1, etcd-servers: x, secure-port: 1, service-cluster-ip-range: x, --v: 2, tls-cert-file: x, goaway-chance: 0.001 } }",
    ),
    (
        "flags of apiservers that must stay",
        "BASE\napiServer: { extraArgs: { anonymous-auth: false, enable-bootstrap-token-auth: false, authorization-mode: RBAC } }\ncontrollerManager: { extraArgs: { leader-elect: false, cluster-cidr: x } }\nscheduler: { extraArgs: { leader-elect: 'false', kubeconfig: x } }",
    ),
    (
        "flags that options set",
        "BASE\naudit: true\nencryptionAtRest: true\napiServer: { extraArgs: { audit-policy-file: x, audit-log-path: x, encryption-provider-config: x, audit-log-maxage: 3 } }",
    ),
    (
        "flags of two lines, and none",
        "BASE\nscheduler: { extraArgs: { v: \"1\\n2\", a: , b: [1] } }\nkubeletExtraArgs: { node-labels: a=b, hostname-override: x }\netcd: { extraArgs: { data-dir: /x, name: x, initial-cluster: x, v=2: x } }",
    ),
    (
        "settings",
        "BASE\nkubelet: { cgroupDriver: cgroupfs, clusterDomain: x, authentication: { x509: { clientCAFile: x } }, maxPods: 3 }\ncontainerd: { version: 2, grpc: { address: x } }\nkubeProxy: { clusterCIDR: x, clientConnection: { kubeconfig: x } }",
    ),
    (
        "settings of a host",
        "BASE\n- { name: cp2, address: 10.0.0.2, roles: [spare], apiServer: { extraArgs: { advertise-address: x } }, kubelet: { staticPodPath: x } }",
    ),
];

#[test]
fn every_fault_of_values_is_told() {
    insta::assert_snapshot!(told(VALUES));
}

#[test]
fn every_fault_of_networks_is_told() {
    insta::assert_snapshot!(told(NETWORKS));
}

#[test]
fn settings_that_would_break_what_we_build_are_refused() {
    insta::assert_snapshot!(told(SETTINGS));
}

#[test]
fn versions_out_of_support_are_refused_with_what_is_supported() {
    for (version, what) in [
        ("v1.21.14", "v1.21.14 is not supported"),
        ("v1.37.0", "v1.37.0 is not supported"),
        ("v2.34.0", "v2.34.0 is not supported"),
        ("v1.34", "`v1.34` is no version"),
        ("latest", "`latest` is no version"),
    ] {
        let error = read(&file("BASE").replace("v1.34.2", version)).unwrap_err();
        let hint = "supported are v1.22 to v1.36; write it as v1.36.0";
        let line = format!("cluster.yaml:5:22: `spec.kubernetesVersion`: {what} ({hint})");
        assert_eq!(error.lines(), [line]);
    }
    for (version, what) in [("v3.3.1", "v3.3.1 is not supported"), ("3.5", "`3.5` is no version")] {
        let hosts = "BASE\n- { name: e1, address: 10.0.0.2, roles: [etcd] }\ntopology: external";
        let error = read(&file(&format!("{hosts}\netcd: {{ version: '{version}' }}"))).unwrap_err();
        let hint = "supported are v3.4 to v3.6; write it as v3.5.26";
        let line = format!("cluster.yaml:10:20: `spec.etcd.version`: {what} ({hint})");
        assert_eq!(error.lines(), [line]);
    }
}

#[test]
fn a_file_needs_its_sections() {
    let lines = |text: &str| read(text).unwrap_err().lines();
    let head = "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\n";
    assert_eq!(
        lines(head),
        [
            "cluster.yaml:1:1: `metadata` is missing (write `metadata: { name: NAME }`)",
            "cluster.yaml:1:1: `spec` is missing (it says what the cluster is made of; see `apiproxy bootstrap new`)",
        ]
    );
    let text = file("BASE");
    assert_eq!(
        lines(&text.replace("{ name: prod }", "{}")),
        ["cluster.yaml:3:1: `metadata.name` is missing (write `metadata: { name: NAME }`)"]
    );
    assert_eq!(
        lines(&text.replace("prod", "Prod.x")),
        [
            "cluster.yaml:3:19: `metadata.name`: `Prod.x` cannot be the name of a cluster (use 1 to 63 lower-case letters, digits and inner hyphens)"
        ]
    );
    assert_eq!(
        lines(&text.replace("kind: Cluster", "kind: ProxyConfiguration")),
        [
            "cluster.yaml:2:7: `kind` is the text `ProxyConfiguration`, expected `Cluster` (write `kind: Cluster`)"
        ]
    );
}

#[test]
fn all_faults_are_told_at_once_with_their_lines() {
    let text = file(
        "kubernetesVersion: v1.20.0\nhosts:\n- { name: cp1, address: 10.0.0.11, role: [controlPlane] }",
    );
    let expected = "\
cluster.yaml:5:22: `spec.kubernetesVersion`: v1.20.0 is not supported
  5 |   kubernetesVersion: v1.20.0
    |                      ^
  hint: supported are v1.22 to v1.36; write it as v1.36.0
cluster.yaml:7:38: unknown key `role`
  7 |   - { name: cp1, address: 10.0.0.11, role: [controlPlane] }
    |                                      ^
  hint: did you mean `roles`?";
    assert_eq!(read(&text).unwrap_err().to_string(), expected);
}
