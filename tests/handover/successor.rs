//! A process that wants to take over and does it wrong: the test plays it.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub(crate) struct Successor {
    stream: UnixStream,
    sockets: Vec<OwnedFd>,
}

impl Successor {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, sockets: Vec::new() }
    }

    /// Says a line; whoever has hung up does not hear it.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
    }

    /// Asks for the sockets and takes them. Asks again while the one before it, who has died, is not
    /// yet missed.
    pub(crate) fn ask_for_sockets(&mut self) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let text = self.ask_once();
            if text.contains("\"offered\"") && text.ends_with('\n') {
                return;
            }
            assert!(text.contains("under way") && Instant::now() < end, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask_once(&mut self) -> String {
        self.say(r#"{"version":1,"request":{"handover":{}}}"#);
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.stream, &mut slices, &mut ancillary, flags).unwrap();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                self.sockets.extend(passed);
            }
        }
        String::from_utf8_lossy(&bytes[..received.bytes]).into_owned()
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    /// All that the other side still says.
    pub(crate) fn last_word(&mut self) -> String {
        let mut bytes = Vec::new();
        // What was not read there makes the end a reset.
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
