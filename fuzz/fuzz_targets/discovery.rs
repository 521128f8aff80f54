//! What others write for discovery, lists, caches, EndpointSlices and kubeconfigs, never makes it panic,
//! and what is taken is sane.
#![no_main]

use apiproxy::discovery::{Server, fuzzing};
use apiproxy::model::MAX_BACKENDS;
use libfuzzer_sys::fuzz_target;

fn check(servers: &[Server], loopback: bool) {
    assert!((1..=MAX_BACKENDS).contains(&servers.len()));
    for server in servers {
        if let Some(address) = server.address.socket_addr() {
            let ip = address.ip().to_canonical();
            assert!(address.port() > 0 && !ip.is_unspecified() && !ip.is_multicast());
            assert!(loopback || !ip.is_loopback());
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    if kind % 4 == 0 {
        if let Ok(servers) = fuzzing::slices(data) {
            check(&servers, false);
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match kind % 4 {
        1 => {
            if let Ok(servers) = fuzzing::list(text) {
                check(&servers, true);
                // What was taken is kept, and read again as the same.
                let (kept, _) = fuzzing::cache(&fuzzing::render(&servers)).unwrap();
                assert_eq!(kept, servers);
            }
        }
        2 => {
            if let Ok((servers, again)) = fuzzing::cache(text) {
                assert_eq!(fuzzing::cache(&again).map(|(servers, _)| servers), Ok(servers));
            }
        }
        _ => _ = fuzzing::kubeconfig(text),
    }
});
