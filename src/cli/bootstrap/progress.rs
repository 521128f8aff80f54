//! Shows what the engine tells: bars on a terminal, lines elsewhere, JSON for programs.

mod looking;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, interval_at};

use super::access::Form;
use crate::bootstrap::engine::Event;
use crate::cli::{CliError, output};
use looking::Looking;

/// How often a spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// How often it is told who is waited for, where there are no bars.
const PATIENCE: Duration = Duration::from_secs(5);

/// How events are shown.
pub(super) enum Progress {
    Bars(Bars),
    Lines,
    Json,
}

/// One bar for all, one spinner for each host that is worked on.
pub(super) struct Bars {
    screen: MultiProgress,
    whole: ProgressBar,
    hosts: BTreeMap<String, ProgressBar>,
    looking: Looking,
}

impl Progress {
    /// For a command that ends in one document: what it tells before goes to standard error.
    pub(super) fn before_document(form: Form) -> Self {
        if form == Form::Text && io::stderr().is_terminal() { Self::bars() } else { Self::Lines }
    }

    /// For a command whose progress is its output.
    pub(super) fn of_run(form: Form) -> Self {
        match form {
            Form::Json => Self::Json,
            Form::Text if io::stderr().is_terminal() => Self::bars(),
            Form::Text => Self::Lines,
        }
    }

    fn bars() -> Self {
        let screen = MultiProgress::new();
        let whole = screen.add(ProgressBar::new(0).with_style(style("{bar:30} {pos}/{len} {msg}")));
        let looking = Looking::default();
        Self::Bars(Bars { screen, whole, hosts: BTreeMap::new(), looking })
    }

    /// Shows events until the last who may tell one is gone.
    pub(super) async fn show(
        mut self,
        mut events: UnboundedReceiver<Event>,
    ) -> Result<(), CliError> {
        let mut looking = Looking::default();
        let mut turn = interval_at(Instant::now() + PATIENCE, PATIENCE);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = turn.tick(), if matches!(self, Self::Lines) => {
                    if let Some(line) = looking.line() {
                        say(&line);
                    }
                    continue;
                }
            };
            let Some(event) = event else { break };
            match &mut self {
                Self::Bars(bars) => bars.show(&event),
                Self::Lines => {
                    looking.hear(&event);
                    if let Some(line) = line(&event) {
                        say(&line);
                    }
                }
                Self::Json => output::emit(&output::json_line(&event)?)?,
            }
        }
        if let Self::Bars(bars) = self {
            bars.whole.finish_and_clear();
            // What is left of spinners goes with them.
            let _ = bars.screen.clear();
        }
        Ok(())
    }
}

impl Bars {
    fn show(&mut self, event: &Event) {
        self.looking.hear(event);
        match event {
            Event::Observing { hosts } => self.begin(hosts, "looked at"),
            Event::Applying { hosts } => self.begin(hosts, "applied"),
            Event::Checked { .. } => {
                self.whole.inc(1);
                let waiting = self.looking.waiting();
                let waiting = waiting.map(|hosts| format!("looked at; waiting for {hosts}"));
                self.whole.set_message(waiting.unwrap_or_else(|| "looked at".to_owned()));
            }
            Event::Started { host, title, .. } => {
                let bar = self.hosts.entry(host.clone()).or_insert_with(|| {
                    let bar = self.screen.add(ProgressBar::new_spinner());
                    bar.set_style(style("{spinner} {prefix}  {wide_msg}  {elapsed}"));
                    bar.set_prefix(host.clone());
                    bar.enable_steady_tick(TURN);
                    bar
                });
                bar.reset_elapsed();
                bar.set_message(title.clone());
            }
            Event::Ended { host, .. } => {
                self.whole.inc(1);
                self.leave(host);
                self.tell(event);
            }
            Event::Waiting { host, .. } => {
                self.leave(host);
                self.tell(event);
            }
            _ => self.tell(event),
        }
    }

    /// Nothing runs on a host any more.
    fn leave(&mut self, host: &str) {
        if let Some(bar) = self.hosts.remove(host) {
            bar.finish_and_clear();
        }
    }

    fn begin(&self, hosts: &BTreeMap<String, usize>, what: &'static str) {
        self.whole.reset();
        self.whole.set_length(hosts.values().sum::<usize>() as u64);
        self.whole.set_message(what);
    }

    /// Writes a line above the bars.
    fn tell(&self, event: &Event) {
        if let Some(line) = line(event) {
            self.screen.suspend(|| say(&line));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; a bar of another look is better than none.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn say(line: &str) {
    // With standard error gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// An event in a line; none if it is not worth one.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Observing { hosts } if hosts.len() == 1 => "looking at 1 host ...".to_owned(),
        Event::Observing { hosts } => format!("looking at {} hosts ...", hosts.len()),
        Event::Started { host, title, .. } => format!("{host}: {title} ..."),
        Event::Waiting { host, step, before } => format!("{host}: {step} waits for {before}"),
        Event::Ended { host, step, outcome, why, seconds } => {
            let time = if seconds.is_zero() {
                String::new()
            } else {
                format!(" ({:.1} s)", seconds.as_secs_f64())
            };
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{host}: {step} {outcome}{time}{why}")
        }
        Event::Stopping { running } => format!(
            "stopping: no new step is begun, {running} running ones come to their end; Ctrl-C \
             again kills them"
        ),
        Event::Killing { running } => format!("killing {running} running steps"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let ended = Event::Ended {
            host: "cp1".to_owned(),
            step: "kubelet".to_owned(),
            outcome: "failed",
            why: Some("no such package".to_owned()),
            seconds: Duration::from_millis(1_540),
        };
        assert_eq!(line(&ended).unwrap(), "cp1: kubelet failed (1.5 s): no such package");
        let json = serde_json::to_string(&ended).unwrap();
        assert_eq!(
            json,
            "{\"event\":\"ended\",\"host\":\"cp1\",\"step\":\"kubelet\",\"outcome\":\"failed\",\
             \"why\":\"no such package\",\"seconds\":1.54}"
        );
        let hosts = [("cp1".to_owned(), 3)].into();
        assert_eq!(line(&Event::Observing { hosts }).unwrap(), "looking at 1 host ...");
        assert_eq!(line(&Event::Applying { hosts: BTreeMap::new() }), None);
    }
}
