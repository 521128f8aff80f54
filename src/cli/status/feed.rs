//! Events as they happen: followed through the control socket, or asked for again and again.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::source::Source;
use crate::admin::{EventStatus, History};
use crate::cli::{CliError, client};
use crate::control::{self, AskError, Follower};

/// How often the admin endpoint is asked, and how soon a proxy that has ended is asked again.
const EVERY: Duration = Duration::from_secs(1);

/// How far the events of a process have been told.
#[derive(Debug)]
struct Told {
    /// The process.
    pid: u32,
    /// The same of a program that knows the word.
    instance: String,
    /// The latest of its events.
    number: u64,
}

/// Events as they happen, each once. After a proxy has ended its successor's are told.
pub(super) struct Feed {
    source: Source,
    follower: Option<Follower>,
    told: Option<Told>,
    asked: bool,
}

impl Feed {
    pub(super) fn new(source: Source) -> Self {
        Self { source, follower: None, told: None, asked: false }
    }

    /// Waits for a word of the proxy, which may be that nothing is new; at first it is what is kept.
    pub(super) async fn next(&mut self) -> Result<Vec<EventStatus>, CliError> {
        if let Some(follower) = &mut self.follower {
            match follower.next().await {
                Ok(Some(history)) => return Ok(self.news(history)),
                // It may come back, and tells then what we have not heard.
                Err(error @ AskError::Silent { .. }) => return Err(error.into()),
                Err(error) => {
                    self.follower = None;
                    return Err(error.into());
                }
                // After its last word another process may answer.
                Ok(None) => self.follower = None,
            }
        }
        if self.asked {
            sleep(EVERY).await;
        }
        self.asked = true;
        if let Some(socket) = self.source.socket.clone() {
            match self.follow(&socket.path).await {
                Ok(news) => return Ok(news),
                Err(error) if socket.gives_way(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let history = client::events(self.source.admin).await?;
        Ok(self.news(history))
    }

    async fn follow(&mut self, path: &Path) -> Result<Vec<EventStatus>, AskError> {
        let mut follower = control::follow(path, 0).await?;
        let Some(history) = follower.next().await? else { return Ok(Vec::new()) };
        self.follower = Some(follower);
        Ok(self.news(history))
    }

    /// What has not been told yet.
    fn news(&mut self, history: History) -> Vec<EventStatus> {
        let latest = history.latest().unwrap_or_default();
        let History { pid, instance, events } = history;
        let same = self.told.take().filter(|told| told.pid == pid && told.instance == instance);
        let known = same.map_or(0, |told| told.number);
        self.told = Some(Told { pid, instance, number: latest.max(known) });
        events.into_iter().filter(|event| event.number > known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Severity;

    fn history(pid: u32, instance: &str, count: u64) -> History {
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
        History { pid, instance: instance.to_owned(), events: (1..=count).map(event).collect() }
    }

    #[test]
    fn each_event_of_each_process_is_told_once() {
        let admin = super::super::DEFAULT_ADMIN;
        let mut feed = Feed::new(Source { socket: None, admin });
        let mut told = |pid, instance, count| {
            let news = feed.news(history(pid, instance, count));
            news.iter().map(|event| event.number).collect::<Vec<_>>()
        };
        assert_eq!(told(1, "a", 2), [1, 2]);
        assert_eq!(told(1, "a", 2), [0_u64; 0]);
        assert_eq!(told(1, "a", 0), [0_u64; 0]);
        assert_eq!(told(1, "a", 3), [3]);
        assert_eq!(told(1, "b", 2), [1, 2], "another one in another container counts anew");
        assert_eq!(told(1, "b", 3), [3]);
        assert_eq!(told(7, "", 1), [1], "and so does one that is too old to have a word");
        assert_eq!(told(8, "", 1), [1]);
    }
}
