//! A proxy that would connect to itself: refused in the configuration, left out where it is found.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::process::Command;
use std::time::Duration;

use apiproxy::demo::{ApiServer, Authority};
use apiproxy::net::is_of_this_host;

use common::{Outcome, Proxy, apiproxy, in_network, no_network, wait_for};

/// This host's.
const HOST: &str = "10.77.0.5";

#[test]
fn a_wildcard_listener_never_meets_itself() {
    if let Some(why) = no_network() {
        skip!("{why}");
    }
    in_network("loops", &["10.77.0.5/24"], meet_nobody);
}

/// Regression: of several addresses in one subnet, as with keepalived, only the first one was known.
#[test]
fn every_address_of_a_subnet_is_this_hosts() {
    if let Some(why) = no_network() {
        skip!("{why}");
    }
    let own = ["10.9.0.5", "10.9.0.6", "fd09::5", "fd09::6"];
    in_network("second", &["10.9.0.5/24", "10.9.0.6/24", "fd09::5/64", "fd09::6/64"], move || {
        // Neighbours that there is a way to.
        for others in ["10.9.1.0/24", "fd09:0:0:1::/64"] {
            let route = ["route", "add", others, "dev", "lo"];
            assert!(Command::new("ip").args(route).status().unwrap().success(), "{others}");
        }
        for nonlocal_bind in ["0", "1"] {
            for family in ["ipv4", "ipv6"] {
                let setting = format!("/proc/sys/net/{family}/ip_nonlocal_bind");
                std::fs::write(setting, nonlocal_bind).unwrap();
            }
            for ip in own {
                assert!(is_of_this_host(ip.parse().unwrap()), "{ip} {nonlocal_bind}");
            }
            for ip in ["10.9.1.9", "10.9.0.255", "224.0.0.1", "fd09:0:0:1::9", "ff02::1"] {
                assert!(!is_of_this_host(ip.parse().unwrap()), "{ip} {nonlocal_bind}");
            }
            let refused = wildcard("10.9.0.6:6443");
            refused.refused(2, "10.9.0.6:6443 is this proxy itself, which listens on 0.0.0.0:6443");
        }
    });
}

/// What becomes of a proxy that listens everywhere and has this backend.
fn wildcard(backend: &str) -> Outcome {
    let arguments = ["run", "--insecure-skip-verify", "--control-socket", ""];
    let listen = ["--listen", "0.0.0.0:6443", "--admin-listen", "127.0.0.1:0"];
    apiproxy(&[&arguments[..], &listen, &["--backend", backend]].concat())
}

fn meet_nobody() {
    let refused = wildcard(&format!("{HOST}:6443"));
    refused.refused(2, "10.77.0.5:6443 is this proxy itself, which listens on 0.0.0.0:6443");
    refused.refused(2, "listen on 127.0.0.1 alone");

    // The apiserver of this very host is a backend like any other while the proxy listens elsewhere.
    let authority = Authority::new("test").unwrap();
    let server = format!("{HOST}:6443");
    let _server =
        ApiServer::start("cp1", &authority.server().unwrap(), server.parse().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    let list = folder.path().join("servers");
    std::fs::write(&list, format!("{server}\n")).unwrap();
    let lines = "healthCheck: { interval: 500ms, tls: { caFile: ca.crt } }\n\
                 discovery: { file: servers }\n";
    let proxy = Proxy::start(folder.path(), lines);
    let port = proxy.listen.port();
    let everywhere = |lines: &str| {
        let local = format!("listen: [\"{}\"]", proxy.listen);
        proxy.config(lines).replace(&local, &format!("listen: [\"0.0.0.0:{port}\"]"))
    };
    proxy.replace_config(&everywhere(lines));
    proxy.reload();
    proxy.wait_state(&server, "ready", Duration::from_secs(10));

    // At its own port it is this proxy, by whatever name; the others stay.
    let own = format!("{HOST}:{port}");
    let name = format!("localhost:{port}");
    let found = format!("{own}\n{server}\n{name}\n");
    for text in [found.clone(), format!("# again\n{found}")] {
        std::fs::write(&list, text).unwrap();
        let known = || proxy.status().backends.into_iter().map(|backend| backend.name);
        wait_for("the name is known", Duration::from_secs(15), || known().find(|n| *n == name));
        assert!(known().all(|backend| backend != own), "{:?}", known().collect::<Vec<_>>());
    }
    proxy.wait_log("it leads back to this proxy, at 127.0.0.1");
    let told = |log: &str| log.lines().filter(|line| line.contains("itself listens there")).count();
    proxy.wait_log("itself listens there");
    assert_eq!(told(&proxy.log_text()), 1, "it is told once");
    proxy.wait_state(&server, "ready", Duration::from_secs(1));

    // And a reload that would make a loop changes nothing.
    let seed = format!("backends: [{{ address: \"{own}\" }}]\n{lines}");
    proxy.replace_config(&everywhere(&seed));
    proxy.reload();
    let refusal = proxy.status().config.refusal.join("\n");
    assert!(refusal.contains(&format!("{own} is this proxy itself")), "{refusal}");
}
