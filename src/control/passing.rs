//! Passes open sockets between processes along with a line (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::line::Lines;

/// The most that the kernel passes in one message (`SCM_MAX_FD`).
pub(super) const MOST_SOCKETS: usize = 253;

/// Sends a line, and the sockets with its first byte.
pub(super) async fn send(
    stream: &mut UnixStream,
    line: &[u8],
    sockets: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let rights = SendAncillaryMessage::ScmRights(sockets);
            let mut space = vec![MaybeUninit::uninit(); rights.size()];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(rights) {
                return Err(io::Error::other("there are too many sockets to pass"));
            }
            let line = [IoSlice::new(line)];
            Ok(sendmsg(&*stream, &line, &mut ancillary, SendFlags::NOSIGNAL)?)
        })
        .await?;
    stream.write_all(&line[sent..]).await
}

/// Receives a line, and the sockets that came with it.
pub(super) async fn receive(
    stream: &UnixStream,
    lines: &mut Lines,
    longest: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut sockets = Vec::new();
    loop {
        if let Some(line) = lines.take(longest)? {
            return Ok((line, sockets));
        }
        let mut bytes = [0; 4096];
        let count = stream
            .async_io(Interest::READABLE, || receive_some(stream.as_fd(), &mut bytes, &mut sockets))
            .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lines.put(&bytes[..count]);
    }
}

fn receive_some(
    stream: BorrowedFd<'_>,
    bytes: &mut [u8],
    sockets: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(bytes)];
    let received = recvmsg(stream, &mut bytes, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            sockets.extend(passed);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("sockets were lost: the limit of open files is too low"));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_come_with_their_line() {
        let (mut one, two) = UnixStream::pair().unwrap();
        let listeners: Vec<_> =
            (0..MOST_SOCKETS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        let line = [vec![b'x'; 10_000], b"\nnext\n".to_vec()].concat();
        let mut lines = Lines::default();
        let (sent, received) =
            tokio::join!(send(&mut one, &line, &fds), receive(&two, &mut lines, 20_000));
        sent.unwrap();
        let (text, sockets) = received.unwrap();
        assert_eq!((text.len(), sockets.len()), (10_000, MOST_SOCKETS));
        for (socket, listener) in sockets.into_iter().zip(&listeners) {
            let passed = TcpListener::from(socket).local_addr().unwrap();
            assert_eq!(passed, listener.local_addr().unwrap());
        }
        assert_eq!(lines.take(10).unwrap().unwrap(), b"next");
        drop(one);
        let ended = receive(&two, &mut lines, 10).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
