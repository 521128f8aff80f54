//! The ends of a connection and its back-pressure, seen from two bare sockets with the proxy between
//! them: no TLS is needed for these, and none could hide what arrives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use apiproxy::demo::{Blob, Sha256};
use socket2::{Domain, SockRef, Socket, Type};
use tempfile::TempDir;

use crate::common::{Proxy, wait_for};

/// Longer than any machine needs, and shorter than the 60 s after which the proxy would end a
/// half-closed connection anyway.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client's first bytes, by which the server tells it from a probe.
const HELLO: &[u8; 5] = b"hello";

/// The proxy, and a server that hands out the connections of clients.
struct Setup {
    accepted: Receiver<TcpStream>,
    proxy: Proxy,
    _folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        // Small buffers, inherited by what it accepts, so that a slow reader is felt soon.
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.set_recv_buffer_size(16 * 1024).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(16).unwrap();
        let listener = TcpListener::from(listener);
        let backend = listener.local_addr().unwrap();
        let (sender, accepted) = channel();
        // Ends with the process: nothing but another connection could wake it.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                let mut hello = [0; HELLO.len()];
                let is_client = stream.read_exact(&mut hello).is_ok() && hello == *HELLO;
                if is_client && sender.send(stream).is_err() {
                    return;
                }
            }
        });
        let folder = TempDir::new().unwrap();
        let config =
            format!("backends: [{{ address: \"{backend}\" }}]\nhealthCheck: {{ type: tcp }}");
        let proxy = Proxy::start(folder.path(), &config);
        proxy.wait_ready(1);
        Self { accepted, proxy, _folder: folder }
    }

    /// A client and the server's end of its connection.
    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(16 * 1024).unwrap();
        client.connect(&self.proxy.listen.into()).unwrap();
        let mut client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client.write_all(HELLO).unwrap();
        (client, self.accepted.recv_timeout(PATIENCE).unwrap())
    }

    /// Runs the test with client and server, and again with the roles swapped.
    fn both_ways(&self, test: impl Fn(TcpStream, TcpStream)) {
        let (client, server) = self.pair();
        test(client, server);
        let (client, server) = self.pair();
        test(server, client);
    }
}

/// Closes with an RST.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Writes until nobody takes more: the peer does not read, so that the proxy is left with bytes that
/// it cannot pass on.
fn fill(mut stream: &TcpStream) {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let stuck = stream.write_all(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!(stuck.kind(), ErrorKind::WouldBlock);
}

/// Waits for the error that the kernel notes on a socket when an RST comes.
fn wait_for_reset(stream: &TcpStream) -> io::Error {
    wait_for("the RST arrives", PATIENCE, || stream.take_error().unwrap())
}

/// Reads to the end in pieces of changing size, with a pause now and then, and returns the SHA-256.
fn read_slowly(mut stream: TcpStream) -> String {
    let (mut hash, mut buffer, mut round) = (Sha256::default(), vec![0; 20_000], 0usize);
    loop {
        round += 1;
        let size = 1 + round * 7919 % buffer.len();
        match stream.read(&mut buffer[..size]).unwrap() {
            0 => return hash.hex(),
            count => hash.update(&buffer[..count]),
        }
        // The reader's slowness is the subject; no result is waited for.
        if round.is_multiple_of(16) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(mut stream: &TcpStream, blob: Blob) {
    blob.for_each(|chunk| stream.write_all(&chunk).unwrap());
}

#[test]
fn an_answer_is_whole_after_the_asker_has_shut_its_side() {
    let setup = Setup::new();
    setup.both_ways(|mut asker, mut answerer| {
        asker.write_all(b"request").unwrap();
        asker.shutdown(Shutdown::Write).unwrap();
        let mut request = String::new();
        answerer.read_to_string(&mut request).unwrap();
        assert_eq!(request, "request");
        let answer = Blob::new(1, 4 << 20);
        let hash = answer.clone().sha256();
        let answering = thread::spawn(move || write_all(&answerer, answer));
        assert_eq!(read_slowly(asker), hash);
        answering.join().unwrap();
    });
}

#[test]
fn a_fin_arrives_as_fin() {
    Setup::new().both_ways(|one, mut other| {
        drop(one);
        assert_eq!(other.read(&mut [0; 1]).unwrap(), 0);
        assert!(other.take_error().unwrap().is_none());
    });
}

#[test]
fn a_reset_arrives_as_reset() {
    Setup::new().both_ways(|one, mut other| {
        reset(one);
        assert_eq!(other.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_arrives_while_nobody_takes_the_bytes_of_the_other_direction() {
    Setup::new().both_ways(|one, other| {
        fill(&other);
        reset(one);
        assert_eq!(wait_for_reset(&other).kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_reset_arrives_after_the_bytes_that_were_held_up() {
    Setup::new().both_ways(|one, mut other| {
        fill(&one);
        reset(one);
        let error = io::copy(&mut other, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_clients_reset_arrives_at_a_server_that_reads_nothing() {
    let setup = Setup::new();
    let (client, server) = setup.pair();
    fill(&client);
    reset(client);
    assert_eq!(wait_for_reset(&server).kind(), ErrorKind::ConnectionReset);
}

/// A client that has asked, shut its side and gone must not keep a connection of the server, nor a
/// server that has died after its FIN a client that waits to say more.
#[test]
fn a_reset_after_fin_arrives_as_reset() {
    Setup::new().both_ways(|one, mut other| {
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(other.read(&mut [0; 1]).unwrap(), 0);
        reset(one);
        // What Linux calls a reset of a connection whose peer has sent its FIN.
        assert_eq!(wait_for_reset(&other).kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn slow_readers_get_every_byte_both_ways_at_once() {
    let setup = Setup::new();
    let (client, server) = setup.pair();
    let bytes = 16 << 20;
    thread::scope(|scope| {
        for (seed, from, to) in [(1, &client, &server), (2, &server, &client)] {
            let to = to.try_clone().unwrap();
            let hash = scope.spawn(move || read_slowly(to));
            scope.spawn(move || {
                write_all(from, Blob::new(seed, bytes));
                from.shutdown(Shutdown::Write).unwrap();
                let expected = Blob::new(seed, bytes).sha256();
                assert_eq!(hash.join().unwrap(), expected);
            });
        }
    });
}
