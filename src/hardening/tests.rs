//! Each measure on a thread of its own: what it takes, and what it leaves.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::thread;

use super::*;
use crate::config::{self, Overrides};

fn plan(text: &str) -> Plan {
    let text = format!("apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n{text}");
    let overrides = Overrides { insecure_skip_verify: true, ..Overrides::default() };
    let config = config::parse("test.yaml", &text, Path::new("/"), &overrides).unwrap();
    Plan::new(&config, Some(Path::new("/etc/apiproxy/config.yaml")))
}

/// Runs in a thread of its own, closed in; the other tests go on unharmed.
fn closed_in<T: Send>(plan: &Plan, run: impl FnOnce(&Report) -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut report = Report::default();
            report.note("no new privileges", rustix::thread::set_no_new_privs(true));
            files::restrict(plan, &mut report);
            report.note("system calls", syscalls::restrict());
            run(&report)
        });
        thread.join().unwrap()
    })
}

fn has(report: &Report, what: &str) -> bool {
    report.done.iter().any(|done| done.contains(what))
}

#[test]
fn files_beside_the_listed_ones_are_out_of_reach() {
    let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&inside, &outside] {
        fs::write(folder.path().join("file"), "text").unwrap();
    }
    let read_only = tempfile::tempdir().unwrap();
    let mut plan = plan("backends: [{ address: \"127.0.0.1:1\" }]\n").writing(inside.path());
    plan.read.insert(read_only.path().to_owned());
    closed_in(&plan, |report| {
        if !has(report, "files") {
            assert!(!report.missing.is_empty());
            return;
        }
        fs::read(inside.path().join("file")).unwrap();
        fs::write(inside.path().join("new"), "text").unwrap();
        fs::rename(inside.path().join("new"), inside.path().join("file")).unwrap();
        fs::remove_file(inside.path().join("file")).unwrap();
        fs::read_dir(read_only.path()).unwrap();
        fs::read("/proc/self/stat").unwrap();
        for result in [
            fs::read(outside.path().join("file")).map(drop),
            fs::write(outside.path().join("file"), "other"),
            fs::write(read_only.path().join("file"), "other"),
            fs::read("/etc/passwd").map(drop),
            fs::read_dir("/").map(drop),
        ] {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        }
    });
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"text");
}

#[test]
fn ports_beside_the_listed_ones_are_out_of_reach() {
    let listed = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listed_at, other_at) = (listed.local_addr().unwrap(), other.local_addr().unwrap());
    let plan =
        plan(&format!("listen: [\"127.0.0.1:0\"]\nbackends: [{{ address: \"{listed_at}\" }}]\n"));
    closed_in(&plan, |report| {
        if !has(report, "TCP ports") {
            assert!(!report.missing.is_empty());
            return;
        }
        TcpStream::connect(listed_at).unwrap().write_all(b"x").unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap();
        let denied = Some(std::io::ErrorKind::PermissionDenied);
        assert_eq!(TcpStream::connect(other_at).err().map(|error| error.kind()), denied);
    });
}

#[test]
fn no_program_and_no_strange_socket_but_threads_and_names() {
    let plan = plan("backends: [{ address: \"localhost:1\" }]\n");
    closed_in(&plan, |report| {
        assert!(has(report, "system calls"), "{report:?}");
        assert!(Command::new("/bin/true").spawn().is_err());
        let packet = rustix::net::socket(
            rustix::net::AddressFamily::PACKET,
            rustix::net::SocketType::DGRAM,
            None,
        );
        assert_eq!(packet.err(), Some(Errno::NOSYS));
        let this = rustix::process::getpid();
        assert_eq!(rustix::process::test_kill_process(this), Err(Errno::NOSYS));
        let status =
            thread::spawn(|| fs::read_to_string("/proc/thread-self/status")).join().unwrap();
        if let Ok(status) = status {
            assert!(status.contains("Seccomp:\t2"), "{status}");
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        }
        assert!(("localhost", 1).to_socket_addrs().unwrap().next().is_some());
    });
    assert!(Command::new("/bin/true").status().unwrap().success());
}

#[test]
fn a_later_configuration_may_need_more() {
    let first = plan("listen: [\"127.0.0.1:1\"]\nbackends: [{ address: \"10.0.0.1:6443\" }]\n");
    assert!(first.lacks(&first).is_empty());
    let more = plan("listen: [\"127.0.0.1:2\"]\nbackends: [{ address: \"10.0.0.1:6444\" }]\n")
        .writing(Path::new("/var/lib/apiproxy"));
    assert_eq!(first.lacks(&more), ["writing in /var/lib/apiproxy", "connecting to port 6444"]);
    assert!(more.clone().writing(Path::new("/var/lib")).lacks(&more).is_empty());
}
