//! Backups when etcd is under strain: a snapshot that comes slowly, and a database whose space is used up.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::common::outcome_within;
use crate::rig::{Rig, obstacle};
use crate::skip;

/// A relay to an etcd that gives a MiB per second at most; its URL.
fn slow_way_to(endpoint: &str) -> String {
    let (relay, backend) = (TcpListener::bind("127.0.0.1:0").unwrap(), endpoint.to_owned());
    let url = format!("http://{}", relay.local_addr().unwrap());
    spawn(move || {
        for client in relay.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(backend.trim_start_matches("http://")).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            spawn(move || std::io::copy(&mut from, &mut to));
            spawn(move || trickle(server, client));
        }
    });
    url
}

fn trickle(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
        sleep(Duration::from_micros(u64::try_from(length).unwrap()));
    }
}

#[test]
fn a_snapshot_may_take_longer_than_an_answer() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    let value = tempfile::NamedTempFile::new().unwrap();
    value.as_file().set_len(1 << 20).unwrap();
    let mut settings = rig.settings(0);
    for key in 0..8 {
        let mut put = Command::new("etcdctl");
        put.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", settings.etcd.endpoint));
        put.args(["put", &format!("large/{key}")]).stdin(File::open(value.path()).unwrap());
        assert!(put.stdout(Stdio::null()).status().unwrap().success());
    }
    settings.etcd.endpoint = slow_way_to(&settings.etcd.endpoint);
    let begin = Instant::now();
    let document = rig.well(&settings);
    assert_eq!(document["taken"]["label"]["manifest"]["contents"]["keys"], 8);
    assert!(begin.elapsed() > Duration::from_secs(6), "{:?}", begin.elapsed());
}

#[test]
fn a_database_without_space_is_backed_up_by_the_schedule() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let rig = Rig::start(1);
    rig.fill("/registry/pods/default/", 10);
    let settings = rig.settings(0);
    let mut alarm = Command::new("curl");
    alarm.args(["-sf", "-d", r#"{"action":"ACTIVATE","memberID":"0","alarm":"NOSPACE"}"#]);
    alarm.arg(format!("{}/v3/maintenance/alarm", settings.etcd.endpoint)).stdout(Stdio::null());
    assert!(alarm.status().unwrap().success());
    let put = format!("--endpoints={}", settings.etcd.endpoint);
    let refused =
        Command::new("etcdctl").env("ETCDCTL_API", "3").args([&put, "put", "a", "b"]).output();
    let said = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(said.contains("database space exceeded"), "{said}");
    let taken = outcome_within(&mut rig.backup_command(&settings, &[]), Duration::from_mins(1));
    assert_eq!(taken.code, Some(0), "{taken:?}");
    assert!(taken.stdout.contains("the other members were not told of it"), "{taken:?}");
}
