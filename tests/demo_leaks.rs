//! The demo's servers and loads leave nothing behind, whatever state they are dropped in. Alone in
//! this file, because it counts the threads and file descriptors of its process.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use apiproxy::demo::{ApiServer, Authority, Dialer, Load, LoadOptions};

fn entries(directory: &str) -> io::Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}

#[test]
fn dropped_servers_and_loads_leave_no_thread_and_no_file_descriptor() {
    let authority = Authority::new("leaks").unwrap();
    let issued = authority.server().unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut before = None;
    for round in 0..20 {
        // The first round also opens what a process opens only once.
        if round == 1 {
            before = Some(entries("/proc/self/fd").unwrap());
        }
        let server = ApiServer::start("leaks", &issued, listen).unwrap();
        let dialer = Dialer::new(server.address(), &authority, None).unwrap();
        let load =
            Load::start(dialer, LoadOptions { watches: 2, ..LoadOptions::default() }).unwrap();
        runtime.block_on(load.seen(|stats| stats.watches == 2 && stats.ok > 0));
        match round % 5 {
            0 => server.hang(),
            1 => server.crash(),
            2 => server.restart().unwrap(),
            3 => {
                server.hang();
                server.crash();
                server.resume();
            }
            _ => {}
        }
        if round % 2 == 0 {
            drop(load);
            drop(server);
        } else {
            drop(server);
            drop(load);
        }
    }
    assert_eq!(Some(entries("/proc/self/fd").unwrap()), before);
    // The test's own thread and the harness's; the kernel drops a joined thread's entry a moment
    // after it lets the join return.
    let deadline = Instant::now() + Duration::from_secs(5);
    while entries("/proc/self/task").unwrap() > 2 {
        assert!(Instant::now() < deadline, "threads are left");
        std::thread::yield_now();
    }
}
