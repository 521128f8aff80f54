//! Servers that are found: added to the configured ones, never instead of them; let go gently; kept for
//! the next start; and no absurd answer is acted on.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails ends the test")]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use apiproxy::admin::SourceStatus;
use apiproxy::demo::{ApiServer, Authority, Issue, Issued, Telling};

use common::{Cluster, Proxy, free_port, in_network, no_network, report, wait_for};

const SECOND: Duration = Duration::from_secs(1);

fn names(proxy: &Proxy) -> Vec<String> {
    proxy.status().backends.into_iter().map(|backend| backend.name).collect()
}

fn source(proxy: &Proxy, name: &str) -> Option<SourceStatus> {
    proxy.status().sources.into_iter().find(|source| source.source == name)
}

/// Waits until exactly these backends are there, whatever their state.
fn wait_names(proxy: &Proxy, wanted: &[&str], within: Duration) -> Duration {
    let start = Instant::now();
    wait_for(&format!("the backends are {wanted:?}"), within, || {
        let mut found = names(proxy);
        let mut wanted = wanted.to_vec();
        found.sort();
        wanted.sort_unstable();
        (found == wanted).then_some(())
    });
    start.elapsed()
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[test]
fn a_file_adds_servers_and_takes_back_only_its_own() {
    let cluster = Cluster::new(3);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("servers");
    let (cp1, cp2, cp3) = (
        cluster.servers[0].address().to_string(),
        cluster.servers[1].address().to_string(),
        cluster.servers[2].address().to_string(),
    );
    std::fs::write(&list, format!("# found\n{cp1}\n{cp2}\n")).unwrap();
    let lines = cluster.lines("interval: 500ms, ");
    let only_cp1 = lines.lines().filter(|l| !l.contains("cp2") && !l.contains("cp3"));
    let only_cp1: String = only_cp1.flat_map(|line| [line, "\n"]).collect();
    let text = format!(
        "{only_cp1}discovery: {{ file: \"{}\" }}\nconnections: {{ drainTimeout: 1s }}\n\
         rebalance: {{ quietFor: 50ms }}\n",
        list.display()
    );
    let proxy = Proxy::start(folder.path(), &text);
    proxy.wait_ready(2);
    assert_eq!(names(&proxy), ["cp1", &cp2], "a seed is not found a second time");
    replace(&list, &format!("- {{ address: \"{cp2}\", zone: b }}\n- \"{cp3}\"\n"));
    wait_for("the third is ready", 10 * SECOND, || {
        let backends = proxy.status().backends;
        let third = backends.iter().find(|backend| backend.name == cp3)?;
        (third.state.as_str() == "ready").then_some(())
    });
    assert_eq!(source(&proxy, "file").unwrap().servers, 2);
    let client = cluster.client(&proxy);
    let mut held = client.open_to("cp3");
    // None of these changes anything.
    let own = format!("{}\n", proxy.listen);
    for (bad, told) in [
        ("", "names no server"),
        ("nonsense\n", "no port"),
        (own.as_str(), "this proxy itself"),
        ("- {", "no list"),
        ("224.0.0.1:6443\n", "an address of many"),
    ] {
        replace(&list, bad);
        wait_for(&format!("{bad:?} is refused"), 15 * SECOND, || {
            source(&proxy, "file").unwrap().problem.filter(|problem| problem.contains(told))
        });
        assert!(names(&proxy).contains(&cp3), "{bad:?}");
    }
    std::fs::remove_file(&list).unwrap();
    wait_for("its loss is told", 5 * SECOND, || {
        source(&proxy, "file").unwrap().problem.filter(|problem| problem.contains("No such file"))
    });
    assert!(names(&proxy).contains(&cp3));
    // Named no longer, but alive: drained, and gone when its last connection has left.
    client.name(&mut held).unwrap();
    replace(&list, &format!("{cp2}\n"));
    let gone = wait_names(&proxy, &["cp1", &cp2], 60 * SECOND);
    report(&format!("a live server that is named no longer has left after {gone:?}"));
    assert!(gone > 28 * SECOND, "it was given time to be named again");
    assert_eq!(source(&proxy, "file").unwrap().problem, None);
    let metrics = proxy.metrics();
    assert!(metrics.contains("apiproxy_endpoints{source=\"file\"} 1\n"), "{metrics}");
    assert!(metrics.contains("apiproxy_endpoints{source=\"static\"} 1\n"), "{metrics}");
    assert!(metrics.contains("apiproxy_endpoints_age_seconds{source=\"file\"} "), "{metrics}");
    // The source is taken out of the configuration: so are its servers.
    proxy.replace_config(&proxy.config(&only_cp1));
    proxy.reload();
    wait_names(&proxy, &["cp1"], 60 * SECOND);
    client.ask().unwrap();
}

#[test]
fn a_cache_serves_when_all_seeds_are_dead() {
    let cluster = Cluster::new(2);
    let folder = tempfile::tempdir().unwrap();
    let (list, cache) = (folder.path().join("servers"), folder.path().join("cache.json"));
    let addresses: Vec<String> =
        cluster.servers.iter().map(|server| format!("{}\n", server.address())).collect();
    std::fs::write(&list, addresses.concat()).unwrap();
    let check =
        format!("healthCheck: {{ tls: {{ caFile: \"{}\" }} }}\n", cluster.ca_file().display());
    let cached = format!("cacheFile: \"{}\"", cache.display());
    let finder = Proxy::start(
        folder.path(),
        &format!("{check}discovery: {{ file: \"{}\", {cached} }}\n", list.display()),
    );
    finder.wait_ready(2);
    wait_for("the cache is written", 5 * SECOND, || cache.exists().then_some(()));
    drop(finder);

    // One refuses connections; nothing answers from the documentation's network.
    let dead = format!(
        "backends: [{{ address: 127.0.0.1:{} }}, {{ address: 192.0.2.1:6443 }}]\n",
        free_port()
    );
    let config = format!("{check}{dead}discovery: {{ {cached} }}\n");
    let start = Instant::now();
    let proxy = Proxy::start(folder.path(), &config);
    let client = cluster.client(&proxy);
    while client.ask().is_err() {
        assert!(start.elapsed() < 2 * SECOND, "not served within 2 s");
    }
    report(&format!("with dead seeds and a cache, served {:?} after the start", start.elapsed()));
    let status = source(&proxy, "cache").unwrap();
    assert_eq!((status.servers, status.problem), (2, None));
    drop(proxy);

    let good = std::fs::read_to_string(&cache).unwrap();
    for (bad, told) in [
        (&good[..good.len() / 2], "it is damaged"),
        (good.replace("\"writtenAt\":1", "\"writtenAt\":2").as_str(), "checksum"),
        (good.replace("\"version\":1", "\"version\":7").as_str(), "another version"),
        ("{\"some\":\"thing\"}", "not one of ours"),
    ] {
        std::fs::write(&cache, bad).unwrap();
        let proxy = Proxy::start(folder.path(), &config);
        assert_eq!(names(&proxy).len(), 2, "{bad}");
        let problem = source(&proxy, "cache").unwrap().problem.unwrap();
        assert!(problem.contains(told), "{problem}");
        proxy.wait_log("the cache of servers is ignored");
    }
}

const HOSTS: [&str; 4] = ["10.89.0.1", "10.89.0.2", "10.89.0.3", "10.89.0.4"];
const LINKS: [&str; 4] = ["10.89.0.1/24", "10.89.0.2/24", "10.89.0.3/24", "10.89.0.4/24"];

fn client_certificate(authority: &Authority) -> Issued {
    let issue = Issue { names: &["apiproxy"], client: true, ..Issue::default() };
    authority.issue(issue).unwrap()
}

/// A kubeconfig of a client certificate, beside its files.
fn write_kubeconfig(folder: &Path, authority: &Authority) -> Issued {
    let issued = client_certificate(authority);
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    std::fs::write(folder.join("client.crt"), &issued.cert_pem).unwrap();
    std::fs::write(folder.join("client.key"), &issued.key_pem).unwrap();
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: apiproxy\n\
        clusters: [{ name: c, cluster: { server: 'https://127.0.0.1:6443', certificate-authority: ca.crt } }]\n\
        contexts: [{ name: apiproxy, context: { cluster: c, user: apiproxy } }]\n\
        users: [{ name: apiproxy, user: { client-certificate: client.crt, client-key: client.key } }]\n";
    std::fs::write(folder.join("apiproxy.conf"), text).unwrap();
    issued
}

/// All servers say the same, as they read the same etcd.
fn say(servers: &[ApiServer], hosts: &[usize], telling: &Telling) {
    let addresses: Vec<SocketAddr> = hosts.iter().map(|host| servers[*host].address()).collect();
    for server in servers {
        server.endpoints(&addresses, telling.clone());
    }
}

#[test]
fn endpoint_slices_are_followed_through_the_backends_themselves() {
    if let Some(why) = no_network() {
        skip!("{why}");
    }
    in_network("slices", &LINKS, follow_endpoint_slices);
}

/// A server on each host, who all let nobody list anything without a certificate.
fn start_servers(authority: &Authority) -> Vec<ApiServer> {
    let issued = authority.server().unwrap();
    let start = |host: usize| {
        let address = format!("{}:6443", HOSTS[host]).parse().unwrap();
        let server = ApiServer::start(&format!("cp{}", host + 1), &issued, address).unwrap();
        server.require_client_cert(true);
        server
    };
    (0..HOSTS.len()).map(start).collect()
}

/// The configuration of a proxy that knows one of the servers.
fn with_seed(servers: &[ApiServer]) -> String {
    format!(
        "backends: [{{ name: seed, address: \"{}\" }}]\n\
         healthCheck: {{ interval: 500ms, tls: {{ caFile: ca.crt }} }}\n\
         connections: {{ drainTimeout: 2s }}\n\
         discovery: {{ kubernetes: {{ kubeconfig: apiproxy.conf }}, cacheFile: cache.json }}\n",
        servers[0].address()
    )
}

fn follow_endpoint_slices() {
    let authority = Authority::new("test").unwrap();
    let servers = start_servers(&authority);
    say(&servers, &[0, 1, 2], &Telling::Event);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    let config = with_seed(&servers);
    let proxy = Proxy::start(folder.path(), &config);
    // The kubeconfig comes later than the proxy.
    wait_for("its lack is told", 5 * SECOND, || {
        source(&proxy, "kubernetes")?.problem.filter(|problem| problem.contains("apiproxy.conf"))
    });
    write_kubeconfig(folder.path(), &authority);
    let [cp2, cp3, cp4] = [1, 2, 3].map(|host| servers[host].address().to_string());
    wait_names(&proxy, &["seed", &cp2, &cp3], 20 * SECOND);
    proxy.wait_ready(3);

    say(&servers, &[0, 1, 2, 3], &Telling::Event);
    let time = Instant::now();
    wait_names(&proxy, &["seed", &cp2, &cp3, &cp4], 15 * SECOND);
    proxy.wait_state(&cp4, "ready", 15 * SECOND);
    report(&format!("a fourth server is ready {:?} after it was named", time.elapsed()));

    // However the watch ends, the next list says what is true.
    for (telling, hosts) in [(Telling::Gone, 3), (Telling::Cut, 4)] {
        say(&servers, &[0, 1, 2, 3][..hosts], &telling);
        let wanted =
            if hosts == 4 { vec!["seed", &cp2, &cp3, &cp4] } else { vec!["seed", &cp2, &cp3] };
        wait_names(&proxy, &wanted, 60 * SECOND);
    }
    say(&servers, &[0, 1, 2, 3], &Telling::Line("<html>what?</html>".to_owned()));
    proxy.wait_log("that is no event");
    wait_for("and left behind", 20 * SECOND, || {
        source(&proxy, "kubernetes").unwrap().problem.is_none().then_some(())
    });

    // Absurd answers change nothing and are told once.
    let absurd = |addresses: &[SocketAddr], told: &str| {
        // No slices make no event: the watch has to end.
        let telling = if addresses.is_empty() { Telling::Gone } else { Telling::Event };
        for server in &servers {
            server.endpoints(addresses, telling.clone());
        }
        // A list may be put off for 7.5 s, and the one after it again.
        wait_for(&format!("{told} is told"), 30 * SECOND, || {
            source(&proxy, "kubernetes").unwrap().problem.filter(|problem| problem.contains(told))
        });
        assert_eq!(names(&proxy).len(), 4, "{told}");
    };
    absurd(&[], "names no server");
    absurd(&["127.0.0.1:6443".parse().unwrap()], "an address of this host");
    absurd(&["224.0.0.1:6443".parse().unwrap()], "an address of many");
    let many: Vec<SocketAddr> =
        (0..65).map(|n| format!("10.90.0.{n}:6443").parse().unwrap()).collect();
    absurd(&many, "65 servers");
    absurd(&["10.89.0.1:0".parse().unwrap()], "no port");
    // Lines come in order, but by a thread of their own, later than the status: when the last one is
    // there, so are all before it.
    proxy.wait_log("an absurd answer: 0 is no port");
    let log = proxy.log_text();
    for told in ["it names no server", "127.0.0.1:6443 is", "224.0.0.1:6443 is", "it names 65"] {
        assert_eq!(log.matches(&format!("an absurd answer: {told}")).count(), 1, "{told}");
    }

    // One leaves for good: dead, and named no longer.
    servers[3].crash();
    proxy.wait_state(&cp4, "dead", 15 * SECOND);
    say(&servers, &[0, 1, 2], &Telling::Gone);
    let gone = wait_names(&proxy, &["seed", &cp2, &cp3], 30 * SECOND);
    report(&format!("a dead server that is named no longer is gone after {gone:?}"));
    assert!(source(&proxy, "kubernetes").unwrap().age_seconds.unwrap() < 30);
    assert!(proxy.metrics().contains("apiproxy_endpoints{source=\"kubernetes\"} 3\n"));

    // The seed dies: the servers that were found serve, and EndpointSlices are watched through them.
    servers[0].crash();
    proxy.wait_state("seed", "dead", 15 * SECOND);
    servers[3].restart().unwrap();
    say(&servers, &[1, 2, 3], &Telling::Event);
    wait_names(&proxy, &["seed", &cp2, &cp3, &cp4], 40 * SECOND);
    proxy.wait_state(&cp4, "ready", 15 * SECOND);
    assert!(TcpStream::connect(proxy.listen).is_ok());
    let cache = std::fs::read_to_string(folder.path().join("cache.json")).unwrap();
    assert!(cache.contains(&cp3), "{cache}");
}

#[test]
fn a_renewed_client_certificate_is_used_at_once() {
    if let Some(why) = no_network() {
        skip!("{why}");
    }
    in_network("renewed", &LINKS, renew_the_certificate);
}

fn renew_the_certificate() {
    let authority = Authority::new("test").unwrap();
    let servers = start_servers(&authority);
    say(&servers, &[0, 1, 2], &Telling::Event);
    let folder = tempfile::tempdir().unwrap();
    let old = write_kubeconfig(folder.path(), &authority);
    let proxy = Proxy::start(folder.path(), &with_seed(&servers));
    let [cp2, cp3, cp4] = [1, 2, 3].map(|host| servers[host].address().to_string());
    wait_names(&proxy, &["seed", &cp2, &cp3], 20 * SECOND);
    let shown = |issued: &Issued| {
        let certificates = servers.iter().map(ApiServer::last_client_certificate);
        certificates.flatten().any(|certificate| certificate == *issued.chain[0])
    };
    assert!(shown(&old), "discovery has shown its certificate");

    // The certificate is there before its key: the watch goes on with the old ones.
    let new = client_certificate(&authority);
    replace(&folder.path().join("client.crt"), &new.cert_pem);
    proxy.wait_log("the new credentials of discovery are of no use");
    say(&servers, &[0, 1, 2, 3], &Telling::Event);
    wait_names(&proxy, &["seed", &cp2, &cp3, &cp4], 10 * SECOND);
    assert!(!shown(&new));
    assert_eq!(source(&proxy, "kubernetes").unwrap().problem, None);

    // A watch lasts five minutes at least: nothing but the new key ends it.
    let start = Instant::now();
    replace(&folder.path().join("client.key"), &new.key_pem);
    wait_for("the new certificate is shown", 10 * SECOND, || shown(&new).then_some(()));
    report(&format!("a renewed certificate is shown after {:?}", start.elapsed()));
    proxy.wait_log("the credentials of discovery were replaced");
    assert_eq!(names(&proxy).len(), 4);
    // And what is told on the new watch is heard.
    say(&servers, &[0, 1, 2], &Telling::Event);
    wait_names(&proxy, &["seed", &cp2, &cp3], 60 * SECOND);
}
