//! The files of a member: its unit, its settings, and how it finds its cluster at its first start.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::bootstrap::spec::{Cluster, Host, Version};

use super::members::Members;
use super::paths::{
    CA_CERT, DATA, INITIAL, METRICS_PORT, PEER_CERT, PEER_KEY, SERVER_CERT, SERVER_KEY, SETTINGS,
    USER, client_url, local_url, peer_url,
};

/// What is ours to say: a user's argument of this name is refused.
const FIXED: &[&str] = &[
    "name",
    "data-dir",
    "config-file",
    "listen-client-urls",
    "listen-peer-urls",
    "advertise-client-urls",
    "initial-advertise-peer-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "force-new-cluster",
    "cert-file",
    "key-file",
    "trusted-ca-file",
    "client-cert-auth",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-client-cert-auth",
];

/// Since this version metrics of `--experimental-` went into their own names and feature gates.
const WITH_FEATURE_GATES: Version = Version::new(3, 6, 0);
const WITH_ZAP_ALONE: Version = Version::new(3, 5, 0);

/// The user's arguments that are ours to say.
pub(super) fn refused_arguments(cluster: &Cluster) -> Vec<&str> {
    let names = cluster.etcd.extra_args.keys().map(String::as_str);
    names.filter(|name| FIXED.contains(name)).collect()
}

/// The user's arguments that this etcd does not have, by what its `--help` printed. As environment
/// variables it would pass over them with a mere warning.
pub(super) fn unknown_arguments<'a>(cluster: &'a Cluster, help: &str) -> Vec<&'a str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let known = |name: &str| {
        let flag = format!("--{name}");
        let mut found = help.match_indices(&flag);
        found.any(|(at, _)| !help[at + flag.len()..].starts_with(word))
    };
    let names = cluster.etcd.extra_args.keys().map(String::as_str);
    names.filter(|name| !known(name)).collect()
}

/// The systemd unit. etcd tells systemd that it is ready only when it is part of a quorum, which may
/// need members that start later: no start is given up for waiting.
pub fn unit(program: &str) -> String {
    format!(
        "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n\
         [Unit]\n\
         Description=etcd, the store of Kubernetes\n\
         Documentation=https://etcd.io/docs/\n\
         Wants=network-online.target\n\
         After=network-online.target time-sync.target\n\
         Conflicts=etcd.service\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         User={USER}\n\
         Group={USER}\n\
         EnvironmentFile={SETTINGS}\n\
         EnvironmentFile=-{INITIAL}\n\
         ExecStart={program}\n\
         Restart=always\n\
         RestartSec=2\n\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=30\n\
         LimitNOFILE=65536\n\
         OOMScoreAdjust=-900\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=0\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=full\n\
         ProtectHome=yes\n\
         PrivateTmp=yes\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// The settings of a member that hold as long as it lives, as environment variables: they are the
/// same in etcd 3.4 to 3.6 as the flags are, take values as flags do, and can be split from those of
/// the first start, which etcd's own configuration file cannot.
pub fn settings(cluster: &Cluster, host: &Host, version: Version) -> String {
    let mut all: BTreeMap<&str, String> = [
        ("name", host.name.clone()),
        ("data-dir", DATA.to_owned()),
        ("listen-client-urls", format!("{},{}", client_url(host.address), local_url())),
        ("listen-peer-urls", peer_url(host.address)),
        ("listen-metrics-urls", format!("http://127.0.0.1:{METRICS_PORT}")),
        ("advertise-client-urls", client_url(host.address)),
        ("initial-advertise-peer-urls", peer_url(host.address)),
        ("cert-file", SERVER_CERT.to_owned()),
        ("key-file", SERVER_KEY.to_owned()),
        ("trusted-ca-file", CA_CERT.to_owned()),
        ("client-cert-auth", "true".to_owned()),
        ("peer-cert-file", PEER_CERT.to_owned()),
        ("peer-key-file", PEER_KEY.to_owned()),
        ("peer-trusted-ca-file", CA_CERT.to_owned()),
        ("peer-client-cert-auth", "true".to_owned()),
        // Twice and a half etcd's own: disks of virtual machines stall for some 100 ms at times, and
        // an election for nothing costs more than one that comes 1.5 s later.
        ("heartbeat-interval", "250".to_owned()),
        ("election-timeout", "2500".to_owned()),
        // kube-apiserver compacts every 5 minutes; this is for when none is there.
        ("auto-compaction-mode", "periodic".to_owned()),
        ("auto-compaction-retention", "8h".to_owned()),
        // The most that etcd recommends; its default of 2 GiB stops large clusters.
        ("quota-backend-bytes", (8_u64 << 30).to_string()),
        // As kubeadm sets it: 100,000 entries, the default of 3.4 and 3.5, keep memory for nothing.
        ("snapshot-count", "10000".to_owned()),
        ("log-level", "info".to_owned()),
    ]
    .into();
    all.extend(by_version(version).iter().map(|(name, value)| (*name, (*value).to_owned())));
    for (name, value) in &cluster.etcd.extra_args {
        all.insert(name, value.clone());
    }
    let mut text =
        "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n"
            .to_owned();
    for (name, value) in all {
        assign(&mut text, name, &value);
    }
    if version < WITH_ZAP_ALONE {
        // etcd 3.4 starts on arm64 only when told that it may; elsewhere this says nothing.
        text.push_str("ETCD_UNSUPPORTED_ARCH=arm64\n");
    }
    text
}

fn by_version(version: Version) -> &'static [(&'static str, &'static str)] {
    if version < WITH_ZAP_ALONE {
        // Its check at the start knows no client certificates.
        &[("logger", "zap")]
    } else if version < WITH_FEATURE_GATES {
        &[
            ("experimental-initial-corrupt-check", "true"),
            ("experimental-watch-progress-notify-interval", "5s"),
        ]
    } else {
        &[("feature-gates", "InitialCorruptCheck=true"), ("watch-progress-notify-interval", "5s")]
    }
}

/// How a member finds its cluster at its first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All of them start for the first time, together.
    New,
    /// The others are there.
    Existing,
}

/// The settings of a member's first start.
pub fn initial(cluster: &Cluster, state: State, peers: &[(String, String)]) -> String {
    let peers: Vec<_> = peers.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let mut text =
        "# Written by `apiproxy bootstrap` for the first start of this member.\n".to_owned();
    assign(&mut text, "initial-cluster", &peers.join(","));
    let state = match state {
        State::New => "new",
        State::Existing => "existing",
    };
    assign(&mut text, "initial-cluster-state", state);
    assign(&mut text, "initial-cluster-token", &format!("apiproxy-{}", cluster.name));
    text
}

/// The members of a new cluster, with what they call each other by.
pub fn founders(cluster: &Cluster) -> Vec<(String, String)> {
    cluster.etcd_hosts().map(|host| (host.name.clone(), peer_url(host.address))).collect()
}

/// The members of a cluster that this host joins. Those that were added but never started have no
/// name yet; any will do, for etcd compares only what they are called by.
pub fn joining(members: &Members, host: &Host) -> Vec<(String, String)> {
    let ours = peer_url(host.address);
    let mut peers = Vec::new();
    for member in &members.list {
        for url in &member.peer_urls {
            let name = if *url == ours { host.name.clone() } else { member.title() };
            peers.push((name, url.clone()));
        }
    }
    peers
}

/// `--some-name` is `ETCD_SOME_NAME` in the environment; quoted as systemd.exec(5) reads it.
fn assign(text: &mut String, name: &str, value: &str) {
    let name = name.to_uppercase().replace('-', "_");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:;/=@[]+%".contains(c);
    let value = if value.chars().all(plain) {
        value.to_owned()
    } else {
        let mut quoted = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        format!("\"{quoted}\"")
    };
    let _ = writeln!(text, "ETCD_{name}={value}");
}
