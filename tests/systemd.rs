//! What systemd passes and hears: readiness, the main process, signs of life, sockets; with a socket
//! of the test in systemd's place.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Cluster, Echo, Site, backend_lines};
use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, Socket, Type};

const LONG: Duration = Duration::from_secs(20);
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// Stands in for systemd.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Self { socket, folder }
    }

    fn environment(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
    }

    fn hear(&self) -> String {
        let mut bytes = [0; 1000];
        let count = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// The next message that is no sign of life.
    fn news(&self) -> String {
        loop {
            let message = self.hear();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

fn site() -> (Vec<Echo>, Site) {
    let backends = vec![Echo::start(b'1')];
    let lines = backend_lines(&[backends[0].address])
        + "healthCheck: { type: tcp }\nconnections: { drainTimeout: 1s }\n";
    (backends, Site::new(&lines))
}

#[test]
fn systemd_hears_of_readiness_life_and_the_end() {
    let (_backends, site) = site();
    let manager = Manager::new();
    let mut node = site.start_with(&[], |command| {
        manager.environment(command);
        command.env("WATCHDOG_USEC", "300000");
    });
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving\n");
    TcpStream::connect(site.listen).unwrap();
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    let time = start.elapsed();
    assert!(time > Duration::from_millis(700) && time < Duration::from_secs(3), "{time:?}");
    node.signal(SIGTERM);
    assert_eq!(manager.news(), "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(node.wait_end(LONG).code(), Some(0));
}

#[test]
fn signs_of_life_are_for_the_process_that_is_meant() {
    let (_backends, site) = site();
    let manager = Manager::new();
    let mut node = site.start_with(&[], |command| {
        manager.environment(command);
        command.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    });
    assert_eq!(manager.hear(), "READY=1\nSTATUS=serving\n");
    manager.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    manager.socket.recv(&mut [0; 10]).unwrap_err();
    manager.socket.set_read_timeout(Some(LONG)).unwrap();
    node.signal(SIGTERM);
    assert_eq!(manager.hear(), "STOPPING=1\nSTATUS=draining\n");
    node.wait_end(LONG);
}

#[test]
fn who_takes_over_is_the_main_process_and_nobody_stops() {
    let (_backends, site) = site();
    let manager = Manager::new();
    let watched = |command: &mut Command| {
        manager.environment(command);
        command.env("WATCHDOG_USEC", "300000");
    };
    let mut old = site.start_with(&[], watched);
    assert_eq!(manager.news(), "READY=1\nSTATUS=serving\n");
    let pid = old.pid().to_string();
    let mut new = site.start_with(&["--take-over"], |command| {
        watched(command);
        // As a child of the old one has it.
        command.env("WATCHDOG_PID", pid);
    });
    assert_eq!(manager.news(), format!("MAINPID={}\nREADY=1\nSTATUS=serving\n", new.pid()));
    assert_eq!(old.wait_end(LONG).code(), Some(0));
    for _ in 0..5 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n", "and no word of stopping");
    }
    new.signal(SIGTERM);
    assert_eq!(manager.news(), "STOPPING=1\nSTATUS=draining\n");
    new.wait_end(LONG);
}

/// Regression: a process that stood by said nothing, so that systemd gave it up after a while.
#[test]
fn who_stands_by_has_started_and_lives_and_serves_when_it_is_needed() {
    let (_backends, site) = site();
    let manager = Manager::new();
    let mut newer = site.start_with(&["--take-over", "--generation", "2"], |_| {});
    newer.wait_log("serving", LONG);
    let older = site.start_with(&["--take-over", "--generation", "1"], |command| {
        manager.environment(command);
        command.env("WATCHDOG_USEC", "300000");
    });
    let news = manager.news();
    assert!(news.starts_with("READY=1\nSTATUS=standing by: "), "{news}");
    assert!(news.contains("generation 2 serves already"), "{news}");
    for _ in 0..5 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    assert_eq!(site.pid(), newer.pid());
    // Also while that one hangs.
    newer.signal(SIGSTOP);
    let silent = "READY=1\nSTATUS=standing by: the running process does not answer within 5s\n";
    assert_eq!(manager.news(), silent);
    for _ in 0..20 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }
    newer.signal(SIGCONT);
    let news = manager.news();
    assert!(
        news.contains("STATUS=standing by: ") && news.contains("generation 2 serves"),
        "{news}"
    );
    newer.signal(9);
    newer.wait_end(LONG);
    assert_eq!(manager.news(), "READY=1\nSTATUS=serving\n");
    assert_eq!(site.pid(), older.pid());
    assert_eq!(manager.hear(), "WATCHDOG=1\n");
}

/// A command line of bash that starts what follows it with these sockets as systemd passes them.
fn activate(command: &mut Command, sockets: &[(&str, &OwnedFd)]) {
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let pass = |(number, (_, socket)): (usize, &(&str, &OwnedFd))| {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
        format!("exec {}<&{}\n", 3 + number, socket.as_raw_fd())
    };
    let passed: Vec<_> = sockets.iter().enumerate().map(pass).collect();
    let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
    let script = format!(
        "{}export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}\nexec \"$@\"\n",
        passed.concat(),
        sockets.len(),
        names.join(":")
    );
    *command = Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(program).args(arguments);
}

#[test]
fn sockets_of_systemd_are_used_in_place_of_the_configured_ones() {
    let cluster = Cluster::new(1);
    let site = Site::new(&cluster.lines(""));
    let any = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (clients, more, admin) = (any(), any(), any());
    let addresses = [clients.local_addr().unwrap(), more.local_addr().unwrap()];
    let admin_address = admin.local_addr().unwrap();
    let path = cluster.folder.path().join("activated.sock");
    let control = UnixListener::bind(&path).unwrap();
    // A client that comes before the service does waits for it.
    let early = TcpStream::connect(addresses[0]).unwrap();
    let sockets: [OwnedFd; 4] = [clients.into(), admin.into(), control.into(), more.into()];
    let named: Vec<_> = ["clients", "admin", "control", "more"].into_iter().zip(&sockets).collect();
    let node = site.start_with(&[], |command| activate(command, &named));
    drop(sockets);
    node.wait_log("serving", LONG);
    let dialer = |address| apiproxy::demo::Dialer::new(address, &cluster.authority, None).unwrap();
    let (code, body) = common::http_get(admin_address, "/status");
    assert_eq!(code, 200);
    let status: apiproxy::admin::Status = serde_json::from_str(&body).unwrap();
    assert_eq!(status.listen, addresses);
    assert_eq!(status.pid, node.pid());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in addresses {
        let answered = runtime.block_on(async {
            let mut connection = dialer(address).dial(apiproxy::demo::Protocol::Http1).await?;
            connection.get("/whoami").await
        });
        assert_eq!(answered.unwrap().status().as_u16(), 200);
    }
    TcpStream::connect(site.listen).unwrap_err();
    assert!(early.peer_addr().is_ok());
    // Another `listen` is told to be in vain, at the start and in a reload, and is not a change.
    node.wait_log("`listen` is ignored", LONG);
    let lines = cluster.lines("");
    let other = site.listening("127.0.0.1:1".parse().unwrap());
    let reload = |text: &str| {
        site.replace_config(text);
        let outcome = common::outcome(common::command(&["reload", "--control-socket"]).arg(&path));
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    let said = reload(&other.text(&lines));
    assert!(said.starts_with("`listen` is ignored (127.0.0.1:1)"), "{said}");
    assert!(said.contains(&addresses[0].to_string()) && said.lines().count() == 1, "{said}");
    let said = reload(&other.text(&(lines.clone() + "zone: b\n")));
    assert!(said.starts_with("zone: none -> b\n`listen` is ignored"), "{said}");
    let same = format!("[\"{}\", \"{}\"]", addresses[1], addresses[0]);
    let text = site.text(&lines).replace(&format!("[\"{}\"]", site.listen), &same);
    let text = text.replace(&site.admin.to_string(), "127.0.0.1:1");
    assert_eq!(reload(&text), "zone: b -> none\n");
    let outcome = common::outcome(
        common::command(&["drain", "cp1", "--force", "--control-socket"]).arg(&path),
    );
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

/// Regression: it was passed over when there were none for clients.
#[test]
fn a_socket_for_the_admin_endpoint_alone_is_used() {
    let backend = Echo::start(b'1');
    let lines = backend_lines(&[backend.address]) + "healthCheck: { type: tcp }\n";
    let site = Site::new(&lines);
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = admin.local_addr().unwrap();
    let socket = OwnedFd::from(admin);
    let node = site.start_with(&[], |command| activate(command, &[("admin", &socket)]));
    drop(socket);
    node.wait_log("serving", LONG);
    let (code, body) = common::http_get(address, "/status");
    assert_eq!(code, 200);
    let status: apiproxy::admin::Status = serde_json::from_str(&body).unwrap();
    assert_eq!((status.pid, status.listen), (node.pid(), vec![site.listen]));
    TcpStream::connect(site.listen).unwrap();
    TcpStream::connect(site.admin).unwrap_err();
    // Another `admin.listen` is no change; another `listen` is.
    let more = format!("[\"{}\", \"127.0.0.1:{}\"]", site.listen, common::free_port());
    let text = site.text(&lines).replace(&format!("[\"{}\"]", site.listen), &more);
    site.replace_config(&text.replace(&site.admin.to_string(), "127.0.0.1:1"));
    let outcome =
        common::outcome(common::command(&["reload", "--control-socket"]).arg(&site.control));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.starts_with("listen: "), "{outcome:?}");
    assert!(!outcome.stdout.contains("admin.listen"), "{outcome:?}");
}

/// Regression: such a socket was served, and no client ever came.
#[test]
fn sockets_that_do_not_listen_are_refused() {
    let (_backends, site) = site();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for name in ["clients", "admin"] {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&any.into()).unwrap();
        let socket = OwnedFd::from(socket);
        let mut node = site.start_with(&[], |command| activate(command, &[(name, &socket)]));
        assert_eq!(node.wait_end(LONG).code(), Some(1));
        let expected =
            format!("socket 0 of socket activation, named \"{name}\": it does not listen");
        assert!(node.log().contains(&expected), "{}", node.log());
    }
}

#[test]
fn sockets_of_the_wrong_kind_are_refused() {
    let (_backends, site) = site();
    let datagrams: OwnedFd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let mut node = site.start_with(&[], |command| activate(command, &[("clients", &datagrams)]));
    assert_eq!(node.wait_end(LONG).code(), Some(1));
    assert!(node.log().contains("socket 0 of socket activation"), "{}", node.log());
    TcpStream::connect(site.listen).unwrap_err();
}
