//! No text makes the reader of configurations panic, and every fault can be told.
#![no_main]

use std::path::Path;

use apiproxy::config::{self, Overrides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let overrides = Overrides { insecure_skip_verify: true, ..Overrides::default() };
    match config::parse("fuzz.yaml", text, Path::new("/nowhere"), &overrides) {
        Ok(config) => {
            for cluster in &config.clusters {
                let found = &cluster.discovery;
                let others = found.file.is_some() || found.cache_file.is_some();
                assert!(others || !cluster.backends.is_empty());
                assert!(cluster.health_check.fast_interval <= cluster.health_check.interval);
                assert!(cluster.connect.hedge_after <= cluster.connect.timeout);
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let lines = error.lines();
            assert!(!lines.is_empty());
            assert!(lines.iter().all(|line| !line.contains('\n')), "{lines:?}");
        }
    }
});
