//! What goes over the wire. A request names the length of its answer; both are TLS records in their
//! form, so that a proxy which follows records has its work, and nobody pays for encryption.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The bytes of a request: about what a small one of a Kubernetes client takes.
const REQUEST: usize = 205;

/// Type, version and length: RFC 8446 section 5.1.
const HEADER: usize = 5;
const APPLICATION_DATA: u8 = 23;

/// The bytes of a whole record.
const RECORD: usize = HEADER + (1 << 14);

/// Records that are written one after the other before another connection has its turn.
const RECORDS: usize = 16;

/// Asks for an answer of so many bytes.
pub(crate) async fn ask(stream: &mut TcpStream, answer: u64) -> io::Result<()> {
    let mut request = [0; REQUEST];
    head(&mut request);
    request[HEADER..HEADER + 8].copy_from_slice(&answer.to_be_bytes());
    stream.write_all(&request).await
}

/// Reads an answer of so many bytes to its end, without keeping it.
pub(crate) async fn hear(stream: &mut TcpStream, answer: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut left = answer;
    while left > 0 {
        let room = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = stream.read(&mut buffer[..room]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if left == answer && buffer[0] != APPLICATION_DATA {
            return Err(io::Error::other("the answer does not begin as a record"));
        }
        left -= count as u64;
    }
    Ok(())
}

/// Answers requests until the client has no more.
pub(crate) async fn answer_all(mut stream: TcpStream, record: &[u8]) -> io::Result<()> {
    let mut request = [0; REQUEST];
    let mut last = Vec::new();
    loop {
        match stream.read_exact(&mut request).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut length = [0; 8];
        length.copy_from_slice(&request[HEADER..HEADER + 8]);
        let mut left = usize::try_from(u64::from_be_bytes(length)).map_err(io::Error::other)?;
        while left >= RECORD {
            // As kube-apiserver sends them: Go's crypto/tls makes one write of each record.
            for _ in 0..(left / RECORD).min(RECORDS) {
                stream.write_all(record).await?;
                left -= RECORD;
            }
            // Others have their turn, however fast this client reads.
            tokio::task::yield_now().await;
        }
        if left > 0 {
            if left <= HEADER {
                return Err(io::Error::other("an answer may not end inside a header"));
            }
            last.resize(left, 0);
            head(&mut last);
            stream.write_all(&last).await?;
        }
    }
}

/// A whole record, to be written again and again.
pub(crate) fn record() -> Vec<u8> {
    let mut record = vec![0xa5; RECORD];
    head(&mut record);
    record
}

/// Gives a record its header.
fn head(record: &mut [u8]) {
    let [high, low] = u16::try_from(record.len() - HEADER).unwrap_or(u16::MAX).to_be_bytes();
    record[..HEADER].copy_from_slice(&[APPLICATION_DATA, 3, 3, high, low]);
}
