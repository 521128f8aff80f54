//! `status --watch`: on a terminal one screen that is redrawn in place, elsewhere one block a second, or
//! each event once.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::Print;
use crossterm::terminal::{BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, size};
use crossterm::{execute, queue};
use tokio::time::{MissedTickBehavior, interval};

use super::feed::Feed;
use super::source::Source;
use super::{Args, render};
use crate::cli::CliError;
use crate::cli::outage::Outage;
use crate::cli::output::{self, Format};
use crate::signal::Terminations;

/// How often it asks.
const EVERY: Duration = Duration::from_secs(1);

/// Events under the table of backends.
const EVENTS: usize = 10;

/// Shows it until the user ends it, which is no failure.
pub(super) async fn run(args: &Args) -> Result<(), CliError> {
    let mut terminations = Terminations::new()
        .map_err(|error| CliError::Failed(format!("cannot handle signals: {error}")))?;
    if args.events && (args.output == Format::Json || !io::stdout().is_terminal()) {
        return follow(args, &mut terminations).await;
    }
    let source = Source::new(args);
    let screen = (io::stdout().is_terminal() && args.output == Format::Table).then(Screen::open);
    let mut ticks = interval(EVERY);
    // A proxy that was slow to answer is not asked several times in a row for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut outage, mut last) = (Outage::new(), String::new());
    loop {
        let turn = async {
            ticks.tick().await;
            text(args, &source, screen.is_some()).await
        };
        let text = tokio::select! {
            text = turn => text,
            _ = terminations.next() => return Ok(()),
        };
        match (&screen, text) {
            (Some(_), Ok(text)) => {
                outage.over();
                Screen::draw("", &text)?;
                last = text;
            }
            // It may come back: that is what one watches for.
            (Some(_), Err(error)) => {
                let below = if last.is_empty() { "" } else { "; below is what it said last\n\n" };
                let notice = format!("apiproxy: {}{below}", outage.describe(&error));
                Screen::draw(&notice, &last)?;
            }
            (None, Ok(text)) => {
                heard(&mut outage);
                output::emit(&text)?;
            }
            (None, Err(error)) => not_heard(&mut outage, &error),
        }
    }
}

/// Prints each event once, one a line, until the user ends it.
async fn follow(args: &Args, terminations: &mut Terminations) -> Result<(), CliError> {
    let mut feed = Feed::new(Source::new(args));
    let mut outage = Outage::new();
    if args.output == Format::Table {
        output::emit(&render::event_line("TIME", "EVENT", "BACKEND", "WHAT AND WHY"))?;
    }
    loop {
        let news = tokio::select! {
            news = feed.next() => news,
            _ = terminations.next() => return Ok(()),
        };
        let line = |event| match args.output {
            Format::Json => output::json_line(event),
            Format::Table => Ok(render::event(event)),
        };
        match news {
            Ok(events) => {
                heard(&mut outage);
                let lines: Result<Vec<_>, _> = events.iter().map(line).collect();
                output::emit(&lines?.concat())?;
            }
            Err(error) => not_heard(&mut outage, &error),
        }
    }
}

fn heard(outage: &mut Outage) {
    if let Some(line) = outage.over() {
        output::complain(&line);
    }
}

fn not_heard(outage: &mut Outage, error: &CliError) {
    if let Some(line) = outage.tell(error) {
        output::complain(&line);
    }
}

/// What is to be seen now.
async fn text(args: &Args, source: &Source, on_screen: bool) -> Result<String, CliError> {
    if args.events {
        return Ok(render::events(&source.events().await?.events) + "\n");
    }
    let status = source.status().await?;
    if args.output == Format::Json {
        return output::json_line(&status);
    }
    if !on_screen {
        return Ok(render::status(&status) + "\n");
    }
    let history = source.events().await?;
    let latest = &history.events[history.events.len().saturating_sub(EVENTS)..];
    Ok(render::status_with_charts(&status) + "\n" + &render::events(latest))
}

/// The terminal while it is drawn on. The cursor comes back when this is dropped.
struct Screen;

impl Screen {
    fn open() -> Self {
        // A terminal that cannot do it scrolls.
        let _ = execute!(io::stdout(), Hide, Clear(ClearType::All), MoveTo(0, 0));
        Self
    }

    /// Draws a notice and a text over what was there. The notice is broken into lines; what has no room
    /// is cut off: a line that wraps, or a screen that scrolls, would make it jump.
    fn draw(notice: &str, text: &str) -> Result<(), CliError> {
        let (columns, rows) = size().unwrap_or((80, 24));
        let (columns, rows) = (usize::from(columns).max(20), usize::from(rows).max(4));
        let text = wrap(notice, columns) + text;
        let draw = || -> io::Result<()> {
            let mut out = io::stdout().lock();
            queue!(out, BeginSynchronizedUpdate, MoveTo(0, 0))?;
            for line in fit(&text, columns, rows - 1) {
                queue!(out, Print(line), Clear(ClearType::UntilNewLine), Print("\r\n"))?;
            }
            queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
            out.flush()
        };
        draw().map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => CliError::Failed(format!("cannot write to the terminal: {error}")),
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), Show);
    }
}

/// Lines that are broken between words where they are longer than this.
fn wrap(text: &str, columns: usize) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let mut taken = 0;
        for word in line.split_inclusive(' ') {
            if taken > 0 && taken + word.trim_end().chars().count() > columns {
                wrapped.push('\n');
                taken = 0;
            }
            wrapped.push_str(word);
            taken += word.chars().count();
        }
        wrapped.push('\n');
    }
    wrapped
}

/// The lines that have room, each cut to the width.
fn fit(text: &str, columns: usize, rows: usize) -> Vec<String> {
    let cut = |line: &str| -> String {
        if line.chars().count() <= columns {
            return line.to_owned();
        }
        line.chars().take(columns - 1).chain(['…']).collect()
    };
    let all = text.lines().count();
    if all <= rows {
        return text.lines().map(cut).collect();
    }
    let more = format!("… {} more lines", all - (rows - 1));
    text.lines().take(rows - 1).map(cut).chain([more]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_broken_between_words() {
        assert_eq!(wrap("", 5), "");
        assert_eq!(wrap("ab cd ef\n  gh\n\nabcdefg h", 5), "ab cd \nef\n  gh\n\nabcdefg \nh\n");
    }

    #[test]
    fn what_has_no_room_is_cut() {
        assert_eq!(fit("abc\nde\n", 3, 2), ["abc", "de"]);
        assert_eq!(fit("abcd\nde\n", 3, 2), ["ab…", "de"]);
        assert_eq!(fit("a\nb\nc\nd\n", 20, 3), ["a", "b", "… 2 more lines"]);
    }
}
