//! The results as a page and as data.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::json;

use crate::args::Options;
use crate::peers::Peer;
use crate::procfs;
use crate::tally::{Spread, Tally};

/// What the page says besides the figures.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) peers: &'a [Peer],
    /// Peers that are not there, and runs that failed.
    pub(crate) faults: &'a [String],
    pub(crate) tally: &'a Tally,
    pub(crate) began: SystemTime,
}

impl Report<'_> {
    /// Both tables.
    pub(crate) fn tables(&self) -> String {
        let reference = self.options.reference.as_str();
        let mut text = String::from("Medians (least to most of the rounds):\n\n");
        self.table(&mut text, |row, peer| self.tally.rows[row].spread(peer));
        if self.tally.rows.iter().any(|row| row.spread(reference).is_some()) {
            let _ = writeln!(
                text,
                "\nRatios of medians to `{reference}` (least to most of the ratios within a round):\n"
            );
            self.table(&mut text, |row, peer| self.tally.rows[row].ratio(peer, reference));
        }
        text
    }

    fn table(&self, text: &mut String, cell: impl Fn(usize, &str) -> Option<Spread>) {
        let names = || self.peers.iter().map(|peer| peer.name.as_str());
        let _ = writeln!(text, "| | {} |", names().collect::<Vec<_>>().join(" | "));
        let _ = writeln!(text, "|---{}|", "|---".repeat(self.peers.len()));
        for (number, row) in self.tally.rows.iter().enumerate() {
            let cells = names().map(|peer| cell(number, peer).map_or(String::new(), show));
            let cells = cells.collect::<Vec<_>>().join(" | ");
            let _ = writeln!(text, "| {}, {} | {cells} |", row.name, row.unit);
        }
    }

    /// A page that needs nothing else to be understood.
    pub(crate) fn markdown(&self) -> String {
        let Options { veth, .. } = self.options;
        let network = if *veth {
            "clients and proxy on one host, the server on another: network namespaces joined by veth, \
             MTU 1500, TSO, GSO and GRO off"
        } else {
            "loopback"
        };
        let mut text = format!(
            "# Compared side by side\n\n\
             Written by `cargo bench --bench comparison` on {}.\n\n\
             - Machine: {}\n\
             - Network: {network}\n\
             - Rounds: {}; in each, every peer runs every scenario, in turn, freshly started\n",
            humantime::format_rfc3339_seconds(self.began),
            procfs::machine(),
            self.options.rounds(),
        );
        for peer in self.peers {
            let _ = writeln!(text, "- {}", peer.line());
        }
        for fault in self.faults {
            let _ = writeln!(text, "- Left out: {fault}");
        }
        let _ = write!(text, "\n{}\n![ratios]({}.svg)\n\n", self.tables(), self.options.name());
        text.push_str(MEANING);
        text
    }

    /// Every value of every round.
    pub(crate) fn json(&self) -> String {
        let versions =
            self.peers.iter().map(|peer| (peer.name.clone(), peer.version.clone().into()));
        let document = json!({
            "began": humantime::format_rfc3339_seconds(self.began).to_string(),
            "machine": procfs::machine(),
            "veth": self.options.veth,
            "rounds": self.options.rounds(),
            "peers": versions.collect::<serde_json::Map<_, _>>(),
            "faults": self.faults,
            "figures": self.tally.rows,
        });
        format!("{document:#}\n")
    }
}

/// How the figures come about.
const MEANING: &str = "\
Every proxy has one worker thread and one backend, `leastconn` or its like, TCP health checks every 10 s where it has
active ones, keepalive, and no idle timeout; the configurations are in `benches/comparison/peers`. The server is a
process of its own and the clients are threads of the bench: both single-threaded and as cheap as they can be, since
they share the machine with the proxy. `direct` is what both take by themselves.

- What goes over the wire has the form of TLS records, 16 KiB of content each, without encryption. A request has 205
  bytes, its answer 1 KiB unless said otherwise.
- **CPU of the proxy**: `/proc/PID/task/*/schedstat` of all its threads and processes. **Busy time of the machine**:
  `/proc/stat`, clients and server included.
- **Paced requests**: 16 clients with a request every 10 ms each. **Beside bulk**: two more streams of 20 MB answers.
  **Beside slow readers**: eight clients that each take 6.5 MB/s of a 100 MB answer; a **stalled** one takes 64 KiB every
  two seconds.
- **Memory**: `VmRSS` of all processes of the proxy, shared pages of nginx's two included; sockets and pipes are the
  kernel's, and not in it. **Active**: a 20 MB answer is on its way, its client takes 2.6 MB/s, and
  all buffers are full.
";

/// Three digits of the median and of its range, if it has one.
fn show(spread: Spread) -> String {
    let Spread { least, median, most } = spread;
    if least.total_cmp(&most).is_eq() {
        return digits(median);
    }
    format!("{} ({} to {})", digits(median), digits(least), digits(most))
}

/// Three digits that mean something.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
