//! Events in the status documents: what `/events` answers and `apiproxy status --events` shows.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::status::Identity;
use crate::events::{Events, Severity, Stamped};

/// The last events, the oldest first. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The process that they are of.
    #[serde(default)]
    pub pid: u32,
    /// A word that no other process has: each counts its events from 1.
    #[serde(default)]
    pub instance: String,
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

impl History {
    /// Those that are newer than the one with this number.
    pub(super) fn after(number: u64, identity: &Identity, events: &Events) -> Self {
        let all = events.all();
        let newer = all.iter().filter(|event| event.number > number);
        Self {
            pid: std::process::id(),
            instance: identity.instance.clone(),
            events: newer.map(EventStatus::new).collect(),
        }
    }

    /// The number of the newest.
    pub fn latest(&self) -> Option<u64> {
        self.events.iter().map(|event| event.number).max()
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

/// RFC 3339 to the second.
pub(super) fn seconds(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn millis(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
