//! Events in the status documents: what `/events` answers and `apiproxy status --events` shows.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::events::{Events, Severity, Stamped};

/// The last events, the oldest first. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The events.
    pub events: Vec<EventStatus>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventStatus {
    /// Counts from 1 since the process began; newer is larger.
    pub number: u64,
    /// When it happened, or happened last, RFC 3339 in UTC.
    pub at: String,
    /// One word.
    pub kind: String,
    /// How much it matters.
    pub severity: Severity,
    /// The backend that it is about.
    pub backend: Option<String>,
    /// One word for the reason, where there is one.
    pub code: Option<String>,
    /// A sentence.
    pub message: String,
    /// How often it happened within a minute.
    pub times: u64,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStatus {
    /// 1 at start; grows with every reload that was applied.
    pub generation: u64,
    /// Since when it is in force, RFC 3339 in UTC.
    pub since: String,
    /// When a newer one was refused, RFC 3339 in UTC; none once one was applied.
    pub refused_at: Option<String>,
    /// Why it was refused.
    pub refused_because: Option<String>,
}

impl History {
    /// All events that are kept.
    pub fn new(events: &Events) -> Self {
        Self { events: events.all().iter().map(EventStatus::new).collect() }
    }
}

impl EventStatus {
    pub(super) fn new(stamped: &Stamped) -> Self {
        let Stamped { number, at, event, times } = stamped;
        Self {
            number: *number,
            at: millis(*at),
            kind: event.kind().to_owned(),
            severity: event.severity(),
            backend: event.backend().map(|name| name.as_str().to_owned()),
            code: event.code().map(str::to_owned),
            message: event.message(),
            times: *times,
        }
    }
}

impl ConfigurationStatus {
    pub(super) fn new(events: &Events) -> Self {
        let in_force = events.in_force();
        let (refused_at, refused_because) = in_force.refused.unzip();
        Self {
            generation: in_force.generation,
            since: seconds(in_force.since),
            refused_at: refused_at.map(seconds),
            refused_because,
        }
    }
}

/// RFC 3339 to the second.
pub(super) fn seconds(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn millis(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
