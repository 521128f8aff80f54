//! What can be wrong with `clusters`, each at its place.

use super::*;

fn faults_of(lines: &str, overrides: &Overrides) -> Vec<String> {
    let text = format!("{HEAD}healthCheck: {{ type: tcp }}\n{lines}");
    match parse_in(Path::new("/nowhere"), &text, overrides) {
        Err(ConfigError::Faults(faults)) => faults.lines(),
        other => panic!("{other:?}"),
    }
}

fn faults(lines: &str) -> Vec<String> {
    faults_of(lines, &Overrides::default())
}

#[test]
fn all_faults_of_all_clusters_are_told_with_their_places() {
    let found = faults(
        "clusters:\n\
         - name: East\n  listen: ['127.0.0.1:6443']\n  backends: [{ address: '10.0.0.1:6443' }]\n\
         - name: west\n  backends: [{ address: '10.0.0.2:6443', nme: a }]\n  connect: { timeout: 5 }\n\
         - listen: ['127.0.0.1:6445']\n  backends: []\n\
         - name: west\n  listen: ['127.0.0.1:6446', 'x']\n  backends: [{ address: '10.0.0.3:6443' }]\n",
    );
    let expected = [
        "proxy.yaml:5:9: `clusters[0].name`: `East` cannot be the name of a cluster (use 1 to 63 lower-case letters, digits and hyphens, no hyphen at an end)",
        "proxy.yaml:8:3: `clusters[1].listen`: it has no address to listen on (add `listen: [\"127.0.0.1:PORT\"]`, with a port of its own)",
        "proxy.yaml:9:42: unknown key `nme` (did you mean `name`?)",
        "proxy.yaml:10:23: `clusters[1].connect.timeout`: the duration `5` has no unit (write `5s`, or another unit)",
        "proxy.yaml:11:3: `clusters[2].name`: it has no name (add `name: NAME`)",
        "proxy.yaml:12:3: `clusters[2].backends`: there are no backends (name each apiserver: `--backend HOST:PORT`, or `- address: HOST:PORT` under `backends:`)",
        "proxy.yaml:13:9: `clusters[3].name`: `west` is also the name of clusters[1] (give each cluster a name of its own)",
        "proxy.yaml:14:30: `clusters[3].listen[1]`: `x` is not an IP address and port (write IP:PORT, such as 127.0.0.1:6443 or \"[::1]:6443\")",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_one_clusters_own_cannot_stand_above_several() {
    let clusters = "clusters: [{ name: a, listen: ['127.0.0.1:1'], backends: [address: 'x:1'] }]\n";
    let found = faults(&format!(
        "listen: ['127.0.0.1:9']\nbackends: [address: 'y:1']\ndiscovery: {{ file: f }}\n{clusters}"
    ));
    let places: Vec<_> = found.iter().map(|line| line.split_once(" (").unwrap().0).collect();
    assert_eq!(
        places,
        ["4:1: `listen`", "5:1: `backends`", "6:1: `discovery`"].map(|at| format!(
            "proxy.yaml:{at}: it cannot stand beside `clusters`, which have their own"
        ))
    );
    let flags = Overrides { backends: vec!["z:1".to_owned()], ..Overrides::default() };
    let found = faults_of(clusters, &flags);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("--backend: it cannot go with `clusters`"), "{found:?}");
    let found = faults("clusters: []\n");
    assert!(found[0].contains("4:1: `clusters`: there are no clusters"), "{found:?}");
}

#[test]
fn clusters_do_not_get_in_each_others_way() {
    let found = faults(
        "clusters:\n\
         - { name: a, listen: ['127.0.0.1:6443'], backends: [address: '10.0.0.1:6443'], discovery: { cacheFile: c } }\n\
         - { name: b, listen: ['0.0.0.0:6443'], backends: [address: '10.0.0.1:6443'], discovery: { cacheFile: c } }\n\
         - { name: c, listen: ['127.0.0.1:10242'], backends: [address: '127.0.0.1:6443'] }\n",
    );
    let expected = [
        "6:23: `clusters[1].listen[0]`: clients of clusters[0] connect at 0.0.0.0:6443 too",
        "6:60: `clusters[1].backends[0].address`: 10.0.0.1:6443 is a backend of clusters[0] too",
        "6:102: `clusters[1].discovery.cacheFile`: clusters[0] keeps its servers in this file too",
        "7:23: `clusters[2].listen[0]`: 127.0.0.1:10242 is to serve both clients and `admin`",
        "7:63: `clusters[2].backends[0].address`: 127.0.0.1:6443 is this proxy itself, which listens on 127.0.0.1:6443",
    ];
    let told: Vec<_> = found.iter().map(|line| line.split_once(" (").unwrap().0).collect();
    assert_eq!(told, expected.map(|line| format!("proxy.yaml:{line}")));
}

/// A fault above the clusters is told once, at its own place.
#[test]
fn what_is_wrong_above_is_told_once() {
    let found = faults(
        "connections: { max: 0 }\nclusters:\n\
         - { name: a, listen: ['127.0.0.1:1'], backends: [address: 'x:1'] }\n\
         - { name: b, listen: ['127.0.0.1:2'], backends: [address: 'y:1'] }\n",
    );
    assert_eq!(found, ["proxy.yaml:4:21: `connections.max`: 0 is outside 1 to 1000000"]);
}
