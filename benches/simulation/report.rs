//! The figures of all runs as a table, for a terminal and for a page.

use std::fmt::Write as _;

use crate::fleet::{Figures, Settings};

const HEADS: [&str; 11] = [
    "apiservers, what happens",
    "connections",
    "max/mean at the return",
    "in time",
    "1.1 after",
    "reconnects/s, cut",
    "load returns: busiest s",
    "mean",
    "busiest/mean",
    "probes/s: mean, busiest",
    "in the fault",
];

fn row(figures: &Figures) -> [String; HEADS.len()] {
    let servers = figures.tally.servers.len();
    [
        format!("{servers}, {}", figures.scenario.name),
        figures.connections.to_string(),
        format!("{:.2}", figures.balance_at_return),
        format!("{:.2}", figures.balance_in_time),
        figures.even_after.map_or("never".to_owned(), |seconds| format!("{seconds} s")),
        figures.cut_peak.to_string(),
        figures.return_peak.to_string(),
        format!("{:.0}", figures.return_mean),
        format!("{:.1}", figures.peak_over_mean()),
        format!("{:.0}, {}", figures.steady_probes, figures.steady_probes_peak),
        figures.fault_probes_peak.to_string(),
    ]
}

/// A line for each figure, a column for each run.
pub(crate) fn text(figures: &[Figures]) -> String {
    let rows: Vec<_> = figures.iter().map(row).collect();
    let mut text = String::new();
    for (column, head) in HEADS.iter().enumerate() {
        let _ = write!(text, "{head:<26}");
        for row in &rows {
            let _ = match column {
                0 => write!(text, "\n  {}", row[column]),
                _ => write!(text, "{:>11}", row[column]),
            };
        }
        text.push('\n');
    }
    text
}

/// A page with what the figures mean.
pub(crate) fn markdown(figures: &[Figures], settings: &Settings) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&HEADS.map(str::to_owned));
    let _ = writeln!(table, "|{}", "---|".repeat(HEADS.len()));
    for figures in figures {
        table.push_str(&line(&row(figures)));
    }
    let nodes = figures.first().map_or(0, |figures| figures.nodes);
    let (after, window) = (settings.rebalance.after, settings.rebalance.window);
    format!(
        "# {nodes} nodes, simulated\n\n\
         `cargo bench --bench simulation -- --save` writes this page and its chart.\n\n\
         {table}\n\
         ![connections and reconnects over time](simulation.svg)\n\n\
         Every node has 1 to 30 long-lived connections, its own probes and its own counters, and runs the proxy's\n\
         `balance::pick`, `health::Machine` and `rebalance` with the default configuration on a virtual clock. Cut clients\n\
         dial again after 0.1 to 1 s. A restart: 500 on `/readyz` for the shutdown delay, 15 s down, 5 s of starting.\n\n\
         - **max/mean**: connections of the busiest apiserver over the mean of the ready ones, when the last one has just\n\
         \x20 returned, and `after` + `window` ({after:?} + {window:?}) later (**in time**). **1.1 after**: seconds from the return\n\
         \x20 until it is 1.1.\n\
         - **reconnects/s, cut**: connections made in the busiest second of any apiserver before that return. With a shutdown\n\
         \x20 delay longer than `drainTimeout` nearly all have left by then; without, their server cuts them all at once.\n\
         - **load returns**: connections made at the busiest apiserver while its share comes back, in the busiest second and\n\
         \x20 on average over `window`.\n\
         - **probes/s**: at the apiserver with the most, in the two minutes before the fault; then its busiest second. **in the\n\
         \x20 fault**: the busiest second afterwards, refused ones included.\n\n\
         Left out: how apiservers slow down under load, connections that come and go, networks that lose packets.\n"
    )
}
