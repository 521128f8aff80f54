//! Hears requests on the control socket: who may ask, how many at a time, and for how long.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::handover::{self, UnderWay, hand_over, may_hand_over};
use super::line::Lines;
use super::protocol::{Answer, Code, HEARTBEAT, Refusal, Reply, Request};
use super::{Clusters, Sockets, commands};
use crate::admin::View;
use crate::metrics::Metrics;
use crate::seats::{Progress, Seats};
use crate::throttle::Throttle;

/// Clients heard at a time. One that asks nothing gives way to the next.
const MOST_CLIENTS: usize = 16;

/// Clients that follow the events at a time: seats must be left for commands.
const MOST_FOLLOWERS: usize = 8;

/// How long the last event, that the process ends, is waited for.
const LAST_WORD: Duration = Duration::from_millis(100);

/// A failure to accept, and a client that loses its seat, are logged at most this often.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A request is a name and some words.
pub(super) const LONGEST_REQUEST: usize = 16 * 1024;

/// How long a client may take to ask, and how long to take the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What the control socket acts on.
#[derive(Debug)]
pub struct Parts {
    /// What commands are about.
    pub clusters: Clusters,
    /// What the status document is made of.
    pub view: View,
    /// Where requests to reload go.
    pub reloads: mpsc::Sender<Reload>,
    /// What is passed on in a handover.
    pub sockets: Sockets,
    /// Which of several processes that take over from each other this is.
    pub generation: Option<u32>,
    /// Counts handovers.
    pub metrics: Metrics,
}

/// What all clients share.
struct Shared {
    parts: Parts,
    handovers: UnderWay,
    followers: Semaphore,
}

/// A request to read the configuration again: answered with what has changed, or why nothing has.
pub type Reload = oneshot::Sender<Result<String, String>>;

/// Serves until the drain begins: what comes after it asks the next process. Of a process that takes
/// over, from when it serves.
///
/// # Errors
/// The socket cannot be registered with the runtime.
pub async fn serve(listener: StdListener, parts: Parts) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let mut phases = parts.view.drain.phases();
    phases.serving().await;
    let followers = Semaphore::new(MOST_FOLLOWERS);
    let shared = Rc::new(Shared { parts, handovers: UnderWay::default(), followers });
    let mut seats = Seats::new(MOST_CLIENTS);
    let (mut failures, mut sheds) = (Throttle::new(WARN_EVERY), Throttle::new(WARN_EVERY));
    loop {
        let has_room = seats.has_room();
        tokio::select! {
            biased;
            () = phases.draining() => break,
            () = seats.changed() => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let shared = shared.clone();
                    if seats.seat(|progress| attend(stream, shared, progress))
                        && let Some(left_out) = sheds.admit()
                    {
                        warn!(left_out, "a client of the control socket that asked nothing has lost its seat to another one");
                    }
                    // A request that is here already is read before anybody else comes in.
                    yield_now().await;
                }
                Err(error) => {
                    if let Some(left_out) = failures.admit() {
                        warn!(%error, left_out, "cannot accept on the control socket");
                    }
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    // The socket is closed when its duplicates are.
    drop(listener);
    shared.parts.sockets.clear();
    // Who waits for an answer gets it: above all, the process that has taken over.
    let _ = timeout(PATIENCE, seats.emptied()).await;
    Ok(())
}

async fn attend(stream: UnixStream, shared: Rc<Shared>, progress: Progress) {
    let client = Client { stream, lines: Lines::default(), shared, progress, stands_by: false };
    if let Err(error) = client.hear().await {
        debug!(%error, "a client of the control socket went away");
    }
}

/// One client.
struct Client {
    stream: UnixStream,
    lines: Lines,
    shared: Rc<Shared>,
    progress: Progress,
    /// It was refused a handover, and stands by for another moment.
    stands_by: bool,
}

impl Client {
    /// Answers its requests until it goes away or stays silent.
    async fn hear(mut self) -> io::Result<()> {
        if let Err(refusal) = may_ask(&self.stream) {
            return self.answer(Answer::Refused(refusal)).await;
        }
        while let Some(line) = self.line().await? {
            self.progress.asked();
            let answer = match Request::decode(&line) {
                Ok(Request::Handover { generation }) => {
                    let shared = self.shared.clone();
                    match may_hand_over(&shared.parts, &shared.handovers, generation) {
                        Ok(turn) => {
                            let (stream, lines) = (&mut self.stream, &mut self.lines);
                            return hand_over(&shared.parts, turn, stream, lines).await;
                        }
                        Err(refusal) => {
                            // Who asks again has been counted.
                            if !std::mem::replace(&mut self.stands_by, true) {
                                handover::count(&shared.parts, "refused");
                            }
                            // It keeps its seat: it waits for this process to end.
                            self.answer(Answer::Refused(refusal)).await?;
                            continue;
                        }
                    }
                }
                Ok(Request::Events { after, follow: true }) => return self.follow(after).await,
                Ok(request) => act(&self.shared.parts, request).await,
                Err(refusal) => {
                    // What follows may be the rest of what was not understood.
                    return self.answer(Answer::Refused(refusal)).await;
                }
            };
            self.progress.answered();
            self.answer(answer).await?;
            self.progress.asks_again();
        }
        Ok(())
    }

    /// Tells of events until the client hangs up or the drain begins, and now and then that there are
    /// none. One that does not keep up loses its seat.
    async fn follow(mut self, mut after: u64) -> io::Result<()> {
        let shared = self.shared.clone();
        let Ok(_seat) = shared.followers.try_acquire() else {
            let message = format!("{MOST_FOLLOWERS} clients follow the events already");
            return self.answer(Answer::Refused(Refusal::new(Code::Busy, message))).await;
        };
        let View { events, drain, .. } = &shared.parts.view;
        let (mut news, mut phases) = (events.subscribe(), drain.phases());
        let mut over = false;
        loop {
            news.mark_unchanged();
            let history = shared.parts.view.history(after);
            after = history.latest().unwrap_or(after);
            self.answer(Answer::Events(history)).await?;
            if over {
                return Ok(());
            }
            tokio::select! {
                biased;
                // The sender is among `events`.
                _ = news.changed() => {}
                () = phases.draining() => {
                    over = true;
                    // What is missing then has been told to the log at least.
                    let _ = timeout(LAST_WORD, news.changed()).await;
                }
                () = sleep(HEARTBEAT) => {}
                said = self.lines.next(&mut self.stream, LONGEST_REQUEST) => {
                    if said?.is_none() {
                        return Ok(());
                    }
                    let message = "this connection tells of events; ask on another one";
                    return self.answer(Answer::Refused(Refusal::new(Code::Busy, message))).await;
                }
            }
        }
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut phases = self.shared.parts.view.drain.phases();
        let line = self.lines.next(&mut self.stream, LONGEST_REQUEST);
        let line = tokio::select! {
            biased;
            // Who stands by hears at once that its turn may have come, and may wait for days.
            () = phases.draining(), if self.stands_by => {
                self.shared.parts.view.replaced.notify_one();
                return Ok(None);
            }
            line = line => line,
            () = sleep(PATIENCE), if !self.stands_by => return Err(io::ErrorKind::TimedOut.into()),
        };
        if let Err(error) = &line
            && error.kind() == io::ErrorKind::InvalidData
        {
            let refusal = Refusal::new(Code::Malformed, format!("this is no request: {error}"));
            self.answer(Answer::Refused(refusal)).await?;
        }
        line
    }

    async fn answer(&mut self, answer: Answer) -> io::Result<()> {
        let line = Reply::new(answer).encode();
        timeout(PATIENCE, self.stream.write_all(&line)).await?
    }
}

/// Root and whoever runs the proxy; the mode of the socket says so too, but a folder can be copied
/// or mounted elsewhere.
fn may_ask(stream: &UnixStream) -> Result<(), Refusal> {
    let own = rustix::process::geteuid().as_raw();
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    if uid.is_some_and(|uid| uid == 0 || uid == own) {
        return Ok(());
    }
    let who = uid.map_or("an unknown user".to_owned(), |uid| format!("user {uid}"));
    warn!(%who, "refused on the control socket");
    let message = format!("{who} may not command this proxy, which runs as user {own}");
    Err(Refusal::new(Code::Forbidden, message).hint("run the command as root"))
}

async fn act(parts: &Parts, request: Request) -> Answer {
    match request {
        Request::Status {} => Answer::Status(Box::new(parts.view.status())),
        Request::Events { after, .. } => Answer::Events(parts.view.history(after)),
        Request::Drain { backend, force } => match parts.clusters.of(&backend) {
            Ok(cluster) => {
                let within = cluster.rules.borrow().drain_timeout;
                commands::drain(&cluster.writer, &parts.view.events, &backend, force, within)
            }
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Undrain { backend } => match parts.clusters.of(&backend) {
            Ok(cluster) => commands::undrain(&cluster.writer, &parts.view.events, &backend),
            Err(refusal) => Answer::Refused(refusal),
        },
        Request::Reload {} => reload(parts).await,
        Request::Handover { .. } | Request::Ready {} => Answer::Refused(Refusal::new(
            Code::Malformed,
            "there is no handover under way on this connection",
        )),
    }
}

async fn reload(parts: &Parts) -> Answer {
    let (answer, answered) = oneshot::channel();
    let busy = || Err("the proxy is busy with other requests, or ends".to_owned());
    let outcome = match parts.reloads.try_send(answer) {
        Ok(()) => answered.await.unwrap_or_else(|_| busy()),
        Err(_) => busy(),
    };
    match outcome {
        Ok(outcome) => Answer::Reloaded { outcome },
        Err(why) => Answer::Refused(Refusal::new(Code::NotReloaded, why)),
    }
}
