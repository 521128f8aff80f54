//! Who is wanted as a backend, and the way out for those who no longer are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::info;

use super::found::{Origin, Server};
use crate::config::BackendSpec;
use crate::events::{Discovery, Event, Events};
use crate::model::{
    Backend, ClusterName, Condition, Entry, MAX_BACKENDS, Snapshot, SourceState, Standing, State,
    Writer,
};

/// How often backends on their way out are looked at. Longer than any data thread decides by the
/// snapshot that it holds: whoever is gone by then gets no connection more.
const LEAVING_PACE: Duration = Duration::from_secs(1);

/// A found server that is named no longer and is not dead is given this time to be named again. What
/// lists live servers forgets one now and then (k3s#11349): the lease of a kube-apiserver lasts 15 s and
/// is looked at every 10 s (its `lease` reconciler), so that one missed renewal mends within it.
const LINGER: Duration = Duration::from_secs(30);

/// The list of wanted backends, and the only one who adds entries to the store and takes them out.
///
/// The configured ones, the seeds, are always wanted. What is found besides comes and goes.
#[derive(Debug)]
pub struct Roster {
    /// Whose servers they are, if the process serves several clusters.
    cluster: Option<ClusterName>,
    writer: Rc<Writer>,
    lists: RefCell<Lists>,
    states: watch::Sender<Vec<SourceState>>,
    events: Events,
    /// Somebody lingers who did not before.
    news: Notify,
}

#[derive(Debug, Default)]
struct Lists {
    seeds: Vec<BackendSpec>,
    found: BTreeMap<Origin, Found>,
    /// Named no longer, but not let go yet, and since when.
    lingering: Vec<(Server, Instant)>,
}

/// What one source says.
#[derive(Debug, Default)]
struct Found {
    servers: Vec<Server>,
    confirmed: Option<SystemTime>,
    problem: Option<String>,
}

impl Lists {
    fn named(&self) -> impl Iterator<Item = &Server> {
        self.found.values().flat_map(|found| &found.servers)
    }

    /// Notes who was named `before` and is not any more.
    fn let_linger(&mut self, before: Vec<Server>, now: Instant) {
        let named: HashSet<&Server> = self.found.values().flat_map(|f| &f.servers).collect();
        let gone: Vec<Server> = before.into_iter().filter(|s| !named.contains(s)).collect();
        self.lingering.retain(|(server, _)| !named.contains(server) && !gone.contains(server));
        self.lingering.extend(gone.into_iter().map(|server| (server, now)));
    }
}

impl Roster {
    /// A roster of what the store holds now.
    pub fn new(
        cluster: Option<ClusterName>,
        writer: Rc<Writer>,
        seeds: &[BackendSpec],
        events: Events,
    ) -> Self {
        let lists = Lists { seeds: seeds.to_vec(), ..Lists::default() };
        let roster = Self {
            cluster,
            writer,
            lists: RefCell::new(lists),
            states: watch::Sender::default(),
            events,
            news: Notify::new(),
        };
        roster.tell_states();
        roster
    }

    /// The state of every source.
    pub fn states(&self) -> watch::Receiver<Vec<SourceState>> {
        self.states.subscribe()
    }

    /// Puts another configured list in force, and makes another change to the snapshot with it. What
    /// is in both lists keeps state, counters and connections; what is in the old one alone leaves.
    pub fn set_seeds(&self, seeds: &[BackendSpec], change: impl FnOnce(&mut Snapshot)) {
        self.lists.borrow_mut().seeds = seeds.to_vec();
        let wanted = self.wanted();
        self.writer.update(|snapshot| {
            snapshot.entries = arrange(&snapshot.entries, &wanted, now());
            change(snapshot);
        });
        self.tell_states();
    }

    /// Takes an answer of a source in, which was given at `confirmed`. The first answer of a live source
    /// ends the time of the cache.
    pub(super) fn found(&self, origin: Origin, servers: Vec<Server>, confirmed: SystemTime) {
        {
            let mut lists = self.lists.borrow_mut();
            let before = lists.named().cloned().collect();
            let found = Found { servers, confirmed: Some(confirmed), problem: None };
            lists.found.insert(origin, found);
            if origin != Origin::Cache {
                lists.found.remove(&Origin::Cache);
            }
            lists.let_linger(before, now());
        }
        self.news.notify_one();
        self.publish(origin.as_str());
        self.tell_states();
    }

    /// Notes that a source still says the same.
    pub(super) fn confirm(&self, origin: Origin) {
        if let Some(found) = self.lists.borrow_mut().found.get_mut(&origin) {
            found.confirmed = Some(SystemTime::now());
            found.problem = None;
        }
        self.tell_states();
    }

    /// A source gave no answer, or one that is not taken: what it said before stays.
    pub(super) fn note_problem(&self, origin: Origin, problem: &str) {
        let news = {
            let mut lists = self.lists.borrow_mut();
            let found = lists.found.entry(origin).or_default();
            found.problem.replace(problem.to_owned()).is_none_or(|before| before != problem)
        };
        self.tell_states();
        if news {
            let (source, why) = (self.named(origin.as_str()), problem.to_owned());
            self.events.record(Event::Discovery { source, change: Discovery::Refused { why } });
        }
    }

    /// Forgets all but these sources: the others are not configured any more.
    pub(super) fn keep(&self, origins: &[Origin]) {
        {
            let mut lists = self.lists.borrow_mut();
            let before = lists.named().cloned().collect();
            lists.found.retain(|origin, _| origins.contains(origin));
            lists.let_linger(before, now());
        }
        self.news.notify_one();
        self.publish("configuration");
        self.tell_states();
    }

    /// The servers that live sources name now, for the cache; `None` before one has answered.
    pub(super) fn to_keep(&self) -> Option<Vec<Server>> {
        let lists = self.lists.borrow();
        let live = lists.found.iter().filter(|(origin, _)| **origin != Origin::Cache);
        let mut servers = Vec::new();
        for server in live.flat_map(|(_, found)| &found.servers) {
            if !servers.contains(server) {
                servers.push(server.clone());
            }
        }
        (!servers.is_empty()).then_some(servers)
    }

    /// Takes out those whose last connection has ended, and lets go whoever has lingered long enough,
    /// until the future is dropped.
    pub(super) async fn attend(&self) {
        let mut changed = self.writer.reader().subscribe();
        loop {
            let leaving = self.leaving();
            if leaving.is_empty() && self.lists.borrow().lingering.is_empty() {
                tokio::select! {
                    () = self.news.notified() => {}
                    result = changed.changed() => if result.is_err() { return },
                }
                // A seed's name may stand for a found server by now.
                self.publish("dns");
                continue;
            }
            sleep(LEAVING_PACE).await;
            self.let_go(&leaving);
            self.end_lingering();
            self.publish("discovery");
        }
    }

    fn leaving(&self) -> Vec<Arc<Backend>> {
        let snapshot = self.writer.reader().load().clone();
        let leaving = snapshot.entries.iter().filter(|e| e.standing == Standing::Leaving);
        leaving.map(|entry| entry.backend.clone()).collect()
    }

    fn let_go(&self, leaving: &[Arc<Backend>]) {
        let is_done = |entry: &Entry| {
            let was_there = leaving.iter().any(|backend| Arc::ptr_eq(backend, &entry.backend));
            let leaves = entry.standing == Standing::Leaving;
            was_there && leaves && entry.backend.counters.active() == 0
        };
        if !self.writer.reader().load().entries.iter().any(is_done) {
            return;
        }
        self.writer.update(|snapshot| {
            for entry in snapshot.entries.extract_if(.., |entry| is_done(entry)) {
                info!(backend = %entry.backend.name, "backend has left");
            }
        });
    }

    /// Who is dead, or has been named by nobody for long enough, is not kept.
    fn end_lingering(&self) {
        let snapshot = self.writer.reader().load().clone();
        let (mut lists, now) = (self.lists.borrow_mut(), now());
        lists.lingering.retain(|(server, since)| {
            let spec = server.spec(self.cluster.as_ref());
            let mut entries = snapshot.entries.iter();
            let alive = entries.any(|e| is(&e.backend, &spec) && lives(e.condition.state));
            alive && now < *since + LINGER
        });
    }

    /// Brings the store up to date, if anything differs because of this source.
    fn publish(&self, source: &str) {
        let wanted = self.wanted();
        let snapshot = self.writer.reader().load().clone();
        let arranged = arrange(&snapshot.entries, &wanted, now());
        let same = |(old, new): (&Entry, &Entry)| {
            Arc::ptr_eq(&old.backend, &new.backend) && old.standing == new.standing
        };
        let unchanged = arranged.len() == snapshot.entries.len()
            && snapshot.entries.iter().zip(&arranged).all(same);
        if unchanged {
            return;
        }
        let change = difference(&snapshot.entries, &arranged);
        self.events.record(Event::Discovery { source: self.named(source), change });
        self.writer.update(|snapshot| snapshot.entries = arranged);
    }

    /// Seeds, then whoever else is named: without those that a seed stands for, and as many as fit.
    fn wanted(&self) -> Vec<BackendSpec> {
        let lists = self.lists.borrow();
        let snapshot = self.writer.reader().load().clone();
        let is_seed = |entry: &&Entry| lists.seeds.iter().any(|seed| is(&entry.backend, seed));
        let seeds = snapshot.entries.iter().filter(is_seed);
        let mut taken: HashSet<SocketAddr> =
            seeds.flat_map(|e| e.addresses.iter().copied()).collect();
        taken.extend(lists.seeds.iter().filter_map(|seed| seed.address.socket_addr()));
        let mut names: HashSet<_> = lists.seeds.iter().map(|seed| seed.name.clone()).collect();
        let mut wanted = lists.seeds.clone();
        for server in lists.named().chain(lists.lingering.iter().map(|(server, _)| server)) {
            let spec = server.spec(self.cluster.as_ref());
            let known = spec.address.socket_addr().is_some_and(|address| !taken.insert(address));
            if !known && wanted.len() < MAX_BACKENDS && names.insert(spec.name.clone()) {
                wanted.push(spec);
            }
        }
        wanted
    }

    /// A source, in events.
    fn named(&self, source: &str) -> String {
        self.cluster.as_ref().map_or_else(|| source.to_owned(), |name| format!("{name}/{source}"))
    }

    fn tell_states(&self) {
        let lists = self.lists.borrow();
        let seeds = SourceState {
            source: "static",
            servers: lists.seeds.len(),
            confirmed: None,
            problem: None,
        };
        let found = lists.found.iter().map(|(origin, found)| SourceState {
            source: origin.as_str(),
            servers: found.servers.len(),
            confirmed: found.confirmed,
            problem: found.problem.clone(),
        });
        self.states.send_replace([seeds].into_iter().chain(found).collect());
    }
}

/// Has it answered a probe, and not been silent since?
fn lives(state: State) -> bool {
    matches!(state, State::Ready | State::NotReady)
}

/// Who came, or came back, and who leaves.
fn difference(old: &[Entry], new: &[Entry]) -> Discovery {
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for entry in new {
        let before = old.iter().find(|other| Arc::ptr_eq(&other.backend, &entry.backend));
        let name = || entry.backend.name.as_str().to_owned();
        match (before.map(|before| before.standing), entry.standing) {
            (None | Some(Standing::Leaving), Standing::Serving) => added.push(name()),
            (Some(Standing::Serving | Standing::Drained), Standing::Leaving) => {
                removed.push(name());
            }
            _ => {}
        }
    }
    Discovery::Changed { added, removed }
}

/// The entries for a list: those that are there already stay what they are, new ones come, and those
/// that are not in the list stand last and leave.
pub(super) fn arrange(entries: &[Entry], wanted: &[BackendSpec], now: Instant) -> Vec<Entry> {
    let mut old: Vec<Option<&Entry>> = entries.iter().map(Some).collect();
    let mut arranged = Vec::with_capacity(wanted.len());
    for spec in wanted {
        let same = |entry: Option<&Entry>| entry.is_some_and(|entry| is(&entry.backend, spec));
        let entry = match old.iter_mut().find(|entry| same(**entry)).and_then(Option::take) {
            Some(entry) => {
                let standing = match entry.standing {
                    Standing::Leaving => Standing::Serving,
                    standing => standing,
                };
                Entry { standing, ..entry.clone() }
            }
            None => new_entry(spec, now),
        };
        arranged.push(entry);
    }
    let leaving = old.into_iter().flatten();
    arranged.extend(leaving.map(|entry| Entry { standing: Standing::Leaving, ..entry.clone() }));
    arranged
}

/// A backend is the same while name, address and zone are.
fn is(backend: &Backend, spec: &BackendSpec) -> bool {
    backend.name == spec.name && backend.address == spec.address && backend.zone == spec.zone
}

fn new_entry(spec: &BackendSpec, now: Instant) -> Entry {
    let backend = Backend::new(spec.name.clone(), spec.address.clone(), spec.zone.clone());
    let addresses = spec.address.socket_addr().into_iter().collect();
    Entry::new(Arc::new(backend), addresses, Condition::unknown(now))
}

/// The clock of the runtime, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
