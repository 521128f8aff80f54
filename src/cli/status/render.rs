//! The status and the events as text.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::admin::{BackendStatus, EventStatus, Status};
use crate::cli::output;
use crate::model::State;

/// Probes that a terminal's chart shows.
const CHART: usize = 16;

/// Heights of the bars of a chart.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HEADER: [&str; 11] = [
    "BACKEND", "ADDRESS", "ZONE", "STATE", "FOR", "CONNS", "TOTAL", "FAILED", "UP", "DOWN",
    "REASON",
];

/// The head line, the table of backends and what is to be mended.
pub(super) fn status(status: &Status) -> String {
    let rows = status.backends.iter().map(row).collect();
    head(status) + &output::table(&HEADER, rows) + &warnings(status)
}

/// The same with charts of the probes.
pub(super) fn status_with_charts(status: &Status) -> String {
    let mut header = HEADER.to_vec();
    header.insert(HEADER.len() - 1, "PROBES");
    let row = |backend: &BackendStatus| {
        let mut row = row(backend);
        row.insert(HEADER.len() - 1, chart(&backend.probe_milliseconds));
        row
    };
    let rows = status.backends.iter().map(row).collect();
    head(status) + &output::table(&header, rows) + &warnings(status)
}

/// The columns of an event.
fn columns(event: &EventStatus) -> [String; 4] {
    let times = if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
    let message = event.message.split_whitespace().collect::<Vec<_>>().join(" ");
    let backend = event.backend.clone().unwrap_or_else(|| "-".to_owned());
    [event.at.clone(), event.kind.clone(), backend, message + &times]
}

/// The line of an event among others that are not known yet.
pub(super) fn event(event: &EventStatus) -> String {
    let [at, kind, backend, message] = columns(event);
    event_line(&at, &kind, &backend, &message)
}

/// A line of such events, or of their header.
pub(super) fn event_line(at: &str, kind: &str, backend: &str, message: &str) -> String {
    format!("{at:<24}  {kind:<14}  {backend:<12}  {message}\n")
}

/// The table of events.
pub(super) fn events(events: &[EventStatus]) -> String {
    let row = |event: &EventStatus| columns(event).to_vec();
    output::table(&["TIME", "EVENT", "BACKEND", "WHAT AND WHY"], events.iter().map(row).collect())
}

fn head(status: &Status) -> String {
    let mut at = format!(" on {}", addresses(&status.listen));
    if !status.clusters.is_empty() {
        let s = if status.clusters.len() == 1 { "" } else { "s" };
        at = format!(" for {} cluster{s}", status.clusters.len());
    }
    let mut text = format!(
        "apiproxy {}{at}, up {}: {}{}\n",
        status.version,
        output::age(status.uptime_seconds),
        ready(status.backends.iter()),
        if status.draining { ", shutting down" } else { "" },
    );
    for cluster in &status.clusters {
        let of_it = status.backends.iter().filter(|b| b.cluster.as_ref() == Some(&cluster.name));
        let what = if cluster.leaving {
            "no longer in the configuration".to_owned()
        } else {
            format!("{} on {}", ready(of_it), addresses(&cluster.listen))
        };
        let _ = writeln!(text, "  {}: {what}", cluster.name);
    }
    text + "\n"
}

fn addresses(listen: &[SocketAddr]) -> String {
    listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn ready<'a>(backends: impl Iterator<Item = &'a BackendStatus> + Clone) -> String {
    let ready = backends.clone().filter(|backend| backend.state == State::Ready).count();
    format!("{ready} of {} backends ready", backends.count())
}

fn warnings(status: &Status) -> String {
    let mut text = String::new();
    for backend in &status.backends {
        if let Some(warning) = &backend.warning {
            let _ = writeln!(text, "\nwarning: {}: {}", backend.name, warning.message);
        }
    }
    let config = &status.config;
    if !config.refusal.is_empty() {
        let (generation, faults) = (config.generation, config.refusal.join("\n  "));
        let _ = writeln!(
            text,
            "\nwarning: the newer configuration is refused; generation {generation} stays in force:\n  {faults}"
        );
    }
    for change in &config.needs_restart {
        let _ = writeln!(text, "\nwarning: not in force before a restart: {change}");
    }
    for source in &status.sources {
        if let Some(problem) = &source.problem {
            let of = source.cluster.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
            let _ = writeln!(text, "\nwarning: discovery{of} by {}: {problem}", source.source);
        }
    }
    text
}

fn row(backend: &BackendStatus) -> Vec<String> {
    let doubt = if backend.suspect { "?" } else { "" };
    vec![
        backend.name.clone(),
        backend.address.clone(),
        backend.zone.clone().unwrap_or_else(|| "-".to_owned()),
        format!("{}{doubt}", backend.state),
        output::age(backend.since_seconds),
        backend.connections.to_string(),
        backend.connections_total.to_string(),
        backend.connect_failures_total.to_string(),
        output::bytes(backend.bytes_up),
        output::bytes(backend.bytes_down),
        backend.reason.message.clone(),
    ]
}

/// A bar for each of the last probes, `x` for one that did not find the backend ready, and how long
/// the latest took.
fn chart(times: &[Option<f64>]) -> String {
    let times = &times[times.len().saturating_sub(CHART)..];
    let longest = times.iter().flatten().copied().fold(1.0, f64::max);
    let bar = |time: &Option<f64>| match time {
        Some(time) => {
            let eighths = BARS.iter().zip(1u8..);
            let tall = |(_, eighth): &(&char, u8)| *time <= longest * f64::from(*eighth) / 8.0;
            eighths.into_iter().find(tall).map_or('█', |(bar, _)| *bar)
        }
        None => 'x',
    };
    let bars: String = times.iter().map(bar).collect();
    match times.last() {
        Some(Some(latest)) => format!("{bars} {latest:.1}ms"),
        _ => bars,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_the_last_probes_and_the_failed_ones() {
        assert_eq!(chart(&[]), "");
        assert_eq!(chart(&[Some(8.0), None, Some(1.0), Some(4.0)]), "█x▁▄ 4.0ms");
        assert_eq!(chart(&[Some(0.1), None]), "▁x");
        let many = vec![Some(2.0); 60];
        assert_eq!(chart(&many).chars().filter(|c| BARS.contains(c)).count(), CHART);
    }

    #[test]
    fn an_event_is_one_line() {
        let event = EventStatus {
            number: 1,
            at: "2026-01-01T00:00:00Z".to_owned(),
            kind: "reload".to_owned(),
            severity: crate::admin::Severity::Warning,
            backend: None,
            code: None,
            message: "refused:\n  line 3".to_owned(),
            times: 2,
        };
        let text = events(&[event]);
        assert!(text.ends_with("reload  -        refused: line 3 (2 times)\n"), "{text}");
    }
}
