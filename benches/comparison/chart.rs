//! A chart of the ratios: a row for each figure, a bar for each peer.

use crate::drawing::{open, rectangle, write};
use crate::report::digits;
use crate::tally::Tally;

const COLORS: [&str; 6] = ["#9a9a9a", "#d1495b", "#00798c", "#66a5ad", "#edae49", "#7a5195"];
/// Where the bars begin, below their names.
const LEFT: f64 = 330.0;
/// The width of the reference's bar.
const ONE: f64 = 160.0;
/// Bars end here, however long they would be.
const LIMIT: f64 = 3.0;
/// Left to the table.
const MACHINE: &str = "busy time of the machine";
const BAR: f64 = 11.0;
const TOP: f64 = 40.0;

/// Bars of the figures of which less is better, as ratios to the reference.
pub(crate) fn svg(tally: &Tally, peers: &[&str], reference: &str) -> String {
    let shown = |row: usize| {
        let row = &tally.rows[row];
        !row.rising && row.unit != "x" && !row.name.ends_with(MACHINE)
    };
    let bars = |row: usize| {
        peers.iter().enumerate().filter_map(move |(number, peer)| {
            Some((number, tally.rows[row].ratio(peer, reference)?))
        })
    };
    let rows: Vec<usize> =
        (0..tally.rows.len()).filter(|row| shown(*row) && bars(*row).count() > 1).collect();
    let height: f64 = rows.iter().flat_map(|row| bars(*row)).map(|_| BAR).sum();
    let gaps: f64 = rows.iter().map(|_| BAR).sum();
    let (width, height) = (LEFT + LIMIT * ONE + 60.0, TOP + height + gaps + 10.0);
    let mut svg = open(width, height);
    write(&mut svg, 10.0, 18.0, "start", &format!("ratio to {reference}, less is better"));
    let mut x = LEFT;
    for (number, peer) in peers.iter().enumerate() {
        rectangle(&mut svg, (x, 10.0), (9.0, 9.0), (color(number), "none"));
        write(&mut svg, x + 12.0, 18.0, "start", peer);
        x += 92.0;
    }
    let mut y = TOP;
    for row in rows {
        let began = y;
        for (number, ratio) in bars(row) {
            let length = ratio.median.clamp(0.0, LIMIT) * ONE;
            rectangle(&mut svg, (LEFT, y), (length, BAR - 2.0), (color(number), "none"));
            write(&mut svg, LEFT + length + 3.0, y + BAR - 2.0, "start", &digits(ratio.median));
            y += BAR;
        }
        write(&mut svg, LEFT - 6.0, began + BAR - 2.0, "end", &tally.rows[row].name);
        y += BAR;
    }
    rectangle(&mut svg, (LEFT + ONE, TOP - 6.0), (0.5, height - TOP), ("#222", "none"));
    svg.push_str("</svg>\n");
    svg
}

fn color(peer: usize) -> &'static str {
    COLORS[peer % COLORS.len()]
}
