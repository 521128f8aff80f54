//! The metrics registry: what is counted directly, what is copied in at each scrape, and the text.

mod series;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{
    Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

pub use series::Series;

/// Bounds of the histograms of connect and probe times, in seconds: from a fast local network to
/// the longest timeouts in use.
const SECONDS: [f64; 12] =
    [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0];

const METADATA: Metadata<'static> = Metadata::new("apiproxy", Level::INFO, None);

/// The registry. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    process: metrics_process::Collector,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What data threads count that belongs to no backend.
#[derive(Clone, Debug)]
pub struct DataPath {
    metrics: Metrics,
    /// The cluster whose clients it counts, if the process serves several.
    cluster: Option<String>,
    /// Clients refused because `connections.max` was reached.
    pub refused: Counter,
    /// Clients closed because no backend could be reached.
    pub unserved: Counter,
    /// Accepts that failed.
    pub accept_errors: Counter,
    /// Second backends tried in parallel.
    pub hedged: Counter,
    /// Bytes that went from socket to socket without a copy.
    pub spliced: Counter,
    /// Clients that waited for one backend only, because the retry budget was spent.
    pub hedges_withheld: Counter,
}

impl DataPath {
    /// What a data thread keeps to note how long clients waited for a backend.
    pub fn connect_times(&self) -> ConnectTimes {
        let (metrics, cluster) = (self.metrics.clone(), self.cluster.clone());
        ConnectTimes { metrics, cluster, known: RefCell::default() }
    }
}

/// The histograms of one thread's connects: a look-up in the registry for each client would
/// allocate, and lock out other threads.
#[derive(Debug)]
pub struct ConnectTimes {
    metrics: Metrics,
    cluster: Option<String>,
    known: RefCell<HashMap<String, Histogram>>,
}

impl ConnectTimes {
    /// A client was connected to a backend of the cluster in this time.
    pub fn note(&self, backend: &str, time: Duration) {
        let mut known = self.known.borrow_mut();
        if let Some(histogram) = known.get(backend) {
            histogram.record(time.as_secs_f64());
            return;
        }
        let cluster = self.cluster.as_deref().map(|cluster| ("cluster", cluster));
        let labels: Vec<_> = cluster.into_iter().chain([("backend", backend)]).collect();
        let histogram = self.metrics.histogram("apiproxy_connect_seconds", &labels);
        histogram.record(time.as_secs_f64());
        known.insert(backend.to_owned(), histogram);
    }
}

impl Metrics {
    /// An empty registry.
    ///
    /// # Errors
    /// The histogram bounds are refused, which no input can cause.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Self {
            recorder: Arc::new(recorder),
            handle,
            process: metrics_process::Collector::default(),
        };
        metrics.describe_all();
        metrics.set("apiproxy_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        metrics::with_local_recorder(&*metrics.recorder, || metrics.process.describe());
        Ok(metrics)
    }

    /// The counters of the data path, for one of several clusters if there are several.
    pub fn data_path(&self, cluster: Option<&str>) -> DataPath {
        let labels: Vec<_> = cluster.map(|cluster| ("cluster", cluster)).into_iter().collect();
        let counter = |name| self.counter(name, &labels);
        DataPath {
            metrics: self.clone(),
            cluster: cluster.map(str::to_owned),
            refused: counter("apiproxy_clients_refused_total"),
            unserved: counter("apiproxy_clients_unserved_total"),
            accept_errors: counter("apiproxy_accept_errors_total"),
            hedged: counter("apiproxy_hedged_connects_total"),
            spliced: counter("apiproxy_spliced_bytes_total"),
            hedges_withheld: counter("apiproxy_hedges_withheld_total"),
        }
    }

    /// Sets a counter, which never goes back.
    pub fn total(&self, name: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.counter(name, labels).absolute(value);
    }

    /// Adds one to a counter.
    pub fn increment(&self, name: &'static str, labels: &[(&'static str, &str)]) {
        self.counter(name, labels).increment(1);
    }

    /// Sets a gauge.
    pub fn set(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder.register_gauge(&key(name, labels), &METADATA).set(value);
    }

    /// Adds a time to a histogram.
    pub fn observe(&self, name: &'static str, labels: &[(&'static str, &str)], time: Duration) {
        self.histogram(name, labels).record(time.as_secs_f64());
    }

    /// The text of all metrics, with the process's own brought up to date, and without the series of
    /// backends and clusters (the first argument) that are not known any more. The registry keeps
    /// those for the case that they return.
    pub fn render(&self, is_known: impl Fn(Option<&str>, Option<&str>) -> bool) -> String {
        metrics::with_local_recorder(&*self.recorder, || self.process.collect());
        let is_wanted = |line: &&str| {
            let (cluster, backend) = (label(line, "cluster"), label(line, "backend"));
            (cluster.is_none() && backend.is_none())
                || is_known(cluster.as_deref(), backend.as_deref())
        };
        let text = self.handle.render();
        text.lines().filter(is_wanted).flat_map(|line| [line, "\n"]).collect()
    }

    /// Folds histogram samples into their buckets, so that they do not pile up between scrapes. To
    /// be called every few seconds.
    pub fn fold(&self) {
        self.handle.run_upkeep();
    }

    fn histogram(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    fn describe_all(&self) {
        let counter = |name: &'static str, text: &'static str| {
            self.recorder.describe_counter(KeyName::from(name), None, SharedString::from(text));
        };
        let gauge = |name: &'static str, text: &'static str| {
            self.recorder.describe_gauge(KeyName::from(name), None, SharedString::from(text));
        };
        let histogram = |name: &'static str, text: &'static str| {
            let unit = Some(Unit::Seconds);
            self.recorder.describe_histogram(KeyName::from(name), unit, SharedString::from(text));
        };
        for (name, kind, text) in CATALOGUE {
            match kind {
                Kind::Counter => counter(name, text),
                Kind::Gauge => gauge(name, text),
                Kind::Histogram => histogram(name, text),
            }
        }
    }
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times in buckets.
    Histogram,
}

/// Every metric of ours: name, type and help. The README's table is tested against it.
pub const CATALOGUE: &[(&str, Kind, &str)] = &[
    ("apiproxy_build_info", Kind::Gauge, "1, with the version as a label."),
    ("apiproxy_connections_active", Kind::Gauge, "Client connections that a backend carries now."),
    ("apiproxy_connections_total", Kind::Counter, "Attempts to connect to a backend, by result."),
    (
        "apiproxy_connections_closed_total",
        Kind::Counter,
        "Relayed connections that have ended, by reason.",
    ),
    ("apiproxy_bytes_total", Kind::Counter, "Bytes relayed: up to a backend, down to clients."),
    (
        "apiproxy_spliced_bytes_total",
        Kind::Counter,
        "Bytes of bulk that were relayed without a copy (splice).",
    ),
    (
        "apiproxy_connect_seconds",
        Kind::Histogram,
        "Time from accepting a client to a connected backend.",
    ),
    ("apiproxy_backend_state", Kind::Gauge, "1 for the state that a backend is in, 0 for others."),
    ("apiproxy_backend_transitions_total", Kind::Counter, "Times that a backend entered a state."),
    ("apiproxy_probes_total", Kind::Counter, "Health probes, by result."),
    ("apiproxy_probe_seconds", Kind::Histogram, "Duration of health probes."),
    ("apiproxy_suspicions_total", Kind::Counter, "Doubts raised by the data path, by reason."),
    (
        "apiproxy_hedged_connects_total",
        Kind::Counter,
        "Second backends tried in parallel because the first was slow.",
    ),
    (
        "apiproxy_hedges_withheld_total",
        Kind::Counter,
        "Clients whose second backend had to wait because the retry budget was spent.",
    ),
    (
        "apiproxy_rebalanced_total",
        Kind::Counter,
        "Connections moved away at a quiet moment, to a backend that is ready again.",
    ),
    ("apiproxy_clients_refused_total", Kind::Counter, "Clients refused at connections.max."),
    (
        "apiproxy_clients_unserved_total",
        Kind::Counter,
        "Clients closed because no backend could be reached.",
    ),
    ("apiproxy_accept_errors_total", Kind::Counter, "Accepts that failed for want of resources."),
    (
        "apiproxy_config_reloads_total",
        Kind::Counter,
        "Times that the configuration was read again, by result: applied, unchanged, refused.",
    ),
    (
        "apiproxy_config_needs_restart",
        Kind::Gauge,
        "1 while the file says something that only a restart can bring about.",
    ),
    (
        "apiproxy_handovers_total",
        Kind::Counter,
        "Handovers of the listeners: taken, or failed or refused while this process went on.",
    ),
    ("apiproxy_endpoints", Kind::Gauge, "Backends that each source names."),
    (
        "apiproxy_endpoints_age_seconds",
        Kind::Gauge,
        "Time since a source last confirmed what it names.",
    ),
];

/// The value of a label in a line of Prometheus text.
fn label(line: &str, name: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let start = format!("{name}=\"");
    let rest = &line[line.find(&start)? + start.len()..];
    let mut value = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return Some(value),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_unknown_backends_are_left_out() {
        let metrics = Metrics::new().unwrap();
        for backend in ["cp1", "cp\\2"] {
            let labels = [("backend", backend), ("result", "ready")];
            metrics.increment("apiproxy_probes_total", &labels);
            metrics.observe(
                "apiproxy_probe_seconds",
                &[("backend", backend)],
                Duration::from_millis(1),
            );
        }
        let all = metrics.render(|_, _| true);
        assert!(
            all.contains("apiproxy_probes_total{backend=\"cp1\",result=\"ready\"} 1\n"),
            "{all}"
        );
        let some = metrics.render(|_, name| name == Some("cp\\2"));
        assert!(!some.contains("cp1"), "{some}");
        let left = |line: &&str| line.contains("cp\\\\2") && line.contains("_count");
        assert_eq!(some.lines().filter(left).count(), 1, "{some}");
        assert!(some.contains("# TYPE apiproxy_probe_seconds histogram"), "{some}");
    }
}
