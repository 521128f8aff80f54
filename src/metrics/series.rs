//! Series that are kept elsewhere, as Prometheus text.

use std::fmt::Write as _;

use super::{CATALOGUE, Kind};

/// Text of metrics; all series of one metric are to be added in a row.
#[derive(Debug, Default)]
pub struct Series {
    text: String,
    last: &'static str,
}

impl Series {
    /// Adds a series of a metric in the catalogue.
    pub fn add(&mut self, metric: &'static str, labels: &[(&'static str, &str)], value: u64) {
        if self.last != metric {
            self.last = metric;
            self.head(metric);
        }
        self.text += metric;
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = escaped(value);
            let before = if index == 0 { '{' } else { ',' };
            let _infallible = write!(self.text, "{before}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.text, "{end} {value}");
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, metric: &'static str) {
        let Some((_, kind, help)) = CATALOGUE.iter().find(|(name, ..)| *name == metric) else {
            return;
        };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _infallible = write!(self.text, "# HELP {metric} {help}\n# TYPE {metric} {kind}\n");
    }
}

/// A label value as it is written between quotes.
pub(super) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_one_head_and_their_labels_escaped() {
        let mut series = Series::default();
        for backend in ["a", "b\\\"c"] {
            series.add("apiproxy_connections_active", &[("backend", backend), ("x", "y")], 7);
        }
        assert_eq!(
            series.into_text(),
            "# HELP apiproxy_connections_active Client connections that a backend carries now.\n\
             # TYPE apiproxy_connections_active gauge\n\
             apiproxy_connections_active{backend=\"a\",x=\"y\"} 7\n\
             apiproxy_connections_active{backend=\"b\\\\\\\"c\",x=\"y\"} 7\n"
        );
    }
}
