//! Reads one line of bounded length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads lines from a stream; keeps what came after the last one.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line without its end; `None` when the peer has said its last word. Dropping the
    /// future loses nothing.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        longest: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take(longest)? {
                return Ok(Some(line));
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off in a line"))
                };
            }
        }
    }

    /// Adds bytes that were read in another way.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The first line that is here already.
    pub(super) fn take(&mut self, longest: usize) -> io::Result<Option<Vec<u8>>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.buffer.len()) > longest {
            let message = format!("a line is longer than {longest} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(end.map(|end| {
            let mut line: Vec<_> = self.buffer.drain(..=end).collect();
            line.pop();
            line
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_none_is_too_long() {
        let mut lines = Lines::default();
        let mut stream = &b"one\n\nthree\nrest"[..];
        let mut all = Vec::new();
        let last = loop {
            match lines.next(&mut stream, 5).await {
                Ok(Some(line)) => all.push(String::from_utf8(line).unwrap()),
                other => break other,
            }
        };
        assert_eq!(all, ["one", "", "three"]);
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mut long = &b"123456"[..];
        let refused = Lines::default().next(&mut long, 5).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(Lines::default().next(&mut &b""[..], 5).await.unwrap(), None);
    }
}
