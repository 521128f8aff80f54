//! Clients that download without end and retry as a careful client does.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use crate::common::run;
use crate::servers::{Cluster, sha256};

/// Downloads one curl makes, over one connection unless it has to retry.
const DOWNLOADS: usize = 3;

/// What came of one curl.
struct Run {
    retries: usize,
    hashes: Vec<String>,
}

/// curls in several threads, one after another in each, until finished or dropped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Run>>>,
}

/// What a load has done.
pub(crate) struct Done {
    /// Downloads, all of them complete and exact.
    pub(crate) downloads: usize,
    /// Downloads that were cut or not begun, each followed by another try.
    pub(crate) retries: usize,
}

impl Load {
    pub(crate) fn start(cluster: &Cluster, url: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |client: usize| {
            let (url, stop) = (format!("{url}?[1-{DOWNLOADS}]"), stop.clone());
            let files = (1..=DOWNLOADS)
                .map(|n| cluster.folder.path().join(format!("load-{client}-{n}")))
                .collect::<Vec<_>>();
            let output = cluster.folder.path().join(format!("load-{client}-#1"));
            let mut curl = cluster.curl();
            curl.args(["--fail", "--retry", "10", "--retry-all-errors", "--retry-delay", "1"]);
            curl.args(["--stderr", "-", "--write-out", "%{http_code}\n", "--output"]);
            curl.arg(output).arg(url);
            std::thread::spawn(move || {
                let mut runs = Vec::new();
                while !stop.load(Relaxed) {
                    runs.push(Run::of(&run(&mut curl), &files));
                }
                runs
            })
        };
        let threads = (0..clients).map(client).collect();
        Self { stop, threads }
    }

    /// Lets every client finish what it does. Panics if any download failed for good or is not what
    /// has this SHA-256.
    pub(crate) fn finish(mut self, hash: &str) -> Done {
        self.stop.store(true, Relaxed);
        let mut done = Done { downloads: 0, retries: 0 };
        for thread in self.threads.drain(..) {
            for run in thread.join().unwrap() {
                assert!(run.hashes.iter().all(|found| found == hash), "not byte-exact");
                done.downloads += run.hashes.len();
                done.retries += run.retries;
            }
        }
        done
    }
}

impl Run {
    fn of(report: &str, files: &[PathBuf]) -> Self {
        // Each try that fails says `curl: (..)`, and each download that is done its status.
        let (failures, codes): (Vec<_>, Vec<_>) =
            report.lines().partition(|line| line.starts_with("curl: ("));
        assert_eq!(codes, ["200"; DOWNLOADS], "{report}");
        Self { retries: failures.len(), hashes: files.iter().map(|file| sha256(file)).collect() }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It panics when a test has failed already, which has said why.
            let _ = thread.join();
        }
    }
}
