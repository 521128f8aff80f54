//! Where events come from: the control socket if it is there, else the admin endpoint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::Args;
use crate::admin::{EventStatus, History};
use crate::cli::{CliError, client};
use crate::config::DEFAULT_CONTROL_SOCKET;
use crate::control::{self, Answer, AskError, Follower, Request};

/// How often the admin endpoint is asked, and how soon a proxy that has ended is asked again.
const EVERY: Duration = Duration::from_secs(1);

/// The control socket to ask, if any is to be, and whether nobody else will do.
fn socket(args: &Args) -> Option<(PathBuf, bool)> {
    match &args.control_socket {
        _ if args.admin.is_some() => None,
        Some(path) if path.is_empty() => None,
        Some(path) => Some((path.into(), true)),
        None => Some((DEFAULT_CONTROL_SOCKET.into(), false)),
    }
}

fn failed(error: &AskError) -> CliError {
    CliError::Failed(error.to_string())
}

/// What has happened.
pub(super) async fn list(args: &Args) -> Result<History, CliError> {
    if let Some((path, must)) = socket(args) {
        let request = Request::Events { after: 0, follow: false };
        match control::ask(&path, &request).await {
            Ok(Answer::Events(history)) => return Ok(history),
            Ok(other) => {
                let path = path.display();
                return Err(CliError::Failed(format!("{path} gave an odd answer: {other:?}")));
            }
            Err(error) if must => return Err(failed(&error)),
            // It is not there, or not ours to ask, or of an older version.
            Err(_) => {}
        }
    }
    client::events(args.admin()).await
}

/// Events as they happen, each once. After a proxy has ended its successor's are told.
pub(super) struct Feed<'a> {
    args: &'a Args,
    follower: Option<Follower>,
    /// The process, and the latest of its events that has been told.
    told: Option<(u32, u64)>,
    asked: bool,
}

impl<'a> Feed<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        Self { args, follower: None, told: None, asked: false }
    }

    /// Waits for what is new; at first it is what is kept.
    pub(super) async fn next(&mut self) -> Result<Vec<EventStatus>, CliError> {
        loop {
            if let Some(news) = self.turn().await?.filter(|news| !news.is_empty()) {
                return Ok(news);
            }
        }
    }

    async fn turn(&mut self) -> Result<Option<Vec<EventStatus>>, CliError> {
        if let Some(mut follower) = self.follower.take() {
            let history = follower.next().await.map_err(|error| failed(&error))?;
            // After its last word another process may answer.
            return Ok(history.map(|history| {
                self.follower = Some(follower);
                self.news(history)
            }));
        }
        if self.asked {
            sleep(EVERY).await;
        }
        self.asked = true;
        if let Some((path, must)) = socket(self.args) {
            match self.follow(&path).await {
                Ok(news) => return Ok(Some(news)),
                Err(error) if must => return Err(failed(&error)),
                Err(_) => {}
            }
        }
        let history = client::events(self.args.admin()).await?;
        Ok(Some(self.news(history)))
    }

    async fn follow(&mut self, path: &Path) -> Result<Vec<EventStatus>, AskError> {
        let mut follower = control::follow(path, 0).await?;
        let history = follower.next().await?.unwrap_or(History { pid: 0, events: Vec::new() });
        self.follower = Some(follower);
        Ok(self.news(history))
    }

    /// What has not been told yet.
    fn news(&mut self, history: History) -> Vec<EventStatus> {
        let known =
            self.told.filter(|(pid, _)| *pid == history.pid).map_or(0, |(_, number)| number);
        if let Some(latest) = history.latest() {
            self.told = Some((history.pid, latest.max(known)));
        }
        history.events.into_iter().filter(|event| event.number > known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Severity;
    use crate::cli::output::Format;

    fn args() -> Args {
        let (output, events, watch) = (Format::Table, true, true);
        Args { admin: None, control_socket: None, output, events, watch }
    }

    fn history(pid: u32, count: u64) -> History {
        let event = |number| EventStatus {
            number,
            at: String::new(),
            kind: "started".to_owned(),
            severity: Severity::Info,
            backend: None,
            code: None,
            message: String::new(),
            times: 1,
        };
        History { pid, events: (1..=count).map(event).collect() }
    }

    #[test]
    fn each_event_of_each_process_is_told_once() {
        let args = args();
        let mut feed = Feed::new(&args);
        let mut told = |pid, count| {
            feed.news(history(pid, count)).iter().map(|event| event.number).collect::<Vec<_>>()
        };
        assert_eq!(told(7, 2), [1, 2]);
        assert_eq!(told(7, 2), [0_u64; 0]);
        assert_eq!(told(7, 3), [3]);
        assert_eq!(told(8, 1), [1], "another process counts anew");
    }

    #[test]
    fn what_the_user_names_is_asked() {
        let usual = (DEFAULT_CONTROL_SOCKET.into(), false);
        assert_eq!(socket(&args()), Some(usual));
        let named = |path: &str| Args { control_socket: Some(path.into()), ..args() };
        assert_eq!(socket(&named("/x")), Some(("/x".into(), true)));
        assert_eq!(socket(&named("")), None);
        let admin = Some("127.0.0.1:1".parse().unwrap());
        assert_eq!(socket(&Args { admin, ..named("/x") }), None);
    }
}
