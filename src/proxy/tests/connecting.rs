//! Connects that fail: how often a backend is tried that takes none, and what many clients may cost.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::model::ConnectOutcome;

impl Bench {
    /// The other backend is at this address from now on, and has so many connections less: clients
    /// are to try it first. Nobody probes, so it stays ready.
    fn lure(&mut self, address: SocketAddr, less: usize) -> Arc<Backend> {
        self.busy = (0..less).map(|_| self.backend.occupy()).collect();
        self.writer.update(|snapshot| snapshot.entries[1].addresses = [address].into());
        let snapshot = self.writer.reader().load().clone();
        snapshot.entries[1].backend.clone()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render(|_, _| true);
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

#[test]
fn a_backend_that_refuses_is_not_tried_by_every_client() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refusing = bench.lure(closed, 1000);
        let refused = || refusing.counters.connects(ConnectOutcome::Refused);
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(bench.connection().await);
        }
        assert_eq!(refused(), 1);
        tokio::time::sleep(Duration::from_millis(61)).await;
        for _ in 0..20 {
            open.push(bench.connection().await);
        }
        assert_eq!(refused(), 2);
        // Six more until the time does not grow any more, and then one in two seconds.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            open.push(bench.connection().await);
            open.truncate(40);
        }
        assert!((30..45).contains(&refused()), "{} in a minute", refused());
    });
}

#[test]
fn a_backend_that_takes_connections_again_is_used_again() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let other = bench.lure(address, 1000);
        let mut clients = vec![bench.connection().await.0];
        let _listener = TcpListener::bind(address).await.unwrap();
        let next = || async {
            let client = TcpStream::connect(bench.proxy).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            client
        };
        clients.push(next().await);
        assert_eq!((bench.backend.counters.active(), other.counters.active()), (1002, 0));
        tokio::time::sleep(Duration::from_millis(61)).await;
        clients.extend([next().await, next().await]);
        assert_eq!(other.counters.active(), 2);
    });
}

#[test]
fn all_are_tried_when_all_are_set_aside() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        bench.lure(closed, 1000);
        bench.writer.update(|snapshot| snapshot.entries[0].addresses = [closed].into());
        let refuse = || async {
            let mut client = TcpStream::connect(bench.proxy).await.unwrap();
            assert!(client.read(&mut [0]).await.is_err(), "reset");
        };
        for round in 1..=10 {
            refuse().await;
            assert_eq!(bench.backend.counters.connects(ConnectOutcome::Refused), round);
        }
        let open = bench.server.local_addr().unwrap();
        bench.writer.update(|snapshot| snapshot.entries[0].addresses = [open].into());
        bench.connection().await;
    });
}

/// A listener whose queue is full: SYNs to it are dropped, as by a host that is gone.
fn blackhole() -> (SocketAddr, Vec<Socket>) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    loop {
        assert!(sockets.len() < 20, "a queue of length 0 takes 20 connections");
        let next = socket();
        let full = next.connect_timeout(&address, Duration::from_millis(300)).is_err();
        sockets.push(next);
        if full {
            return (address.as_socket().unwrap(), sockets);
        }
    }
}

#[test]
fn many_clients_of_a_silent_host_do_not_double_the_connections_of_the_others() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let (address, _sockets) = blackhole();
        let silent = bench.lure(address, 0);
        let taking = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = taking.local_addr().unwrap();
        bench.writer.update(|snapshot| snapshot.entries[0].addresses = [open].into());
        spawn_local(async move {
            let mut taken = Vec::new();
            loop {
                taken.push(taking.accept().await.unwrap());
            }
        });
        let mut clients = Vec::new();
        // They come at once, before anything is known; half of them meet the silent host.
        for _ in 0..400 {
            clients.push(TcpStream::connect(bench.proxy).await.unwrap());
        }
        let silence = Duration::from_millis(100);
        tokio::time::sleep(silence).await;
        let stuck = silent.counters.active();
        assert!((190..=210).contains(&stuck), "{stuck} of 400 try the silent host");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let hedged = bench.metric("apiproxy_hedged_connects_total");
        // A hundred are free, and what clients pay in meanwhile that are served in this way.
        assert!((100..150).contains(&hedged), "{hedged} hedges");
        assert!(bench.metric("apiproxy_hedges_withheld_total") >= 50);
        assert_eq!(bench.backend.counters.active() as u64, 400 - stuck as u64 + hedged);
        // The next ones do not try the silent host first, and cost nothing.
        for _ in 0..100 {
            clients.push(TcpStream::connect(bench.proxy).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let more = bench.metric("apiproxy_hedged_connects_total") - hedged;
        assert!(more <= 1, "{more} hedges for clients that came later");
    });
}

#[test]
fn a_pause_of_the_process_costs_no_client_and_no_backend_its_name() {
    paused(|| async {
        let mut bench = Bench::new().await;
        let (address, sockets) = blackhole();
        let backend = bench.lure(address, 1000);
        let mut client = TcpStream::connect(bench.proxy).await.unwrap();
        while backend.counters.active() == 0 {
            tokio::task::yield_now().await;
        }
        // This whole process stands still, while the kernel repeats the SYN after a second and the
        // host is there again.
        let (listener, waiting) = sockets.split_first().unwrap();
        listener.listen(16).unwrap();
        for _ in waiting {
            listener.accept().unwrap();
        }
        let proxied = listener.accept();
        // Three seconds have passed when it wakes up.
        tokio::time::advance(Duration::from_secs(3)).await;
        let (proxied, _) = proxied.unwrap();
        proxied.send(b"hello").unwrap();
        let mut words = [0; 5];
        client.read_exact(&mut words).await.unwrap();
        assert_eq!(backend.counters.connects(ConnectOutcome::Timeout), 0);
        while let Ok(hint) = bench.hints.try_recv() {
            assert!(!matches!(hint, Hint::Doubt { doubt: Doubt::Connect, .. }), "{hint:?}");
        }
    });
}

#[test]
fn a_client_that_is_not_connected_yet_when_its_thread_ends_is_told_rst() {
    // The runtime ends with this block, and the connections of the thread with it.
    let client = paused(|| async {
        let mut bench = Bench::new().await;
        let (address, _sockets) = blackhole();
        let backend = bench.lure(address, 1000);
        let client = TcpStream::connect(bench.proxy).await.unwrap();
        while backend.counters.active() == 0 {
            tokio::task::yield_now().await;
        }
        client.into_std().unwrap()
    });
    client.set_nonblocking(false).unwrap();
    let end = std::io::Read::read(&mut &client, &mut [0]);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
