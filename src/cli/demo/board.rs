//! What the demo shows: a live table on a terminal, lines elsewhere.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::script::Fault;
use super::{SERVERS, output};
use crate::app::Running;
use crate::demo::LoadStats;
use crate::model::{CloseReason, Snapshot, State};

/// Events shown under the table.
const EVENTS: usize = 8;

/// Moves to the top left, and clears from there on: less flicker than clearing first.
const HOME: &str = "\x1b[H\x1b[J";

pub(super) struct Board {
    live: bool,
    listen: SocketAddr,
    admin: SocketAddr,
    ca_file: PathBuf,
    faults: [Option<Fault>; SERVERS.len()],
    states: [State; SERVERS.len()],
    events: VecDeque<String>,
    failovers: u32,
    started: Instant,
}

impl Board {
    pub(super) fn new(proxy: &Running, ca_file: &Path, live: bool) -> Self {
        Self {
            live,
            listen: proxy.addresses[0],
            admin: proxy.admin,
            ca_file: ca_file.to_owned(),
            faults: [None; SERVERS.len()],
            states: [State::Unknown; SERVERS.len()],
            events: VecDeque::new(),
            failovers: 0,
            started: Instant::now(),
        }
    }

    /// Is there a terminal to draw on?
    pub(super) fn live(&self) -> bool {
        self.live
    }

    /// What is being done to a server.
    pub(super) fn fault(&self, server: usize) -> Option<Fault> {
        self.faults[server]
    }

    fn hints(&self) -> String {
        format!(
            "try it:  curl --cacert {} https://{}/version\n         apiproxy status --admin {}\n",
            self.ca_file.display(),
            self.listen,
            self.admin
        )
    }

    /// The first words.
    pub(super) fn opening(&self) -> String {
        if self.live {
            return "\x1b[2J".to_owned();
        }
        format!(
            "three TLS apiservers ({}) behind {}; three clients list 10 times a second, six watches stay open\n{}",
            SERVERS.join(", "),
            self.listen,
            self.hints()
        )
    }

    /// Notes what is done to a server.
    pub(super) fn act(&mut self, server: usize, fault: Option<Fault>) -> String {
        let previous = std::mem::replace(&mut self.faults[server], fault);
        let what = match (fault, previous) {
            (Some(Fault::Hang), _) => "hangs: it takes connections and never answers",
            (Some(Fault::Crash), _) => "crashes: its connections are reset, its port is closed",
            (Some(Fault::NotReady), _) => "says 500 on /readyz, and serves on",
            (None, Some(Fault::Hang)) => "goes on",
            (None, Some(Fault::Crash)) => "is started again",
            (None, _) => "says 200 on /readyz again",
        };
        self.note(&format!("server   {} {what}", SERVERS[server]))
    }

    /// Notes what the proxy makes of it.
    pub(super) fn notice(&mut self, snapshot: &Snapshot) -> String {
        let mut lines = String::new();
        for (number, entry) in snapshot.entries.iter().enumerate() {
            let state = entry.state();
            let previous = std::mem::replace(&mut self.states[number], state);
            if state == previous {
                continue;
            }
            if previous == State::Ready {
                self.failovers += 1;
            }
            let reason = &entry.condition.reason.message;
            lines += &self
                .note(&format!("apiproxy {}: {previous} -> {state}: {reason}", SERVERS[number]));
        }
        lines
    }

    fn note(&mut self, event: &str) -> String {
        let line = format!("{:>6.1}s  {event}\n", self.started.elapsed().as_secs_f64());
        if !self.live {
            return line;
        }
        self.events.push_back(line);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        String::new()
    }

    /// The table on a terminal, a line of results elsewhere.
    pub(super) fn draw(&self, snapshot: &Snapshot, load: &LoadStats) -> String {
        let now = self.started.elapsed();
        if !self.live {
            return format!("{:>6.1}s  clients  {}\n", now.as_secs_f64(), results(load));
        }
        let mut text = format!(
            "{HOME}apiproxy demo on {}, {} s. Ctrl-C ends it.\n{}\n",
            self.listen,
            now.as_secs(),
            self.hints()
        );
        let header = ["SERVER", "ADDRESS", "FAULT", "STATE", "CONNS", "TOTAL", "RESET", "REASON"];
        let row = |(number, entry): (usize, &crate::model::Entry)| {
            let counters = &entry.backend.counters;
            let doubt = if entry.condition.suspect { "?" } else { "" };
            vec![
                SERVERS[number].to_owned(),
                entry.backend.address.to_string(),
                self.faults[number].map_or("-".to_owned(), |fault| format!("{fault:?}")),
                format!("{}{doubt}", entry.state()),
                counters.active().to_string(),
                counters.connects(crate::model::ConnectOutcome::Connected).to_string(),
                counters.closes(CloseReason::BackendDead).to_string(),
                entry.condition.reason.message.clone(),
            ]
        };
        text += &output::table(&header, snapshot.entries.iter().enumerate().map(row).collect());
        let _ = writeln!(text, "\nclients  {}\nfailovers {}\n", results(load), self.failovers);
        text.extend(self.events.iter().map(String::as_str));
        text
    }

    /// The last words.
    pub(super) fn closing(&self, load: &LoadStats) -> String {
        format!(
            "\nafter {:.0} s and {} failovers: {}\n",
            self.started.elapsed().as_secs_f64(),
            self.failovers,
            results(load)
        )
    }
}

fn results(load: &LoadStats) -> String {
    let servers: Vec<_> =
        load.servers.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!(
        "{} requests ok ({}), {} failed, longest time without an answer {:.1} s; {} watches open, {} cut",
        load.ok,
        servers.join(", "),
        load.failed,
        load.longest_outage.as_secs_f64(),
        load.watches,
        load.cuts
    )
}
