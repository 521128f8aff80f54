//! What has happened, and why: the last events, each told in the log as well.
//!
//! Belongs to the control thread; the data threads know nothing of it. Whoever there changes
//! something calls [`Events::record`]. What the data threads do by themselves (resets, moves) is found
//! out from their counters by [`watch()`].

mod episodes;
mod event;
mod log;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::model::Reader;

pub use episodes::{Episodes, Rules};
pub use event::{Cause, Discovery, Event, Handover, Reload, Severity};

/// Events kept; older ones are forgotten.
pub const KEPT: usize = 256;

/// Failovers kept beside them, so that a flood of doubts cannot push the news out that matters.
const FAILOVERS_KEPT: usize = 8;

/// Within this time, an event that repeats counts as the same one: one entry and one log line.
const SAME_WITHIN: Duration = Duration::from_mins(1);

/// An event with its place in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Counts from 1; no number is used twice.
    pub number: u64,
    /// When it happened, or happened last.
    pub at: SystemTime,
    /// What happened.
    pub event: Event,
    /// How often within a minute.
    pub times: u64,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<(Instant, Stamped)>,
    failovers: VecDeque<Stamped>,
    latest: watch::Sender<u64>,
}

/// The ring of the last events. Clones share it.
#[derive(Clone, Debug)]
pub struct Events(Rc<RefCell<Kept>>);

impl Default for Events {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(Kept {
            events: VecDeque::new(),
            failovers: VecDeque::new(),
            latest: watch::Sender::new(0),
        })))
    }
}

impl Events {
    /// Keeps an event and tells it in the log. One that repeats is told once a minute, with how many
    /// were left out.
    pub fn record(&self, event: Event) {
        let (now, at) = (Instant::now(), SystemTime::now());
        let mut kept = self.0.borrow_mut();
        kept.latest.send_modify(|latest| *latest += 1);
        let number = *kept.latest.borrow();
        let same = kept.events.iter().rposition(|(_, known)| known.event == event);
        let mut left_out = 0;
        if let Some(place) = same.filter(|_| event.repeats()) {
            let (first, known) = &mut kept.events[place];
            if now < *first + SAME_WITHIN {
                (known.times, known.at, known.number) = (known.times + 1, at, number);
                return;
            }
            left_out = known.times - 1;
        }
        event.log(left_out);
        let stamped = Stamped { number, at, event, times: 1 };
        if matches!(stamped.event, Event::Failover { .. }) {
            push(&mut kept.failovers, stamped.clone(), FAILOVERS_KEPT);
        }
        push(&mut kept.events, (now, stamped), KEPT);
    }

    /// The events that are kept, the oldest first.
    pub fn all(&self) -> Vec<Stamped> {
        let mut events: Vec<_> = self.0.borrow().events.iter().map(|(_, e)| e.clone()).collect();
        events.sort_unstable_by_key(|event| event.number);
        events
    }

    /// The last failovers, the oldest first.
    pub fn failovers(&self) -> Vec<Stamped> {
        self.0.borrow().failovers.iter().cloned().collect()
    }

    /// The number of the latest event; 0 before the first. Unchanged means: nothing new.
    pub fn latest(&self) -> u64 {
        *self.0.borrow().latest.borrow()
    }

    /// Tells of each new event, by the number of the latest.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.borrow().latest.subscribe()
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Records what the data threads do by themselves, until the future is dropped. A reload can change the
/// rules that they go by.
pub async fn watch(snapshot: Reader, events: Events, rules: watch::Receiver<Rules>) {
    let mut changed = snapshot.subscribe();
    let mut episodes = Episodes::new(*rules.borrow());
    loop {
        let now = Instant::now();
        let current = snapshot.load().clone();
        episodes.follow(*rules.borrow());
        for event in episodes.step(&current, now.into_std()) {
            events.record(event);
        }
        let next = episodes.next(&current, now.into_std());
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            () = sleep_until(next.unwrap_or(now.into_std()).into()), if next.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests;
