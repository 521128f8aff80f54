//! The side of a handover that gives: passes the listening sockets on, goes on serving until the
//! other process says that it serves, and goes on for good when it does not.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};
use tracing::info;

use super::line::Lines;
use super::passing;
use super::protocol::{Answer, Code, Refusal, Reply, Request};
use super::server::{LONGEST_REQUEST, PATIENCE, Parts};
use crate::drain::Phase;
use crate::events::{Event, Handover};
use crate::metrics::Metrics;
use crate::model::Standing;

/// The process that takes over probes its backends before it accepts, for
/// [`super::takeover::PROBE_WITHIN`] at most; then it says so.
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);

/// Connections that are busy at the end of `drainTimeout` get so much longer for a quiet moment, as
/// those of a drained backend do, before the process ends.
const GRACE: Duration = Duration::from_secs(5);

/// The words of `apiproxy_handovers_total{result}`.
const RESULTS: [&str; 3] = ["taken", "failed", "refused"];

/// Shows the counters before the first handover: an alert on the increase of one that begins with 1
/// would not see that.
pub fn show_counters(metrics: &Metrics) {
    for result in RESULTS {
        metrics.total("apiproxy_handovers_total", &[("result", result)], 0);
    }
}

/// Is a handover under way? Only one at a time.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Cell<bool>);

/// The handover that is under way.
pub(super) struct Turn<'a>(&'a Cell<bool>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl UnderWay {
    fn begin(&self) -> Option<Turn<'_>> {
        (!self.0.replace(true)).then(|| Turn(&self.0))
    }
}

/// Hands the sockets over to whoever asks on this stream, whose turn it is.
pub(super) async fn hand_over(
    parts: &Parts,
    turn: Turn<'_>,
    stream: &mut UnixStream,
    lines: &mut Lines,
) -> io::Result<()> {
    let successor = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
    info!(successor, "handing over: passing the listeners on, and serving until it does");
    let outcome = match offer(parts, stream).await {
        Ok(()) => confirmation(stream, lines).await,
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        count(parts, "failed");
        let why = format!("process {successor}: {error}");
        parts.view.events.record(Event::Handover(Handover::Failed { why }));
        let refusal = Refusal::new(Code::Busy, format!("the handover was given up: {error}"))
            .hint("the process that was to be replaced goes on; try again");
        return say(stream, Answer::Refused(refusal)).await;
    }
    let to = successor.unsigned_abs();
    parts.view.events.record(Event::Handover(Handover::Given { to }));
    let now = Instant::now().into_std();
    // Its clients find the other process when they dial again: they are told at quiet moments.
    for cluster in parts.clusters.all().iter() {
        cluster.writer.update(|snapshot| {
            snapshot.entries.iter_mut().for_each(|entry| entry.stand(Standing::Leaving, now));
        });
    }
    let within = parts.clusters.longest_drain_timeout();
    parts.view.drain.hand_over(Instant::now() + within + GRACE);
    parts.sockets.clear();
    drop(turn);
    say(stream, Answer::Released {}).await
}

/// Counts a handover that does not take place.
pub(super) fn count(parts: &Parts, result: &'static str) {
    parts.metrics.increment("apiproxy_handovers_total", &[("result", result)]);
}

/// Is this the moment to hand over to a process of this generation?
pub(super) fn may_hand_over<'a>(
    parts: &Parts,
    handovers: &'a UnderWay,
    generation: Option<u32>,
) -> Result<Turn<'a>, Refusal> {
    if let (Some(own), Some(other)) = (parts.generation, generation)
        && own > other
    {
        let message = format!("generation {own} serves already, which is newer than {other}");
        return Err(Refusal::new(Code::NewerGeneration, message));
    }
    let busy = |message| Err(Refusal::new(Code::Busy, message).hint("try again in a moment"));
    if parts.view.drain.phase() != Phase::Running {
        return busy("this process is not serving");
    }
    match handovers.begin() {
        Some(turn) => Ok(turn),
        None => busy("another handover is under way"),
    }
}

async fn offer(parts: &Parts, stream: &mut UnixStream) -> io::Result<()> {
    let (roles, sockets) = parts.sockets.copies()?;
    if sockets.len() > passing::MOST_SOCKETS {
        return Err(io::Error::other(format!("{} sockets cannot be passed on", sockets.len())));
    }
    let (mut drained, mut usable_clusters, mut usable) = (Vec::new(), Vec::new(), false);
    for cluster in parts.clusters.all().iter().filter(|cluster| !cluster.leaving.get()) {
        let snapshot = cluster.writer.reader().load().clone();
        let out = snapshot.entries.iter().filter(|entry| entry.standing == Standing::Drained);
        drained.extend(out.map(|entry| entry.backend.name.as_str().to_owned()));
        if snapshot.usable() {
            usable = true;
            usable_clusters.extend(cluster.name.as_ref().map(ToString::to_string));
        }
    }
    let answer = Answer::Offered { sockets: roles, drained, usable, usable_clusters };
    let line = Reply::new(answer).encode();
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    timeout(PATIENCE, passing::send(stream, &line, &sockets)).await?
}

/// Waits for the word that the other process serves.
async fn confirmation(stream: &mut UnixStream, lines: &mut Lines) -> io::Result<()> {
    let line =
        timeout(CONFIRM_WITHIN, lines.next(stream, LONGEST_REQUEST)).await.map_err(|_| {
            io::Error::other(format!("it did not say within {CONFIRM_WITHIN:?} that it serves"))
        })?;
    let Some(line) = line? else {
        return Err(io::Error::other("it went away before it served"));
    };
    match Request::decode(&line) {
        Ok(Request::Ready {}) => Ok(()),
        Ok(other) => Err(io::Error::other(format!("it said {other:?} instead of being ready"))),
        Err(refusal) => Err(io::Error::other(refusal.message)),
    }
}

async fn say(stream: &mut UnixStream, answer: Answer) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    timeout(PATIENCE, stream.write_all(&Reply::new(answer).encode())).await?
}
