//! A plain TCP server that takes and gives as many bytes as it is asked to, at once, each of them
//! known to both ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// What is sent again and again: random bytes, of a prime length so that no buffer's end fits.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = fastrand::Rng::with_seed(18_174);
    (0..1_000_003).map(|_| random.u8(..)).collect()
});

const LONG: Duration = Duration::from_mins(1);

/// The next bytes of a stream from a position on.
fn next(at: u64, most: u64) -> &'static [u8] {
    let from = usize::try_from(at % BYTES.len() as u64).unwrap();
    let count = usize::try_from(most).unwrap().min(BYTES.len() - from);
    &BYTES[from..from + count]
}

/// Sends so many bytes.
pub fn send(mut stream: &TcpStream, count: u64) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let bytes = next(at, (count - at).min(300_000));
        stream.write_all(bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Receives so many bytes and compares each; pauses after each `pause.0` of them for `pause.1`.
pub fn receive(stream: &TcpStream, count: u64, pause: (u64, Duration)) -> io::Result<()> {
    receive_from(stream, 0..count, pause)
}

/// The same from another position of the stream on.
pub fn receive_from(
    mut stream: &TcpStream,
    positions: Range<u64>,
    pause: (u64, Duration),
) -> io::Result<()> {
    let mut buffer = vec![0; 200_000];
    let Range { start: mut at, end } = positions;
    let mut paused = at / pause.0;
    while at < end {
        let most = next(at, (end - at).min(buffer.len() as u64)).len();
        let got = stream.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        assert!(buffer[..got] == *next(at, got as u64), "wrong bytes from {at} on");
        at += got as u64;
        if at / pause.0 > paused {
            paused = at / pause.0;
            thread::sleep(pause.1);
        }
    }
    Ok(())
}

/// No pause at all.
pub const AT_ONCE: (u64, Duration) = (u64::MAX, Duration::ZERO);

/// The server. Its threads end with their connections, or with the test.
pub struct Bulk {
    pub address: SocketAddr,
}

impl Bulk {
    pub fn start() -> Self {
        let listener = TcpListener::bind(super::ANY_PORT).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                // A client that resets is part of the tests, and so are probes that ask nothing.
                thread::spawn(move || serve(&stream).is_ok());
            }
        });
        Self { address }
    }
}

/// Takes what it was told, gives what it was asked for, says FIN, and waits for the client's.
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    let mut wish = [0; 16];
    stream.read_exact(&mut wish)?;
    let [up, down] = [0, 8].map(|at| u64::from_be_bytes(wish[at..at + 8].try_into().unwrap()));
    let giver = stream.try_clone()?;
    let giving = thread::spawn(move || {
        send(&giver, down)?;
        giver.shutdown(Shutdown::Write)
    });
    receive(stream, up, AT_ONCE)?;
    assert_eq!(stream.read(&mut [0; 1])?, 0, "FIN after the last byte");
    giving.join().unwrap()
}

/// A connection on which the server was asked for so many bytes either way.
pub fn ask(address: SocketAddr, up: u64, down: u64) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    wish(&stream, up, down)?;
    Ok(stream)
}

/// Asks for so many bytes either way.
pub fn wish(mut stream: &TcpStream, up: u64, down: u64) -> io::Result<()> {
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    let mut wish = up.to_be_bytes().to_vec();
    wish.extend(down.to_be_bytes());
    stream.write_all(&wish)
}

/// Moves so many bytes both ways at once, says FIN after its own, and expects the server's.
pub fn exchange(address: SocketAddr, up: u64, down: u64, pause: (u64, Duration)) -> io::Result<()> {
    let stream = ask(address, up, down)?;
    let giver = stream.try_clone()?;
    let giving = thread::spawn(move || {
        send(&giver, up)?;
        giver.shutdown(Shutdown::Write)
    });
    receive(&stream, down, pause)?;
    let end = (&stream).read(&mut [0; 1])?;
    assert_eq!(end, 0, "FIN after the last byte");
    giving.join().unwrap()
}
