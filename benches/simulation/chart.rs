//! A chart of all runs: connections of each apiserver, and reconnects at the busiest one, over time.

use std::fmt::Write as _;

use crate::drawing::{open, rectangle, write};
use crate::fleet::Figures;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 110.0;
/// Of the panel below, on a logarithmic scale.
const LOW: f64 = 60.0;
const MARGIN: f64 = 50.0;
const ROW: f64 = HEIGHT + LOW + 70.0;
/// Points of a line.
const POINTS: usize = 160;
const COLORS: [&str; 5] = ["#d1495b", "#00798c", "#edae49", "#30638e", "#7a5195"];

/// Two columns of panels: the runs in their order, first down and then across.
pub(crate) fn svg(figures: &[Figures]) -> String {
    let rows = figures.len().div_ceil(2);
    let (width, height) = (2.0 * (WIDTH + 1.5 * MARGIN), float(rows) * ROW + 20.0);
    let mut svg = open(width, height);
    for (number, figures) in figures.iter().enumerate() {
        let x = float(number / rows) * (WIDTH + 1.5 * MARGIN) + MARGIN;
        let y = float(number % rows) * ROW + 30.0;
        panel(&mut svg, figures, x, y);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, figures: &Figures, x: f64, y: f64) {
    // From a minute before the fault on.
    let from = usize::try_from(figures.scenario.begins.as_secs()).unwrap_or(0).saturating_sub(60);
    let connections = figures.tally.connections();
    let seconds = figures.balance.len() - 1 - from;
    let most = connections.iter().flatten().copied().max().unwrap_or(0).max(1);
    let title = format!("{} apiservers, {}", connections.len(), figures.scenario.name);
    write(svg, x, y - 8.0, "start", &format!("{title}: connections of each"));
    frame(svg, x, y, HEIGHT);
    write(svg, x - 4.0, y + 9.0, "end", &most.to_string());
    write(svg, x - 4.0, y + HEIGHT, "end", "0");
    for (server, open) in connections.iter().enumerate() {
        let values = thin(&open[from..=from + seconds], |open| open.last().copied().map(f64::from));
        line(svg, x, y, HEIGHT, COLORS[server % COLORS.len()], &scaled(&values, f64::from(most)));
    }

    let top = y + HEIGHT + 10.0;
    let at = |second: usize| figures.tally.servers.iter().map(|s| s.dials[second]).max();
    let busiest: Vec<u32> = (from..=from + seconds).map(|second| at(second).unwrap_or(0)).collect();
    let peak = busiest.iter().copied().max().unwrap_or(0);
    let values = thin(&busiest, |dials| dials.iter().max().map(|most| logarithm(*most)));
    frame(svg, x, top, LOW);
    write(svg, x - 4.0, top + 9.0, "end", &peak.to_string());
    write(svg, x - 4.0, top + LOW, "end", "0");
    line(svg, x, top, LOW, "#444", &scaled(&values, logarithm(peak.max(1))));
    let below = top + LOW + 13.0;
    write(svg, x, below, "start", "0");
    write(svg, x + WIDTH, below, "end", &format!("{seconds} s"));
    let text = "reconnects a second at the busiest, logarithmic";
    write(svg, x + WIDTH / 2.0, below, "middle", text);
}

/// As many values as there are points, each made of the seconds that it stands for.
fn thin<T>(values: &[T], make: impl Fn(&[T]) -> Option<f64>) -> Vec<f64> {
    values.chunks(values.len().div_ceil(POINTS)).filter_map(make).collect()
}

fn logarithm(count: u32) -> f64 {
    f64::from(count).ln_1p()
}

fn scaled(values: &[f64], most: f64) -> Vec<f64> {
    values.iter().map(|value| value / most).collect()
}

/// A line through values from 0 to 1.
fn line(svg: &mut String, x: f64, y: f64, height: f64, color: &str, values: &[f64]) {
    let step = WIDTH / float(values.len().max(2) - 1);
    let mut points = String::new();
    for (number, value) in values.iter().enumerate() {
        let (x, y) = (x + step * float(number), y + height * (1.0 - value));
        let _ = write!(points, "{x:.1},{y:.1} ");
    }
    let points = points.trim_end();
    let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{color}\" points=\"{points}\"/>");
}

fn frame(svg: &mut String, x: f64, y: f64, height: f64) {
    rectangle(svg, (x, y), (WIDTH, height), ("none", "#bbb"));
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn float(number: usize) -> f64 {
    number as f64
}
