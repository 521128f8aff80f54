//! The README's own table: the headlines, rewritten by a run that is saved.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::procfs;
use crate::report::{Report, digits};

/// The figures that it shows, by the beginnings of their names.
const HEADLINES: [&str; 12] = [
    "bulk, 20 MB, 8 at once: CPU of the proxy",
    "bulk, 20 MB, 8 at once: carried",
    "1 KiB requests, 64 connections: CPU of the proxy",
    "ping-pong: p50",
    "new connection and request: CPU of the proxy",
    "1000 connections at once: all served",
    "paced requests: p99",
    "paced requests beside bulk: p99",
    "paced requests beside slow readers: p99",
    "memory at start",
    "each of 4000 idle connections: memory",
    "memory after 4000 were closed",
];

const BEGIN: &str = "<!-- begin: comparison, from cargo bench --bench comparison -- --save -->\n";
const END: &str = "<!-- end: comparison -->";

impl Report<'_> {
    /// Puts the headlines between the README's two markers.
    pub(crate) fn update(&self, readme: &Path) -> io::Result<()> {
        let text = fs::read_to_string(readme)?;
        let updated = text.split_once(BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some(format!("{before}{BEGIN}\n{}\n{END}{after}", self.headlines()))
        });
        fs::write(readme, updated.ok_or_else(|| io::Error::other("the README has no markers"))?)
    }

    fn headlines(&self) -> String {
        let reference = &self.options.reference;
        let names = || self.peers.iter().map(|peer| peer.name.as_str());
        let mut text = format!("| | {} |\n", names().collect::<Vec<_>>().join(" | "));
        let _ = writeln!(text, "|---{}|", "|---".repeat(self.peers.len()));
        for headline in HEADLINES {
            let Some(row) = self.tally.rows.iter().find(|row| row.name == headline) else {
                continue;
            };
            let cell = |peer| {
                let Some(spread) = row.spread(peer) else { return String::new() };
                let median = digits(spread.median);
                let ratio = row.ratio(peer, reference).filter(|_| peer != reference);
                let ratio = ratio.map(|ratio| format!(" ({}x)", digits(ratio.median)));
                median + &ratio.unwrap_or_default()
            };
            let cells: Vec<String> = names().map(cell).collect();
            let _ = writeln!(text, "| {headline}, {} | {} |", row.unit, cells.join(" | "));
        }
        let date = humantime::format_rfc3339_seconds(self.began).to_string();
        let versions: Vec<String> =
            self.peers.iter().map(|peer| format!("- {}", peer.line())).collect();
        let _ = write!(
            text,
            "\nMedians of {} interleaved rounds on {}, and in brackets their ratios to `{reference}`. {}.\n\n{}\n",
            self.options.rounds(),
            date.split('T').next().unwrap_or_default(),
            procfs::machine(),
            versions.join("\n"),
        );
        text
    }
}
