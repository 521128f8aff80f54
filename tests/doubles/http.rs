//! HTTP/1.1 as much as clients of Kubernetes and etcd need.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read, Write};

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// Its first line.
    pub(crate) start: String,
    /// With names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Reads one; none at the end of the stream. `to_the_end`: one without a length goes on until then.
    pub(crate) fn read(stream: &mut impl BufRead, to_the_end: bool) -> io::Result<Option<Self>> {
        let Some(start) = line(stream)? else { return Ok(None) };
        let mut message = Self { start, ..Self::default() };
        loop {
            let line = line(stream)?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
            message.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if message.headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            while let Some(chunk) = chunk(stream)? {
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.headers.get("content-length") {
            let length = length.parse().map_err(|_| ErrorKind::InvalidData)?;
            stream.take(length).read_to_end(&mut message.body)?;
        } else if to_the_end {
            stream.read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// The part of its first line at this place.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start.split(' ').nth(index).unwrap_or_default()
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = stream.take(65_536).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok((length > 0).then_some(line))
}

fn chunk(stream: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let size = line(stream)?.ok_or(ErrorKind::UnexpectedEof)?;
    let size = u64::from_str_radix(size.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
    let mut chunk = Vec::new();
    stream.take(size).read_to_end(&mut chunk)?;
    line(stream)?;
    Ok((size > 0).then_some(chunk))
}

/// Writes an answer.
pub(crate) fn answer(
    stream: &mut impl Write,
    status: u16,
    kind: &str,
    body: &[u8],
) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    stream.flush()
}

/// The parts of `a=b&c=d`, decoded.
pub(crate) fn query(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    split.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
