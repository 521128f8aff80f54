//! The streams over HTTP: downloads, slow readers, echoes, uploads, watches, requests and
//! connections that do nothing for long.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use apiproxy::demo::{Blob, Connection, Dialer, Protocol};
use fastrand::Rng;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::content::{Expected, blob};
use super::pulse::Pulse;

/// A stream of one kind: what it does, again and again, until it is dropped.
pub struct Stream {
    pub dialer: Dialer,
    pub pulse: Arc<Pulse>,
    pub rng: Rng,
}

/// Which stream.
#[derive(Clone, Copy)]
pub enum Kind {
    Download,
    Bulk,
    SlowReader,
    Echo,
    Upload,
    Watch,
    Requests,
    Idle,
}

impl Stream {
    pub async fn run(mut self, kind: Kind) {
        loop {
            let result = match kind {
                Kind::Download => self.download(1_000_000, Duration::ZERO).await,
                Kind::Bulk => self.download(64_000_000, Duration::ZERO).await,
                // It has to fill the buffers on the way before it holds anything back.
                Kind::SlowReader => self.download(6_000_000, Duration::from_millis(300)).await,
                Kind::Echo => self.echo().await,
                Kind::Upload => self.upload().await,
                Kind::Watch => self.watch().await,
                Kind::Requests => self.requests().await,
                Kind::Idle => self.idle().await,
            };
            self.settle(result).await;
        }
    }

    /// Notes a cut, and waits a little, so that the streams do not run in step.
    pub async fn settle(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            if let Some(fault) = tls_fault(&error) {
                self.pulse.wrong(&format!("other bytes under TLS: {fault}"));
            }
            self.pulse.ledger.cut.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let pause = Duration::from_millis(self.rng.u64(100..1_000));
        self.pulse.rest(pause).await;
    }

    async fn dial(&mut self) -> io::Result<Connection> {
        self.pulse.beat("a connection");
        let protocol = if self.rng.bool() { Protocol::Http1 } else { Protocol::Http2 };
        let connection = self.dialer.dial(protocol).await?;
        self.pulse.beat("an answer");
        Ok(connection)
    }

    /// Reads a blob of less than so many bytes; with a pause after each piece of it, if any.
    async fn download(&mut self, most: u64, pause: Duration) -> io::Result<()> {
        let mut connection = self.dial().await?;
        let (seed, length) = (self.rng.u64(..), self.rng.u64(0..most));
        let answer = connection.get(&format!("/blob?bytes={length}&seed={seed}")).await?;
        self.compare(answer, Expected::new(seed, length), pause).await
    }

    /// Sends a blob and reads it back while it is being sent.
    async fn echo(&mut self) -> io::Result<()> {
        let mut connection = self.dial().await?;
        let (seed, length) = (self.rng.u64(..), self.rng.u64(0..500_000));
        let answer = connection.post("/echo", blob(seed, length)).await?;
        self.compare(answer, Expected::new(seed, length), Duration::ZERO).await
    }

    async fn compare(
        &self,
        answer: Response<Incoming>,
        mut expected: Expected,
        pause: Duration,
    ) -> io::Result<()> {
        self.right_status(answer.status());
        let mut body = answer.into_body();
        let mut since = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(io::Error::other)?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            if !expected.take(&self.pulse, data) {
                return Ok(());
            }
            since += data.len();
            if since > 256 * 1024 && !pause.is_zero() {
                since = 0;
                self.pulse.rest(pause).await;
            }
        }
        expected.end(&self.pulse);
        Ok(())
    }

    /// Sends a blob; the server tells the hash of what it got.
    async fn upload(&mut self) -> io::Result<()> {
        let mut connection = self.dial().await?;
        let (seed, length) = (self.rng.u64(..), self.rng.u64(0..500_000));
        let answer = connection.post("/hash", blob(seed, length)).await?;
        self.right_status(answer.status());
        let answer = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let found: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if found["sha256"] == Blob::new(seed, length).sha256() && found["bytes"] == length {
            self.pulse.finish();
        } else {
            self.pulse.wrong(&format!("the server got other bytes: {found}"));
        }
        Ok(())
    }

    /// Follows a watch for a while: each event comes once and in order.
    async fn watch(&mut self) -> io::Result<()> {
        let mut connection = self.dial().await?;
        let mut body = connection.get("/api/v1/namespaces?watch=true").await?.into_body();
        let (mut line, mut revision) = (Vec::new(), 0_u64);
        let last = self.rng.u64(3..60);
        while revision < last {
            let Some(frame) = body.frame().await else {
                self.pulse.wrong("a watch without an end ended well");
                return Ok(());
            };
            let frame = frame.map_err(io::Error::other)?;
            self.pulse.beat("an event");
            for byte in frame.data_ref().map_or(&[][..], |data| data) {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                revision += 1;
                let event: Value = serde_json::from_slice(&line).unwrap_or_default();
                let found = &event["object"]["metadata"]["resourceVersion"];
                if found.as_str() != Some(&revision.to_string()) {
                    self.pulse.wrong(&format!("event {revision} is {event}"));
                    return Ok(());
                }
                line.clear();
            }
        }
        self.pulse.finish();
        Ok(())
    }

    /// Request after request on one connection.
    async fn requests(&mut self) -> io::Result<()> {
        let mut connection = self.dial().await?;
        for _ in 0..self.rng.usize(1..200) {
            self.ask(&mut connection).await?;
            let pause = Duration::from_millis(self.rng.u64(20..200));
            self.pulse.rest(pause).await;
        }
        Ok(())
    }

    /// A connection that is there but says nothing for long.
    async fn idle(&mut self) -> io::Result<()> {
        let mut connection = self.dial().await?;
        self.ask(&mut connection).await?;
        for _ in 0..self.rng.usize(1..6) {
            let pause = Duration::from_millis(self.rng.u64(1_000..8_000));
            self.pulse.rest(pause).await;
            self.ask(&mut connection).await?;
        }
        Ok(())
    }

    async fn ask(&self, connection: &mut Connection) -> io::Result<()> {
        self.pulse.beat("an answer");
        let answer = connection.get("/version").await?;
        self.right_status(answer.status());
        let body: Bytes = answer.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        if !body.ends_with(b"}\n") {
            self.pulse.wrong(&format!("an answer of {} bytes is not whole", body.len()));
        }
        self.pulse.beat("the next request");
        self.pulse.finish();
        Ok(())
    }

    fn right_status(&self, status: StatusCode) {
        if status != StatusCode::OK {
            self.pulse.wrong(&format!("answered {status}"));
        }
    }
}

/// What TLS found in the bytes, at either end: a cut connection gives it nothing to find. Told by
/// its words, since h2 keeps nothing else of an error.
fn tls_fault(error: &io::Error) -> Option<String> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let words = ["cannot decrypt", "fatal alert", "corrupt message", "unexpected message"];
    words.iter().any(|word| text.contains(word)).then_some(text)
}
