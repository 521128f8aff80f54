//! What the engine tells while it works; who listens may show it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Event {
    /// So many steps of each host are looked at now.
    Observing {
        /// The number of steps, by host.
        hosts: BTreeMap<String, usize>,
    },
    /// A step was looked at.
    Checked {
        /// Its host.
        host: String,
        /// Its name.
        step: String,
        /// `done`, `needed`, `after`, `failed` or `unknown`.
        state: &'static str,
    },
    /// So many steps of each host are not done yet; they are begun now.
    Applying {
        /// The number of steps, by host.
        hosts: BTreeMap<String, usize>,
    },
    /// A step is begun.
    Started {
        /// Its host.
        host: String,
        /// Its name.
        step: String,
        /// What it does.
        title: String,
    },
    /// A step was looked at and not begun: it can only be decided after another.
    Waiting {
        /// Its host.
        host: String,
        /// Its name.
        step: String,
        /// The other one, as `HOST/STEP`.
        before: String,
    },
    /// A step has ended, or will not be begun.
    Ended {
        /// Its host.
        host: String,
        /// Its name.
        step: String,
        /// `unchanged`, `applied`, `failed`, `skipped` or `interrupted`.
        outcome: &'static str,
        /// Why, if it was not done.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
        /// How long it took.
        #[serde(serialize_with = "rounded")]
        seconds: Duration,
    },
    /// No new step is begun any more; so many are still running.
    Stopping {
        /// Steps under way.
        running: usize,
    },
    /// What is running is killed.
    Killing {
        /// Steps under way.
        running: usize,
    },
}

fn rounded<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Where events go.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<UnboundedSender<Event>>);

impl Events {
    /// Events, and where they arrive.
    pub fn channel() -> (Self, UnboundedReceiver<Event>) {
        let (to, from) = unbounded_channel();
        (Self(Some(to)), from)
    }

    /// Nobody listens.
    pub fn none() -> Self {
        Self(None)
    }

    /// Tells it. Who does not listen any more misses it.
    pub(super) fn tell(&self, event: Event) {
        if let Some(to) = &self.0 {
            // The listener may have gone first: that is its own business.
            let _ = to.send(event);
        }
    }
}
