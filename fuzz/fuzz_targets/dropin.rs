//! No file that an installer could leave makes its readers panic, and what they find is a
//! configuration that the proxy takes.
#![no_main]

use std::path::Path;

use apiproxy::config::{self, Overrides};
use apiproxy::dropin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for read in [dropin::haproxy, dropin::nginx, dropin::kubeconfig] {
        match read(text, None) {
            Ok(found) => {
                let printed = found.configuration("/etc/kubernetes/pki/ca.crt");
                let printed = printed.replace(
                    "caFile: \"/etc/kubernetes/pki/ca.crt\"",
                    "insecureSkipVerify: true",
                );
                match config::parse("fuzz.yaml", &printed, Path::new("/"), &Overrides::default()) {
                    Ok(config) => {
                        assert_eq!(config.clusters[0].backends.len(), found.servers.len());
                        assert_eq!(config.clusters[0].balance, found.balance);
                    }
                    // A server may be the address that is listened on: only the proxy knows that it
                    // would be its own backend.
                    Err(error) => {
                        let error = error.to_string();
                        let own = found.servers.iter().any(|server| {
                            let ports = found.listen.iter().map(|listen| listen.port());
                            ports.chain([6443, 10242]).any(|port| port == server.address.port())
                        });
                        let busy = found.listen.iter().any(|listen| listen.port() == 10242);
                        assert!(own || busy || error.contains("listen"), "{error}\n{printed}");
                    }
                }
            }
            Err(trouble) => assert!(!trouble.to_string().is_empty()),
        }
    }
});
