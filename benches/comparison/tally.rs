//! The figures of all rounds: medians, spreads, and ratios to one of the peers.

use std::collections::BTreeMap;

use serde::Serialize;

/// What one run of a scenario measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Is more of it better?
    pub(crate) rising: bool,
    pub(crate) value: f64,
}

impl Figure {
    /// One of which less is better.
    pub(crate) fn less(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, rising: false, value }
    }

    /// One of which more is better.
    pub(crate) fn more(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, rising: true, value }
    }
}

/// A figure of all peers in all rounds: a row of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    #[serde(rename = "moreIsBetter")]
    pub(crate) rising: bool,
    /// For each peer the values by round. A round in which it failed has none.
    values: BTreeMap<String, BTreeMap<u32, f64>>,
}

/// A median and the range that it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of any values in any order.
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { least, median: f64::midpoint(low, high), most })
    }
}

impl Row {
    /// A peer's values.
    pub(crate) fn spread(&self, peer: &str) -> Option<Spread> {
        Spread::of(self.values.get(peer)?.values().copied())
    }

    /// The ratio of a peer's median to the reference's; its range is that of the ratios within each
    /// round, which both spent on the same machine in the same mood.
    pub(crate) fn ratio(&self, peer: &str, reference: &str) -> Option<Spread> {
        let (mine, theirs) = (self.values.get(peer)?, self.values.get(reference)?);
        let pairs = mine.iter().filter_map(|(round, value)| Some(value / theirs.get(round)?));
        let range = Spread::of(pairs)?;
        let median = self.spread(peer)?.median / self.spread(reference)?.median;
        Some(Spread { median, ..range }).filter(|ratio| ratio.median.is_finite())
    }
}

/// All rows, in the order of their first values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rows: Vec<Row>,
}

impl Tally {
    /// Takes in what one run measured. A figure that is new gets its place after the one before it,
    /// so that the rows are in the order of the figures, although not every peer has all.
    pub(crate) fn add(&mut self, scenario: &'static str, peer: &str, round: u32, run: Vec<Figure>) {
        let of_scenario = |row: &Row| row.scenario == scenario;
        let mut next = self.rows.iter().position(of_scenario).unwrap_or(self.rows.len());
        for Figure { name, unit, rising, value } in run {
            let known = self.rows.iter().position(|row| of_scenario(row) && row.name == name);
            let at = known.unwrap_or_else(|| {
                let values = BTreeMap::new();
                self.rows.insert(next, Row { scenario, name, unit, rising, values });
                next
            });
            self.rows[at].values.entry(peer.to_owned()).or_default().insert(round, value);
            next = at + 1;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
