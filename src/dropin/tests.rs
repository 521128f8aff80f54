//! The files of installers, odd ones, and what is refused.

use std::path::Path;

use super::*;
use crate::config::{self, Overrides};

type Reader = fn(&str, Option<&str>) -> Result<Found, Trouble>;

/// The servers, as `name=address`.
fn servers(found: &Found) -> Vec<String> {
    let server = |server: &Server| format!("{}={}", server.name, server.address);
    found.servers.iter().map(server).collect()
}

fn listen(found: &Found) -> Vec<String> {
    found.listen.iter().map(ToString::to_string).collect()
}

fn notes(found: &Found) -> Vec<String> {
    found.notes.iter().map(|note| format!("{}: {}", note.line, note.text)).collect()
}

/// The configuration that is printed is one that the proxy takes.
fn accepted(found: &Found) {
    let text = found.configuration("/etc/kubernetes/pki/ca.crt");
    let text = text.replace("caFile: \"/etc/kubernetes/pki/ca.crt\"", "insecureSkipVerify: true");
    let config = config::parse("c.yaml", &text, Path::new("/"), &Overrides::default());
    let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(config.clusters[0].backends.len(), found.servers.len());
    assert_eq!(config.clusters[0].balance, found.balance);
}

#[track_caller]
fn refused(read: Reader, text: &str, message: &str) {
    let error = read(text, None).unwrap_err().to_string();
    assert!(error.contains(message), "no `{message}` in `{error}`");
}

#[test]
fn the_haproxy_of_an_installer() {
    let found = haproxy(include_str!("../../fuzz/seeds/dropin/haproxy.cfg"), None).unwrap();
    assert_eq!(found.place, "frontend kube_api_frontend");
    assert_eq!(listen(&found), ["127.0.0.1:6443"]);
    assert_eq!(servers(&found), ["cp1=10.0.0.11:6443", "cp2=10.0.0.12:6443", "cp3=10.0.0.13:6443"]);
    assert_eq!(found.balance, Policy::LeastConnections);
    assert_eq!(notes(&found), [""; 0]);
    accepted(&found);
}

#[test]
fn the_nginx_of_an_installer() {
    let found = nginx(include_str!("../../fuzz/seeds/dropin/nginx.conf"), None).unwrap();
    assert_eq!(found.place, "upstream kube_apiserver");
    assert_eq!(listen(&found), ["127.0.0.1:6443"]);
    assert_eq!(
        servers(&found),
        ["10.0.0.11:6443=10.0.0.11:6443", "[fd00::12]:6443=[fd00::12]:6443"]
    );
    assert_eq!(found.balance, Policy::LeastConnections);
    accepted(&found);
}

#[test]
fn the_kubeconfig_of_kubelet() {
    let found = kubeconfig(include_str!("../../fuzz/seeds/dropin/kubelet.conf"), None).unwrap();
    assert_eq!(found.place, "cluster prod");
    assert_eq!(servers(&found), ["cp.example.com:6443=cp.example.com:6443"]);
    assert!(found.listen.is_empty());
    accepted(&found);
}

#[test]
fn odd_haproxy_files() {
    let text = "defaults\n\tmode\ttcp # everywhere\n\nlisten 'kube api'\n\
        \tbind ipv4@127.0.0.1:6443,[::1]:6443\n\tbind ::1:7443 v6only\n\
        \tbalance source\n\
        \tserver a\\ b 10.0.0.1 check\n\
        \tserver cp2 fd00::2:6443 check backup weight 5\n\
        \tserver cp2 [fd00::3] check # same name\n\
        \tserver off 10.0.0.9:6443 disabled\n\
        \tserver \"cp4\" cp4.example.com:7443\n\
        \tserver cp4b cp4.example.com:7443\n";
    let found = haproxy(text, None).unwrap();
    assert_eq!(listen(&found), ["127.0.0.1:6443", "[::1]:6443", "[::1]:7443"]);
    assert_eq!(
        servers(&found),
        [
            "10.0.0.1:6443=10.0.0.1:6443",
            "cp2=[fd00::2]:6443",
            "[fd00::3]:6443=[fd00::3]:6443",
            "cp4=cp4.example.com:7443"
        ]
    );
    assert_eq!(
        notes(&found),
        [
            "7: `balance source` becomes leastConnections",
            "9: server cp2 is a backup; apiproxy uses every ready server",
            "9: weights are not taken over",
            "11: server off is disabled, and left out",
            "13: cp4.example.com:7443 is named twice; once is enough"
        ]
    );
    accepted(&found);
    let found =
        haproxy("listen a\nbind *:6443\nbind ipv6@:6443\nserver x 10.0.0.1:1", None).unwrap();
    assert_eq!(listen(&found), ["0.0.0.0:6443", "[::]:6443"]);
    assert_eq!(found.balance, Policy::RoundRobin);
}

#[test]
fn haproxy_files_that_cannot_be_replaced() {
    let with = |line: &str| format!("listen a\nbind :6443\nserver x 10.0.0.1:6443\n{line}\n");
    let cases = [
        (String::new(), "no `frontend` or `listen` section passes TCP on"),
        ("defaults\nmode http\nfrontend a\nbind :1\n".to_owned(), "passes TCP on"),
        ("worker_processes 1;\n".to_owned(), "1: `worker_processes` stands in no section"),
        ("global\n\n  log 'x\n".to_owned(), "3: a quote ' is not closed"),
        ("frontend\n".to_owned(), "1: `frontend` has no name"),
        ("frontend a\nbind :1\n".to_owned(), "1: frontend a has no `default_backend`"),
        ("frontend a\nbind :1\ndefault_backend b\n".to_owned(), "3: there is no `backend b`"),
        (
            "frontend a\nbind :1\nuse_backend b if x\n".to_owned(),
            "3: `use_backend` chooses by rules",
        ),
        (
            "frontend a\nbind :1\ndefault_backend b\nbackend b\n".to_owned(),
            "4: `backend b` has no server",
        ),
        ("listen a\nserver x 10.0.0.1:1\n".to_owned(), "1: listen a has no `bind`"),
        (with("bind /run/x.sock"), "4: `/run/x.sock` is no IP address"),
        (with("bind :6443-6450"), "4: `:6443-6450` is no IP address"),
        (with("bind :443 ssl crt /x"), "4: `bind` with `ssl` ends TLS"),
        (with("bind :443 accept-proxy"), "4: apiproxy does not read the PROXY protocol"),
        (with("server y 10.0.0.2:6443 ssl verify none"), "4: `ssl` wraps clients' TLS"),
        (with("server y 10.0.0.2:6443 send-proxy-v2"), "4: apiproxy does not send the PROXY"),
        (with("server y"), "4: `server` needs a name and an address"),
        (with("server y 10.0.0.2:+1"), "4: the server's address: "),
        (with("server y \"${CP2}:6443\""), "4: environment variables are not known here"),
        (with("server y unix@/x"), "4: the server's address: "),
        (with("server-template cp 3 x:6443"), "4: `server-template` makes servers from DNS"),
        (
            with("listen b\nbind :2\nserver x 10.0.0.3:1"),
            "4: several could be meant: `a` (line 1), `b` (line 4)",
        ),
    ];
    for (text, message) in cases {
        refused(haproxy, &text, message);
    }
    let two = with("listen b\nbind :2\nserver x 10.0.0.3:1");
    assert_eq!(servers(&haproxy(&two, Some("b")).unwrap()), ["x=10.0.0.3:1"]);
    let error = haproxy(&two, Some("c")).unwrap_err().to_string();
    assert!(error.contains("there is no `c` that passes TCP on"), "{error}");
    let mut many = "listen a\nbind :1\n".to_owned();
    for n in 0..65 {
        let _infallible = writeln!(many, "server s{n} 10.0.1.{n}:1");
    }
    refused(haproxy, &many, "67: more than 64 servers");
}

#[test]
fn odd_nginx_files() {
    let text = "include /etc/nginx/modules-enabled/*.conf;\nevents {}\nstream {\n\
        log_format x '$remote_addr [$time_local] {\"a\": 1}';\n\
        upstream \"kube\" { # masters\n\
        server 10.0.0.1:6443 max_fails=3 fail_timeout=10s weight=2;server cp2.example.com:6443 backup;\n\
        server 10.0.0.3:6443\n down;\n random two least_conn; }\n\
        server { listen 6443; listen [::1]:6443 so_keepalive=on;\tproxy_pass kube; }\n\
        server { listen 53 udp; proxy_pass dns; }\n}\n";
    let found = nginx(text, None).unwrap();
    assert_eq!(listen(&found), ["0.0.0.0:6443", "[::1]:6443"]);
    assert_eq!(
        servers(&found),
        ["10.0.0.1:6443=10.0.0.1:6443", "cp2.example.com:6443=cp2.example.com:6443"]
    );
    assert_eq!(found.balance, Policy::PowerOfTwo);
    assert_eq!(
        notes(&found),
        [
            "6: weights are not taken over",
            "6: cp2.example.com:6443 is a backup; apiproxy uses every ready server",
            "7: 10.0.0.3:6443 is marked down, and left out"
        ]
    );
    accepted(&found);
    let text = "stream { server { listen 127.0.0.1:6443; proxy_pass 10.0.0.1:6443; } }";
    assert_eq!(servers(&nginx(text, None).unwrap()), ["10.0.0.1:6443=10.0.0.1:6443"]);
}

#[test]
fn nginx_files_that_cannot_be_replaced() {
    let with =
        |inner: &str| format!("stream {{\nupstream u {{ server 10.0.0.1:1; }}\n{inner}\n}}\n");
    let server = |line: &str| with(&format!("server {{ listen 1; proxy_pass u;\n{line} }}"));
    let cases = [
        (String::new(), "there is no `stream` block"),
        ("http { }\n".to_owned(), "there is no `stream` block"),
        (
            "include conf.d/*.conf;\n".to_owned(),
            "line 1 includes `conf.d/*.conf`, which is not read",
        ),
        ("stream {\ninclude s/*.conf;\n}\n".to_owned(), "line 2 includes `s/*.conf`"),
        ("stream {\n\nserver {\n".to_owned(), "3: `server {` is not closed"),
        ("stream {\n}\n}\n".to_owned(), "3: a `}` closes nothing"),
        ("stream {\nfoo bar\n}\n".to_owned(), "2: no `;` after `foo`"),
        ("stream {} foo".to_owned(), "1: no `;` after `foo`"),
        ("stream {\n;\n}".to_owned(), "2: a directive has no name"),
        ("\n\"abc\n".to_owned(), "2: a quote \" is not closed"),
        ("a {".repeat(17), "1: more than 16 nested blocks"),
        (with("server { proxy_pass u; }"), "3: the `server` has no `listen`"),
        (with("server { listen 1; proxy_pass v; }"), "3: there is no `upstream v`"),
        (with("server { listen unix:/x; proxy_pass u; }"), "3: `unix:/x` is no IP address"),
        (with("server { listen 1 ssl; proxy_pass u; }"), "3: `listen` with `ssl` ends TLS"),
        (with("server { listen 1 proxy_protocol; proxy_pass u; }"), "3: apiproxy does not read"),
        (with("server { listen 1; proxy_pass $name; }"), "3: `proxy_pass $name` is chosen"),
        (with("server { listen 1; proxy_pass ${name}; }"), "3: `proxy_pass ${name}` is chosen"),
        (server("proxy_ssl on;"), "4: `proxy_ssl on` wraps"),
        (server("proxy_protocol on;"), "4: `proxy_protocol on` is the PROXY protocol"),
        (
            "stream { upstream u {\nserver a; }\nserver { listen 1; proxy_pass u; } }".to_owned(),
            "2: the server's address: `a` has no port",
        ),
        (
            "stream {\nupstream u { }\nserver { listen 1; proxy_pass u; } }".to_owned(),
            "2: `upstream u` has no server in use",
        ),
        (
            with(
                "upstream v { server x:1; }\nserver { listen 1; proxy_pass u; }\nserver { listen 2; proxy_pass v; }",
            ),
            "5: several could be meant: `u` (line 4), `v` (line 5)",
        ),
    ];
    for (text, message) in cases {
        refused(nginx, &text, message);
    }
}

#[test]
fn odd_and_wrong_kubeconfigs() {
    let of = |server: &str| {
        format!("kind: Config\nclusters:\n- name: c\n  cluster:\n    server: {server}\n")
    };
    for (server, address) in [
        ("https://10.0.0.1:6443", "10.0.0.1:6443"),
        ("https://10.0.0.1/", "10.0.0.1:443"),
        ("\"https://[fd00::1]\"", "[fd00::1]:443"),
        ("https://[fd00::1]:6443", "[fd00::1]:6443"),
    ] {
        let found = kubeconfig(&of(server), None).unwrap();
        assert_eq!(servers(&found), [format!("{address}={address}")]);
        accepted(&found);
    }
    let json = r#"{"kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://a:1"}}]}"#;
    assert_eq!(servers(&kubeconfig(json, None).unwrap()), ["a:1=a:1"]);
    let two = "clusters: [{name: a, cluster: {server: 'https://a:1'}}, {name: b, cluster: {server: 'https://b:1'}}]\n\
        contexts: [{name: x, context: {cluster: a, user: u}}, {name: y, context: {cluster: b}}, {name: z, context: {cluster: c}}]\n";
    assert_eq!(servers(&kubeconfig(two, Some("y")).unwrap()), ["b:1=b:1"]);
    let cases = [
        (of("http://10.0.0.1:8080"), "5: `server: http://10.0.0.1:8080` is no https:// address"),
        (of("https://h/k8s/clusters/c-1"), "5: `server: https://h/k8s/clusters/c-1` has a path"),
        (of("https://u@h:1"), "5: `server: https://u@h:1` holds a user"),
        (of("https://127.0.0.1:6443"), "5: `https://127.0.0.1:6443` is this node"),
        (of("https://localhost:6443"), "this node"),
        (of("https://a b"), "5: the server's address"),
        (of("https://a\n    proxy-url: http://p"), "6: apiproxy does not go through a `proxy-url`"),
        ("kind: Pod\n".to_owned(), "its `kind` is not `Config`"),
        ("kind: Config\n".to_owned(), "there is no cluster in it"),
        (two.to_owned(), "there are several clusters and no `current-context`"),
        (format!("{two}current-context: q\n"), "3: there is no context `q`"),
        (format!("{two}current-context: z\n"), "2: there is no cluster `c`"),
        ("clusters:\n- name: [\n".to_owned(), "this is no kubeconfig"),
        ("- a\n".to_owned(), "1: this is no kubeconfig"),
        ("clusters:\n- name: c\n".to_owned(), "the cluster is empty"),
        ("clusters:\n- name: c\n  cluster: {}\n".to_owned(), "cluster `c` has no `server`"),
    ];
    for (text, message) in cases {
        refused(kubeconfig, &text, message);
    }
}
