//! The files of a member, word for word, and how they differ by version.

use super::super::members::{Member, Members};
use super::super::render::{
    State, founders, initial, joining, refused_arguments, settings, unit, unknown_arguments,
};
use super::cluster;
use crate::bootstrap::spec::Version;

const V34: Version = Version::new(3, 4, 23);
const V35: Version = Version::new(3, 5, 26);
const V36: Version = Version::new(3, 6, 4);

fn lines(version: Version) -> Vec<String> {
    let cluster = cluster(3);
    settings(&cluster, &cluster.hosts[0], version).lines().map(str::to_owned).collect()
}

#[test]
fn the_settings_of_3_5() {
    assert_eq!(
        lines(V35).join("\n"),
        "\
# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.21:2379
ETCD_AUTO_COMPACTION_MODE=periodic
ETCD_AUTO_COMPACTION_RETENTION=8h
ETCD_CERT_FILE=/etc/apiproxy/etcd/pki/server.crt
ETCD_CLIENT_CERT_AUTH=true
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ELECTION_TIMEOUT=2500
ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK=true
ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL=5s
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.21:2380
ETCD_KEY_FILE=/etc/apiproxy/etcd/pki/server.key
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.21:2379,https://127.0.0.1:2379
ETCD_LISTEN_METRICS_URLS=http://127.0.0.1:2381
ETCD_LISTEN_PEER_URLS=https://10.0.0.21:2380
ETCD_LOG_LEVEL=info
ETCD_NAME=e1
ETCD_PEER_CERT_FILE=/etc/apiproxy/etcd/pki/peer.crt
ETCD_PEER_CLIENT_CERT_AUTH=true
ETCD_PEER_KEY_FILE=/etc/apiproxy/etcd/pki/peer.key
ETCD_PEER_TRUSTED_CA_FILE=/etc/apiproxy/etcd/pki/ca.crt
ETCD_QUOTA_BACKEND_BYTES=8589934592
ETCD_SNAPSHOT_COUNT=10000
ETCD_TRUSTED_CA_FILE=/etc/apiproxy/etcd/pki/ca.crt"
    );
}

#[test]
fn other_versions_differ_in_what_they_know() {
    let differing = |version| {
        let common = lines(V35);
        lines(version).into_iter().filter(|line| !common.contains(line)).collect::<Vec<_>>()
    };
    assert_eq!(differing(V34), ["ETCD_LOGGER=zap", "ETCD_UNSUPPORTED_ARCH=arm64"]);
    assert_eq!(
        differing(V36),
        ["ETCD_FEATURE_GATES=InitialCorruptCheck=true", "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL=5s"]
    );
    for version in [V34, V36] {
        assert!(!lines(version).iter().any(|line| line.contains("EXPERIMENTAL")));
    }
}

#[test]
fn the_first_start_is_apart_from_what_lasts() {
    let cluster = cluster(3);
    let text = initial(&cluster, State::New, &founders(&cluster));
    assert_eq!(
        text,
        "# Written by `apiproxy bootstrap` for the first start of this member.\n\
         ETCD_INITIAL_CLUSTER=e1=https://10.0.0.21:2380,e2=https://10.0.0.22:2380,\
         e3=https://10.0.0.23:2380\n\
         ETCD_INITIAL_CLUSTER_STATE=new\n\
         ETCD_INITIAL_CLUSTER_TOKEN=apiproxy-prod\n"
    );
    assert!(!lines(V35).iter().any(|line| line.starts_with("ETCD_INITIAL_CLUSTER")));
}

#[test]
fn who_joins_names_all_members_and_itself() {
    let cluster = cluster(3);
    let member = |id: u64, name: &str| Member {
        id,
        name: name.to_owned(),
        peer_urls: vec![format!("https://10.0.0.{}:2380", 20 + id)],
        client_urls: vec![],
        learner: false,
    };
    let list = vec![member(1, ""), member(2, "e2"), member(9, "")];
    let peers = joining(&Members { cluster: 1, list }, &cluster.hosts[0]);
    let wished = [
        ("e1", "https://10.0.0.21:2380"),
        ("e2", "https://10.0.0.22:2380"),
        ("9", "https://10.0.0.29:2380"),
    ];
    assert_eq!(peers, wished.map(|(name, url)| (name.to_owned(), url.to_owned())));
}

#[test]
fn a_users_arguments_win_unless_they_are_ours() {
    let mut cluster = cluster(1);
    let mut set = |name: &str, value: &str| {
        cluster.etcd.extra_args.insert(name.to_owned(), value.to_owned());
    };
    set("snapshot-count", "5000");
    set("cors", "a \"b\" $c");
    let text = settings(&cluster, &cluster.hosts[0], V35);
    assert!(text.contains("\nETCD_SNAPSHOT_COUNT=5000\n"), "{text}");
    assert!(text.contains("\nETCD_CORS=\"a \\\"b\\\" \\$c\"\n"), "{text}");
    assert_eq!(refused_arguments(&cluster), [""; 0]);
    cluster.etcd.extra_args.insert("data-dir".to_owned(), "/x".to_owned());
    assert_eq!(refused_arguments(&cluster), ["data-dir"]);
}

#[test]
fn arguments_that_etcd_does_not_have_are_found() {
    let mut cluster = cluster(1);
    for name in ["max-wals", "max", "no-such"] {
        cluster.etcd.extra_args.insert(name.to_owned(), String::new());
    }
    let help = "  --max-wals '5'\n    Maximum number\n";
    assert_eq!(unknown_arguments(&cluster, help), ["max", "no-such"]);
}

#[test]
fn ipv6_addresses_are_bracketed() {
    let mut cluster = cluster(1);
    cluster.hosts[0].address = "fd00::21".parse().unwrap();
    let text = settings(&cluster, &cluster.hosts[0], V35);
    assert!(text.contains("ETCD_LISTEN_PEER_URLS=https://[fd00::21]:2380\n"), "{text}");
}

#[test]
fn a_unit_waits_for_its_quorum_as_long_as_it_takes() {
    let text = unit("/usr/local/bin/etcd");
    for line in [
        "Type=notify",
        "TimeoutStartSec=infinity",
        "ExecStart=/usr/local/bin/etcd",
        "User=etcd",
        "EnvironmentFile=/etc/apiproxy/etcd/member.env",
        "EnvironmentFile=-/etc/apiproxy/etcd/initial.env",
        "Conflicts=etcd.service",
        "WantedBy=multi-user.target",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
}
