//! What etcdctl 3.4 and 3.5 print, and what a host's probe prints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::members::{Members, Status, View};
use super::super::probe::Probe;
use crate::bootstrap::spec::Version;

const LIST: &str = r#"{"header":{"cluster_id":17237436991929493444,"member_id":9372538179322589801,
"raft_term":2},"members":[
{"ID":9372538179322589801,"name":"e1","peerURLs":["https://10.0.0.21:2380"],
 "clientURLs":["https://10.0.0.21:2379"]},
{"ID":10501334649042878790,"name":"e2","peerURLs":["https://10.0.0.22:2380"],
 "clientURLs":["https://10.0.0.22:2379"]},
{"ID":18249187646912138824,"name":"e3","peerURLs":["https://10.0.0.23:2380"],
 "clientURLs":["https://10.0.0.23:2379"],"isLearner":true},
{"ID":77,"name":"","peerURLs":["https://10.0.0.24:2380"],"isLearner":true}]}"#;

const HEALTH: &str = r#"[{"endpoint":"https://10.0.0.21:2379","health":true,"took":"9.2ms"},
{"endpoint":"https://10.0.0.22:2379","health":false,"took":"3s","error":"context deadline exceeded"},
{"endpoint":"https://10.0.0.23:2379","health":false,"took":"3s",
 "error":"etcdserver: rpc not supported for learner"}]"#;

fn status(id: u64, leader: u64) -> String {
    format!(
        r#"{{"Endpoint":"https://x:2379","Status":{{"header":{{"cluster_id":17237436991929493444,
        "member_id":{id},"revision":12,"raft_term":3}},"version":"3.5.26","dbSize":20480,
        "leader":{leader},"raftIndex":34,"raftTerm":3,"raftAppliedIndex":33,"dbSizeInUse":16384}}}}"#
    )
}

#[test]
fn members_are_read_with_all_64_bits_of_their_numbers() {
    let members = Members::parse(LIST).unwrap();
    assert_eq!(members.cluster, 17_237_436_991_929_493_444);
    let e3 = members.named("e3").unwrap();
    assert_eq!((e3.id, e3.learner, e3.started()), (18_249_187_646_912_138_824, true, true));
    let new = members.at("https://10.0.0.24:2380").unwrap();
    assert_eq!((new.started(), new.learner, new.title()), (false, true, "4d".to_owned()));
    assert_eq!(members.at("https://10.0.0.25:2380"), None);
    assert!(Members::parse("").is_err());
}

#[test]
fn a_learner_is_healthy_when_it_says_how_it_is() {
    let (e1, e3) = (9_372_538_179_322_589_801, 18_249_187_646_912_138_824);
    let statuses = format!("[{},{}]", status(e1, e1), status(e3, e1));
    let view = View::parse(LIST, HEALTH, &statuses).unwrap();
    assert_eq!(view.healthy, [e1, e3].into());
    assert_eq!(view.leader(), Some(e1));
    assert_eq!(view.status[&e1].revision, 12);
    let divided = format!("[{},{}]", status(e1, e1), status(e3, e3));
    assert_eq!(View::parse(LIST, HEALTH, &divided).unwrap().leader(), None);
    let none = format!("[{}]", status(e1, 0));
    assert_eq!(View::parse(LIST, HEALTH, &none).unwrap().leader(), None);
}

#[test]
fn alarms_are_read() {
    let text = status(5, 5).replace(
        "\"dbSizeInUse\"",
        r#""errors":["memberID:5 alarm:NOSPACE "],"isLearner":true,"dbSizeInUse""#,
    );
    let status = Status::parse(&format!("[{text}]")).unwrap().remove(0);
    assert_eq!(status.errors, ["memberID:5 alarm:NOSPACE "]);
    assert!(status.learner);
    assert_eq!((status.index, status.applied, status.size), (34, 33, 20480));
}

#[test]
fn a_probe_is_read() {
    let encoded = STANDARD.encode("[Unit]\nX=1\n");
    let list = LIST.replace('\n', "");
    let own = format!("[{}]", status(9_372_538_179_322_589_801, 1)).replace('\n', "");
    let text = format!(
        "program=/usr/bin/etcd\ncontrol=/usr/bin/etcdctl\nversion=3.4.23\nunit={encoded}\n\
         initial=yes\ndata=yes\ncertificates=yes\nUnitFileState=enabled\nActiveState=activating\n\
         NeedDaemonReload=no\nstatus={own}\nmembers={list}"
    );
    let probe = Probe::parse(&text);
    assert_eq!(probe.program.as_deref(), Some("/usr/bin/etcd"));
    assert_eq!(probe.version, Some(Version::new(3, 4, 23)));
    assert_eq!(probe.unit.as_deref(), Some("[Unit]\nX=1\n"));
    assert_eq!(probe.settings, None);
    assert!(probe.initial && probe.data && probe.certificates && probe.running && probe.enabled);
    assert!(!probe.pending && !probe.reload && !probe.was_member());
    assert_eq!(probe.members.unwrap().list.len(), 4);
    assert_eq!(probe.status.unwrap().id, 9_372_538_179_322_589_801);
}

#[test]
fn a_bare_host_has_nothing() {
    let text = "program=\ncontrol=\nversion=\nUnitFileState=\nActiveState=inactive\n\
                NeedDaemonReload=no\n";
    assert_eq!(Probe::parse(text), Probe::default());
    // Without etcdctl nothing can be asked: as good as not installed.
    let half = Probe::parse("program=/usr/bin/etcd\ncontrol=\nversion=3.4.23");
    assert_eq!(half.version, None);
    let candidate = "program=/x\ncontrol=/x\nversion=3.6.0-rc.1";
    assert_eq!(Probe::parse(candidate).version, Some(Version::new(3, 6, 0)));
}
