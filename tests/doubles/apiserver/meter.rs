//! What an apiserver tells of the requests that it has answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::store::Store;
use crate::metrics::started;

/// The upper bounds of the buckets, in seconds: some of the real ones.
const BOUNDS: [f64; 6] = [0.005, 0.05, 0.1, 0.5, 1.0, 10.0];

/// Kinds whose objects are counted.
const KINDS: [&str; 4] = ["configmaps", "leases", "nodes", "secrets"];

/// Requests since the start.
#[derive(Debug)]
pub(super) struct Meter {
    begun: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By verb, resource and status.
    requests: BTreeMap<(String, String, u16), u64>,
    /// By verb: buckets, sum and count.
    times: BTreeMap<String, ([u64; BOUNDS.len()], f64, u64)>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { begun: started(), seen: Mutex::default() }
    }

    /// A request was answered.
    pub(super) fn record(&self, verb: &str, resource: &str, status: u16, took: Duration) {
        let verb = verb.to_uppercase();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.requests.entry((verb.clone(), resource.to_owned(), status)).or_default() += 1;
        let (buckets, sum, count) = seen.times.entry(verb).or_default();
        let took = took.as_secs_f64();
        for (bucket, bound) in buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(took <= bound);
        }
        *sum += took;
        *count += 1;
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn text(&self, store: &Store) -> String {
        let mut text = self.begun.clone();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str("# TYPE apiserver_request_total counter\n");
        for ((verb, resource, code), count) in &seen.requests {
            let labels = format!(r#"verb="{verb}",resource="{resource}",code="{code}""#);
            let _ = writeln!(text, "apiserver_request_total{{{labels}}} {count}");
        }
        text.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        let name = "apiserver_request_duration_seconds";
        for (verb, (buckets, sum, count)) in &seen.times {
            for (bucket, bound) in buckets.iter().zip(BOUNDS) {
                let _ = writeln!(text, r#"{name}_bucket{{verb="{verb}",le="{bound}"}} {bucket}"#);
            }
            let _ = writeln!(text, r#"{name}_bucket{{verb="{verb}",le="+Inf"}} {count}"#);
            let _ = writeln!(text, r#"{name}_sum{{verb="{verb}"}} {sum}"#);
            let _ = writeln!(text, r#"{name}_count{{verb="{verb}"}} {count}"#);
        }
        drop(seen);
        text.push_str("# TYPE apiserver_storage_objects gauge\n");
        for kind in KINDS {
            let count = store.all(kind, "").map_or(0, |all| all.len());
            let _ = writeln!(text, r#"apiserver_storage_objects{{resource="{kind}"}} {count}"#);
        }
        text
    }
}
