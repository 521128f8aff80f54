//! Bulk through the whole program: it is spliced, byte-exact, and leaves nothing behind; where no
//! pipe is to be had it is copied.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::{self, File};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::bulk::{self, AT_ONCE, Bulk};
use common::{Proxy, backend_lines, report, wait_for};
use rustix::io::ioctl_fionread;
use rustix::net::sockopt::set_socket_linger;
use rustix::pipe::{fcntl_setpipe_size, pipe};

const MIB: u64 = 1024 * 1024;

const LONG: Duration = Duration::from_mins(1);

/// The ends of the idle pipes that a data thread keeps.
const KEPT_FILES: usize = 2 * 4;

fn proxy(folder: &Path, more: &str) -> (Proxy, [Bulk; 2]) {
    start(folder, &common::program(), more)
}

fn start(folder: &Path, program: &Path, more: &str) -> (Proxy, [Bulk; 2]) {
    let servers = [Bulk::start(), Bulk::start()];
    let config = format!(
        "healthCheck: {{ type: tcp, interval: 1s }}\n{more}{}",
        backend_lines(&servers.each_ref().map(|server| server.address))
    );
    let proxy = Proxy::start_program(program, folder, &config, &[]);
    proxy.wait_ready(2);
    (proxy, servers)
}

fn spliced(proxy: &Proxy) -> f64 {
    proxy.metric("apiproxy_spliced_bytes_total", &[])
}

/// The open files of the proxy, and what they are.
fn open_files(proxy: &Proxy) -> Vec<(PathBuf, String)> {
    files_of(&proxy.child.id().to_string())
}

fn files_of(process: &str) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let target = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        Some((entry.path(), target.to_string_lossy().into_owned()))
    };
    entries.filter_map(|entry| target(entry.unwrap())).collect()
}

/// The ends of pipes that it made itself: it may have inherited others from us.
fn pipe_ends(proxy: &Proxy) -> Vec<PathBuf> {
    let ours = files_of("self");
    let is_its_own = |(_, target): &(PathBuf, String)| {
        target.starts_with("pipe:") && ours.iter().all(|(_, other)| other != target)
    };
    open_files(proxy).into_iter().filter(is_its_own).map(|(path, _)| path).collect()
}

/// Waits until no connection is left, and no more than so many files.
fn nothing_is_left(proxy: &Proxy, files: usize) {
    wait_for("all connections are over", LONG, || {
        proxy.status().backends.iter().all(|backend| backend.connections == 0).then_some(())
    });
    // A probe or an answer to us may be under way.
    wait_for("all files are closed", LONG, || (open_files(proxy).len() <= files).then_some(()));
}

/// No backend was ever in doubt.
fn nobody_is_blamed(proxy: &Proxy) {
    assert_eq!(proxy.log_text().matches("backend state").count(), 2, "both became ready");
    for backend in proxy.status().backends {
        assert_eq!((backend.state.as_str(), backend.connect_failures_total), ("ready", 0));
    }
}

#[test]
fn bulk_is_spliced_both_ways_at_once_and_byte_exact() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "");
    let files = open_files(&proxy).len();
    // The shorter way is half-closed in the middle of the longer one.
    for (up, down) in [(100 * MIB + 1, 300 * MIB + 7), (200 * MIB + 3, 50 * MIB), (0, 100 * MIB)] {
        let before = spliced(&proxy);
        bulk::exchange(proxy.listen, up, down, AT_ONCE).unwrap();
        nothing_is_left(&proxy, files + KEPT_FILES);
        let share = (spliced(&proxy) - before) / f64::from(u32::try_from(up + down).unwrap());
        report(&format!("{} MiB up, {} MiB down: {share:.3} spliced", up / MIB, down / MIB));
        assert!(share > 0.5 && share <= 1.0, "{share} spliced");
    }
    nobody_is_blamed(&proxy);
}

#[test]
fn small_messages_are_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "");
    for _ in 0..200 {
        bulk::exchange(proxy.listen, 1000, 60_000, AT_ONCE).unwrap();
    }
    assert!(spliced(&proxy) < 1.0);
    assert!(pipe_ends(&proxy).is_empty(), "no pipe was made");
}

#[test]
fn slow_readers_and_resets_among_bulk_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "threads: 2\n");
    let files = open_files(&proxy).len();
    let address = proxy.listen;
    let served = AtomicU32::new(0);
    thread::scope(|scope| {
        for number in 0..30_u64 {
            let served = &served;
            scope.spawn(move || match number % 3 {
                0 => {
                    let pause = (MIB * (1 + number / 3), Duration::from_millis(5));
                    bulk::exchange(address, 8 * MIB + number, 24 * MIB + number, pause).unwrap();
                    served.fetch_add(1, Relaxed);
                }
                1 => {
                    // Gone in the middle, with bytes on their way to it.
                    let stream = bulk::ask(address, 0, 100 * MIB).unwrap();
                    bulk::receive(&stream, MIB * number / 2, AT_ONCE).unwrap();
                    thread::sleep(Duration::from_millis(20));
                    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
                }
                _ => {
                    // Half-closed in the middle.
                    let stream = bulk::ask(address, 3 * MIB, 30 * MIB).unwrap();
                    bulk::send(&stream, 3 * MIB).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    bulk::receive(&stream, 30 * MIB, (10 * MIB, Duration::from_millis(30)))
                        .unwrap();
                    served.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(served.load(Relaxed), 20);
    assert!(spliced(&proxy) > f64::from(1 << 28), "{}", spliced(&proxy));
    nothing_is_left(&proxy, files + 2 * KEPT_FILES);
    report(&format!("{} ends of pipes are kept", pipe_ends(&proxy).len()));
    let resets = proxy.metric("apiproxy_connections_closed_total", &["clientReset"]);
    assert!(resets >= 8.0, "{resets} resets");
}

#[test]
fn two_data_threads_share_the_load_and_bytes_stay_exact() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "threads: 2\n");
    let files = open_files(&proxy).len();
    let address = proxy.listen;
    thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || {
                // Bulk, and among it small requests on connections of their own.
                bulk::exchange(address, 10 * MIB + number, 20 * MIB + number, AT_ONCE).unwrap();
                for _ in 0..50 {
                    bulk::exchange(address, 1000 + number, 30_000 + number, AT_ONCE).unwrap();
                }
            });
        }
    });
    nothing_is_left(&proxy, files + 2 * KEPT_FILES);
    let carried = ["up", "down"].map(|way| proxy.metric("apiproxy_bytes_total", &[way]));
    // With the 16 bytes of each wish.
    let up: u64 = (0..16).map(|number| 10 * MIB + number + 50 * (1000 + number) + 51 * 16).sum();
    let down: u64 = (0..16).map(|number| 20 * MIB + number + 50 * (30_000 + number)).sum();
    let expected = [up, down].map(|bytes| f64::from(u32::try_from(bytes).unwrap()));
    assert_eq!(carried.map(f64::to_bits), expected.map(f64::to_bits), "{carried:?} {expected:?}");
    let times = data_threads(&proxy);
    report(&format!("processor time of the data threads: {times:?}"));
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(times.len() == 2 && *least * 4 > *most, "{times:?}");
}

/// The processor time of each data thread so far.
fn data_threads(proxy: &Proxy) -> Vec<Duration> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.child.id())).unwrap();
    let time = |task: PathBuf| {
        let name = fs::read_to_string(task.join("comm")).ok()?;
        let times = fs::read_to_string(task.join("schedstat")).ok()?;
        let nanoseconds = times.split(' ').next()?.parse().ok()?;
        name.starts_with("data-").then(|| Duration::from_nanos(nanoseconds))
    };
    tasks.filter_map(|task| time(task.unwrap().path())).collect()
}

/// Resident memory in bytes.
fn resident(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_stalled_reader_holds_at_most_a_mebibyte() {
    const READERS: u64 = 16;
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "");
    let files = open_files(&proxy).len();
    bulk::exchange(proxy.listen, 10 * MIB, 10 * MIB, AT_ONCE).unwrap();
    let before = resident(&proxy);
    let stalled: Vec<_> = (0..READERS)
        .map(|_| {
            let stream = bulk::ask(proxy.listen, 0, 100 * MIB).unwrap();
            bulk::receive(&stream, 4 * MIB, AT_ONCE).unwrap();
            stream
        })
        .collect();
    let mut last = 0.0;
    wait_for("nothing moves any more", LONG, || {
        thread::sleep(Duration::from_millis(200));
        let now = proxy.metric("apiproxy_bytes_total", &["down"]);
        (std::mem::replace(&mut last, now).to_bits() == now.to_bits()).then_some(())
    });
    let held_in = |path: PathBuf| File::open(path).ok().and_then(|end| ioctl_fionread(end).ok());
    // Both ends of a pipe tell the same.
    let piped = pipe_ends(&proxy).into_iter().filter_map(held_in).sum::<u64>() / 2;
    let user = resident(&proxy).saturating_sub(before);
    report(&format!(
        "a stalled reader of 100 MiB holds {} KiB in a pipe and {} KiB of memory",
        piped / READERS / 1024,
        user / READERS / 1024
    ));
    assert!(piped > 0, "no pipe holds anything: nothing was seen");
    assert!((piped + user) / READERS <= MIB, "{piped} and {user} bytes for {READERS} readers");
    for stream in &stalled {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    // Each gets the rest, in spite of the wait.
    for stream in stalled {
        bulk::receive_from(&stream, 4 * MIB..100 * MIB, AT_ONCE).unwrap();
    }
    nothing_is_left(&proxy, files + KEPT_FILES);
}

/// A user that nobody is.
const USER: u32 = 61_974;

/// Takes all pipe memory that the kernel gives a user, as that user, until they are dropped.
fn spend_pipes(user: u32) -> Vec<OwnedFd> {
    let spender = thread::spawn(move || {
        // Of this thread alone.
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(user)).unwrap();
        let mut ends = Vec::new();
        loop {
            let (output, input) = pipe().unwrap();
            let whole = fcntl_setpipe_size(&input, 1 << 20).is_ok();
            ends.extend([output, input]);
            if !whole {
                return ends;
            }
        }
    });
    spender.join().unwrap()
}

#[test]
fn without_pipes_for_its_user_it_copies_and_later_splices_again() {
    if !rustix::process::geteuid().is_root() || !common::has_program("setpriv") {
        skip!("root and setpriv are needed to be a user whose pipes are limited");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the user may read it.
    let copy = folder.path().join("apiproxy");
    common::copy_program(&common::program(), &copy);
    let script = folder.path().join("as-user");
    let copy = copy.display();
    let line = format!("exec setpriv --reuid={USER} --clear-groups {copy} \"$@\"");
    fs::write(&script, format!("#!/bin/sh\n{line}\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (proxy, _servers) = start(folder.path(), &script, "");
    let spent = spend_pipes(USER);
    report(&format!("{} pipes are the user's whole share", spent.len() / 2));
    let files = open_files(&proxy).len();
    let start = Instant::now();
    for _ in 0..4 {
        bulk::exchange(proxy.listen, 20 * MIB, 50 * MIB, AT_ONCE).unwrap();
    }
    report(&format!("copied 280 MiB without a pipe within {:?}", start.elapsed()));
    assert!(spliced(&proxy) < 1.0, "{} bytes spliced", spliced(&proxy));
    nothing_is_left(&proxy, files);
    drop(spent);
    wait_for("it splices again", Duration::from_secs(20), || {
        bulk::exchange(proxy.listen, 0, 20 * MIB, AT_ONCE).unwrap();
        (spliced(&proxy) > 0.0).then_some(())
    });
    nobody_is_blamed(&proxy);
}

#[test]
fn without_file_descriptors_for_pipes_it_copies_and_does_not_spin() {
    if !common::has_program("prlimit") {
        skip!("prlimit is not there to limit a running process");
    }
    let folder = tempfile::tempdir().unwrap();
    let (proxy, _servers) = proxy(folder.path(), "");
    let stream = TcpStream::connect(proxy.listen).unwrap();
    wait_for("it is served", LONG, || {
        proxy.status().backends.iter().any(|backend| backend.connections == 1).then_some(())
    });
    let limit = |files: usize| {
        let pid = format!("--pid={}", proxy.child.id());
        common::run(Command::new("prlimit").arg(pid).arg(format!("--nofile={files}:20000")));
    };
    limit(3);
    let before = ticks(&proxy);
    let start = Instant::now();
    bulk::wish(&stream, 0, 400 * MIB).unwrap();
    bulk::receive(&stream, 200 * MIB, (100 * MIB, Duration::from_millis(1500))).unwrap();
    let used = ticks(&proxy) - before;
    report(&format!(
        "200 MiB without a descriptor: {used} hundredths of processor time, {:?}",
        start.elapsed()
    ));
    assert!(used < 250, "it spins: {used} of {:?}", start.elapsed());
    limit(20_000);
    // What waits in one pipe at most.
    assert!(spliced(&proxy) <= f64::from(1 << 20), "{} bytes spliced", spliced(&proxy));
    bulk::receive_from(&stream, 200 * MIB..400 * MIB, AT_ONCE).unwrap();
    assert!(spliced(&proxy) > f64::from(1 << 26), "it splices again");
    for backend in proxy.status().backends {
        assert_eq!((backend.state.as_str(), backend.connect_failures_total), ("ready", 0));
    }
}

/// The processor time of a process so far, of a hundredth of a second each.
fn ticks(proxy: &Proxy) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", proxy.child.id())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, the 14th and 15th field; the first two have been cut off.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
