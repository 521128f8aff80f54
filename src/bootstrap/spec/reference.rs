//! Every key of a `Cluster` file, for README.md and the schema; tests hold it against the code.

use crate::config::{KeyDoc, key, markdown};

const SETTINGS: &str = "mapping";
const FLAGS: &str = "mapping of flags without dashes to values";

const KEYS: &[KeyDoc] = &[
    key("apiVersion", "", "`apiproxy.io/v1alpha1`", "Version of the format; required"),
    key("kind", "", "`Cluster`", "Kind of document; required"),
    key(
        "metadata.name",
        "",
        "1 to 63 lower-case letters, digits and inner hyphens",
        "Name of the cluster, in unit names, etcd's token and contexts of kubeconfig; required",
    ),
    key(
        "spec.kubernetesVersion",
        "",
        "v1.22 to v1.36, such as v1.34.2",
        "Version of Kubernetes on every host; required",
    ),
    key(
        "spec.endpoint.name",
        "apiserver.NAME.local",
        "DNS name",
        "What nodes call the apiservers: 127.0.0.1 in every node's `/etc/hosts`",
    ),
    key(
        "spec.endpoint.port",
        "6443",
        "1 to 65535",
        "Port of the apiservers and of every node's proxy",
    ),
    key(
        "spec.topology",
        "stacked",
        "`stacked`, `external`",
        "Where etcd lives: on the control planes, or on hosts with the role `etcd`",
    ),
    key("spec.ssh.user", "", "user name", "Whom to log in as; `ssh_config` says otherwise"),
    key("spec.ssh.port", "", "1 to 65535", "Port of sshd; `ssh_config` says otherwise"),
    key(
        "spec.ssh.identityFile",
        "",
        "file; `~` is resolved",
        "Private key; the agent's and those of `ssh_config` otherwise",
    ),
    key(
        "spec.ssh.sudo",
        "true",
        "`true`, `false`",
        "Become root by sudo; `false` by default for the user `root`",
    ),
    key("spec.ssh.local", "false", "`true`, `false`", "The host is this machine: use no ssh"),
    key("spec.hosts", "", "list", "The hosts; required here or as `hostsFrom`"),
    key(
        "spec.hosts[].name",
        "",
        "1 to 63 lower-case letters, digits, dots and inner hyphens, or a range such as `w[1-200]`, `w[001-200]`, `w[1-3,7]`; unique",
        "Hostname and name of the Node; required",
    ),
    key(
        "spec.hosts[].address",
        "",
        "IP address, or a range as long as that of `name`, such as `10.0.1.[1-200]`; unique",
        "Where the other hosts reach it; required",
    ),
    key(
        "spec.hosts[].roles",
        "",
        "list of `controlPlane`, `etcd`, `worker`, `spare`, `external`, `monitoring`",
        "What the host is for; required. `controlPlane` with `worker` takes pods; `spare` stands alone; `external` and `monitoring` are no nodes",
    ),
    key(
        "spec.hosts[].zone",
        "",
        "value of a label",
        "Failure domain, and the label `topology.kubernetes.io/zone`",
    ),
    key("spec.hosts[].labels", "", "mapping", "Labels of the Node"),
    key("spec.hosts[].taints", "", "list of key=value:effect", "Taints of the Node"),
    key("spec.hosts[].ssh.user", "", "as `spec.ssh.user`", "As `spec.ssh.user`, for this host"),
    key("spec.hosts[].ssh.port", "", "1 to 65535", "As `spec.ssh.port`, for this host"),
    key(
        "spec.hosts[].ssh.identityFile",
        "",
        "file; `~` is resolved",
        "As `spec.ssh.identityFile`, for this host",
    ),
    key("spec.hosts[].ssh.sudo", "", "`true`, `false`", "As `spec.ssh.sudo`, for this host"),
    key("spec.hosts[].ssh.local", "", "`true`, `false`", "As `spec.ssh.local`, for this host"),
    key("spec.hosts[].kubelet", "", SETTINGS, "As `spec.kubelet`, for this host"),
    key("spec.hosts[].containerd", "", SETTINGS, "As `spec.containerd`, for this host"),
    key(
        "spec.hosts[].apiServer.extraArgs",
        "",
        FLAGS,
        "As `spec.apiServer.extraArgs`, for this host",
    ),
    key(
        "spec.hosts[].controllerManager.extraArgs",
        "",
        FLAGS,
        "As `spec.controllerManager.extraArgs`, for this host",
    ),
    key(
        "spec.hosts[].scheduler.extraArgs",
        "",
        FLAGS,
        "As `spec.scheduler.extraArgs`, for this host",
    ),
    key("spec.hosts[].kubeletExtraArgs", "", FLAGS, "As `spec.kubeletExtraArgs`, for this host"),
    key(
        "spec.hostsFrom",
        "",
        "CSV file",
        "More hosts, a row each; the first row names the columns `name`, `address`, `roles` (default `worker`), `zone`, `labels` (`a=b;c=d`), `taints` (`;` between them)",
    ),
    key(
        "spec.network.podCIDR",
        "10.244.0.0/16",
        "CIDR, or one of IPv4 and one of IPv6 with a comma",
        "Addresses of pods; each node gets a /24 of it (IPv6: /64)",
    ),
    key(
        "spec.network.serviceCIDR",
        "10.96.0.0/12",
        "CIDRs of the same families in the same order, at least /12 (IPv6: /108)",
        "Addresses of services",
    ),
    key("spec.network.dnsDomain", "cluster.local", "domain", "Domain of services"),
    key(
        "spec.network.cni.manifest",
        "",
        "YAML file",
        "Network that is applied when the first control plane is up; without it nodes are not ready until you install one",
    ),
    key(
        "spec.artifacts.from",
        "packages",
        "`packages`, `directory`",
        "Where programs and images come from: repositories, or a folder of this machine",
    ),
    key("spec.artifacts.path", "", "folder", "The folder of `from: directory`"),
    key(
        "spec.artifacts.kubernetesMirror",
        "",
        "URL",
        "In place of `https://pkgs.k8s.io/core:/stable:`",
    ),
    key(
        "spec.artifacts.distributionMirror",
        "",
        "lines of sources.list",
        "In place of the repositories that hosts have",
    ),
    key("spec.artifacts.registry", "", "HOST[:PORT][/PATH]", "In place of `registry.k8s.io`"),
    key(
        "spec.etcd.version",
        "",
        "v3.4 to v3.6, such as v3.5.26",
        "Version of external etcd; kubeadm chooses that of stacked etcd",
    ),
    key("spec.etcd.extraArgs", "", FLAGS, "Further flags of etcd"),
    key(
        "spec.etcd.backup.schedule",
        "0 */6 * * *",
        "five fields as in crontab",
        "When backups are taken, in UTC; there are none without `backup`",
    ),
    key("spec.etcd.backup.keep", "28", "1 to 10000", "How many backups are kept"),
    key(
        "spec.etcd.backup.directory",
        "/var/lib/apiproxy/backups",
        "whole path",
        "Where backups are kept on the etcd hosts; may be a mounted share",
    ),
    key(
        "spec.etcd.backup.copyTo",
        "",
        "list of names in `hosts`",
        "Hosts that get a copy of each backup; without it the spares, and `[]` for none",
    ),
    key(
        "spec.etcd.backup.recipients",
        "",
        "list of public keys of age",
        "Whom backups are encrypted for; they are plain when there are none",
    ),
    key(
        "spec.etcd.backup.s3.endpoint",
        "",
        "`https://` URL; `http://` with `recipients`",
        "An object store that understands S3 and gets a copy of each backup",
    ),
    key("spec.etcd.backup.s3.bucket", "", "name of a bucket", "The bucket, which must be there"),
    key(
        "spec.etcd.backup.s3.prefix",
        "",
        "words with slashes between them",
        "What the keys of its objects begin with",
    ),
    key(
        "spec.etcd.backup.s3.region",
        "us-east-1",
        "name",
        "The region that requests are signed for",
    ),
    key(
        "spec.etcd.backup.s3.credentialsFile",
        "",
        "file, from this file's folder",
        "`aws_access_key_id` and `aws_secret_access_key`, as the tools of AWS have them",
    ),
    key(
        "spec.etcd.backup.s3.caFile",
        "",
        "file, from this file's folder",
        "Whom the store's certificate is signed by; without it, whom each host trusts",
    ),
    key(
        "spec.etcd.backup.drill.schedule",
        "30 4 * * 0",
        "five fields as in crontab",
        "When the newest backup is restored to prove it, in UTC; never without `drill`",
    ),
    key(
        "spec.etcd.backup.drill.host",
        "",
        "a host of etcd, or one in `copyTo`",
        "Where; without it on the first in `copyTo`, or else the first host of etcd",
    ),
    key(
        "spec.etcd.backup.drill.identityFile",
        "",
        "whole path on that host",
        "Private key of age that you put there; required with `recipients`",
    ),
    key(
        "spec.monitoring.enabled",
        "true",
        "`true`, `false`",
        "Prometheus, Alertmanager and Grafana",
    ),
    key("spec.monitoring.pushgateway", "false", "`true`, `false`", "Pushgateway too"),
    key("spec.extensions", "", "list", "Custom controllers and schedulers"),
    key(
        "spec.extensions[].name",
        "",
        "as `metadata.name`; unique",
        "Name of the Deployment or unit; required",
    ),
    key("spec.extensions[].kind", "", "`scheduler`, `controller`", "What it is; required"),
    key(
        "spec.extensions[].placement",
        "",
        "`controlPlane`, `external`",
        "Where it runs: on the control planes, or on the hosts with the role `external`; required",
    ),
    key("spec.extensions[].image", "", "image", "What runs on the control planes"),
    key("spec.extensions[].command", "", "list of words", "What runs on external hosts"),
    key("spec.audit", "false", "`true`, `false`", "Put requests to the apiservers on record"),
    key("spec.encryptionAtRest", "false", "`true`, `false`", "Encrypt Secrets in etcd"),
    key("spec.kubelet", "", SETTINGS, "Merged into the `KubeletConfiguration`"),
    key("spec.containerd", "", SETTINGS, "Merged into containerd's configuration"),
    key("spec.apiServer.extraArgs", "", FLAGS, "Further flags of kube-apiserver"),
    key("spec.controllerManager.extraArgs", "", FLAGS, "Further flags of kube-controller-manager"),
    key("spec.scheduler.extraArgs", "", FLAGS, "Further flags of kube-scheduler"),
    key("spec.kubeProxy", "", SETTINGS, "Merged into the `KubeProxyConfiguration`"),
    key(
        "spec.kubeletExtraArgs",
        "",
        FLAGS,
        "Flags of kubelet that its configuration has no field for",
    ),
];

/// Every key, in the order of the example.
pub fn reference() -> &'static [KeyDoc] {
    KEYS
}

/// The same as a Markdown table.
pub fn reference_markdown() -> String {
    markdown(KEYS)
}
