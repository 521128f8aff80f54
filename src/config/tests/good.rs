//! Files and flags that are fine, and what they mean.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::config::{
    Admin, CheckType, Connect, Connections, HealthCheck, Listen, Log, LogFormat, LogLevel, ProbeTls,
};
use crate::model::Policy;

fn defaults(ca_file: Option<PathBuf>) -> (Vec<Listen>, HealthCheck, Connect, Connections, Admin) {
    let listen = |text: &str| Listen { address: text.parse().unwrap(), optional: true };
    let two = NonZeroU32::new(2).unwrap();
    (
        vec![listen("127.0.0.1:6443"), listen("[::1]:6443")],
        HealthCheck {
            kind: CheckType::Https,
            path: "/readyz".to_owned(),
            interval: Duration::from_secs(10),
            fast_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            rise: two,
            fall: two,
            tls: Some(ProbeTls {
                insecure_skip_verify: ca_file.is_none(),
                ca_file,
                server_name: "kubernetes".to_owned(),
                identity: None,
            }),
        },
        Connect { timeout: Duration::from_secs(1), hedge_after: Duration::from_millis(200) },
        Connections {
            max: 16_384.try_into().unwrap(),
            keepalive: Duration::from_secs(15),
            user_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_mins(1),
        },
        Admin {
            listen: "127.0.0.1:10242".parse().unwrap(),
            control_socket: Some(crate::config::DEFAULT_CONTROL_SOCKET.into()),
        },
    )
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = flags(&minimal_flags()).unwrap();
    let (listen, health_check, connect, connections, admin) = defaults(None);
    assert_eq!(config.clusters[0].listen, listen);
    assert_eq!(config.clusters[0].health_check, health_check);
    assert_eq!(config.clusters[0].connect, connect);
    assert_eq!(config.clusters[0].connections, connections);
    assert_eq!(config.admin, admin);
    assert_eq!(config.clusters[0].balance, Policy::LeastConnections);
    assert_eq!(config.log, Log { format: LogFormat::Text, level: LogLevel::Info });
    assert_eq!((config.threads.get(), config.clusters[0].zone.as_ref()), (1, None));
    let names: Vec<_> = config.clusters[0].backends.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["a:6443", "b:6443"]);
}

#[test]
fn the_sample_says_the_defaults() {
    let folder = certificates();
    let config = parse_in(folder.path(), SAMPLE, &Overrides::default()).unwrap();
    let (mut listen, health_check, connect, connections, admin) =
        defaults(Some(path(&folder, "ca.crt")));
    for listen in &mut listen {
        listen.optional = false;
    }
    assert_eq!(config.clusters[0].listen, listen);
    assert_eq!(config.clusters[0].health_check, health_check);
    assert_eq!(config.clusters[0].connect, connect);
    assert_eq!(config.clusters[0].connections, connections);
    assert_eq!(config.admin, admin);
    assert_eq!(config.clusters[0].zone.as_deref(), Some("a"));
    assert_eq!(config.clusters[0].backends[0].name.as_str(), "cp1");
    assert_eq!(config.clusters[0].backends[0].zone.as_deref(), Some("a"));
    assert_eq!(config.clusters[0].backends[1].name.as_str(), "cp2.example.com:6443");
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let folder = certificates();
    let config = parse_in(folder.path(), &format!("\u{feff}{SAMPLE}"), &Overrides::default());
    assert_eq!(config.unwrap().clusters[0].backends.len(), 2);
}

#[test]
fn anchors_may_be_used() {
    let text = format!(
        "{HEAD}zone: &z a\nbackends: [{{address: 'a:1', zone: *z}}]\nhealthCheck: {{type: tcp}}\n"
    );
    assert_eq!(parse(&text).unwrap().clusters[0].backends[0].zone.as_deref(), Some("a"));
}

#[test]
fn the_default_ca_is_used_when_it_exists() {
    let folder = certificates();
    let text = format!("{HEAD}backends: [address: 'a:1']\n");
    let ca = path(&folder, "ca.crt");
    let host = ThisHost { default_ca: &ca, ..host() };
    let config = super::super::read("x", &text, Path::new(""), &Overrides::default(), host);
    assert_eq!(config.unwrap().clusters[0].health_check.tls.clone().unwrap().ca_file, Some(ca));
}

#[test]
fn a_client_certificate_is_read() {
    let folder = certificates();
    let text = SAMPLE.replace("certFile: , keyFile: ", "certFile: client.crt, keyFile: client.key");
    let config = parse_in(folder.path(), &text, &Overrides::default()).unwrap();
    let identity = (path(&folder, "client.crt"), path(&folder, "client.key"));
    assert_eq!(config.clusters[0].health_check.tls.clone().unwrap().identity, Some(identity));
}

#[test]
fn tcp_checks_need_no_ca() {
    let text = format!("{HEAD}backends: [address: 'a:1']\nhealthCheck: {{type: tcp}}\n");
    assert_eq!(parse(&text).unwrap().clusters[0].health_check.tls, None);
}

#[test]
fn a_default_pace_gives_way_to_a_shorter_one() {
    let text = format!(
        "{HEAD}backends: [address: 'a:1']\nhealthCheck: {{type: tcp, interval: 300ms}}\n\
         connect: {{timeout: 100ms}}\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.clusters[0].health_check.fast_interval, Duration::from_millis(300));
    assert_eq!(config.clusters[0].connect.hedge_after, Duration::from_millis(100));
}

#[test]
fn flags_replace_the_file() {
    let folder = certificates();
    let overrides = Overrides {
        backends: vec!["x:1".to_owned()],
        ca_file: Some(path(&folder, "client.crt")),
        listen: vec!["0.0.0.0:7443".to_owned()],
        zone: Some("b".to_owned()),
        admin_listen: Some("127.0.0.1:0".to_owned()),
        control_socket: Some("/run/x.sock".to_owned()),
        insecure_skip_verify: true,
        log_level: Some(LogLevel::Trace),
        log_format: Some(LogFormat::Json),
        threads: Some(4),
    };
    let config = parse_in(folder.path(), SAMPLE, &overrides).unwrap();
    assert_eq!(config.clusters[0].backends.len(), 1);
    assert_eq!(config.clusters[0].backends[0].address.to_string(), "x:1");
    assert_eq!(
        config.clusters[0].listen,
        [Listen { address: "0.0.0.0:7443".parse().unwrap(), optional: false }]
    );
    assert_eq!(config.clusters[0].zone.as_deref(), Some("b"));
    assert_eq!(config.admin.listen.port(), 0);
    assert_eq!(config.admin.control_socket, Some("/run/x.sock".into()));
    assert_eq!(config.threads.get(), 4);
    assert_eq!(config.log, Log { format: LogFormat::Json, level: LogLevel::Trace });
    let tls = config.clusters[0].health_check.tls.clone().unwrap();
    assert_eq!(tls.ca_file, Some(path(&folder, "client.crt")));
    assert!(tls.insecure_skip_verify);
}

#[test]
fn backends_that_only_look_like_this_proxy_are_fine() {
    for (listen, backend) in [
        ("127.0.0.1:6443", "127.0.0.2:6443"),
        ("127.0.0.1:6443", "127.0.0.1:6444"),
        ("10.0.0.1:6443", "localhost:6443"),
        ("0.0.0.0:6443", "10.0.0.1:6443"),
        ("0.0.0.0:6443", "[::1]:6443"),
        // The apiserver of this very node.
        ("127.0.0.1:7443", "10.0.0.5:6443"),
        ("0.0.0.0:7443", "10.0.0.5:6443"),
        ("127.0.0.1:6443", "10.0.0.5:6443"),
        ("[::]:6443", "10.0.0.5:6443"),
    ] {
        let overrides = Overrides {
            listen: vec![listen.to_owned()],
            backends: vec![backend.to_owned()],
            ..minimal_flags()
        };
        flags(&overrides).expect(backend);
    }
}

#[test]
fn the_control_socket_is_a_path_or_none() {
    let folder = certificates();
    let sample = |value: &str| {
        let text = SAMPLE.replace("10242\" }", &format!("10242\", controlSocket: {value} }}"));
        parse_in(folder.path(), &text, &Overrides::default())
    };
    let socket = |value| sample(value).unwrap().admin.control_socket;
    let default = Some(crate::config::DEFAULT_CONTROL_SOCKET.into());
    assert_eq!((socket("\"\""), socket("")), (None, default));
    assert_eq!(socket("/run/x.sock"), Some("/run/x.sock".into()));
    assert_eq!(socket("x.sock"), Some(folder.path().join("x.sock")), "from the file's folder");
    let longest = "/".to_owned() + &"x".repeat(95);
    assert_eq!(socket(&longest), Some(longest.clone().into()));
    sample(&(longest + "x")).unwrap_err();
    sample("/run/").unwrap_err();
    sample("..").unwrap_err();
}

#[test]
fn clusters_take_what_stands_above_them_unless_they_say_otherwise() {
    let folder = certificates();
    let text = format!(
        "{HEAD}zone: a\nthreads: 2\nconnections: {{ max: 100, drainTimeout: 5s }}\n\
         healthCheck: {{ interval: 3s, rise: 4, tls: {{ caFile: ca.crt, serverName: api }} }}\n\
         clusters:\n\
         - name: east\n  listen: ['127.0.0.1:6443']\n  backends: [{{ name: cp1, address: '10.0.0.1:6443' }}]\n\
         - name: west\n  listen: ['127.0.0.1:6444']\n  backends: [address: '10.1.0.1:6443']\n  zone: b\n  \
         connections: {{ max: 7 }}\n  healthCheck: {{ rise: 1, tls: {{ caFile: client.crt }} }}\n\
         - name: plain\n  listen: ['127.0.0.1:6445']\n  backends: [address: '10.2.0.1:6443']\n  \
         healthCheck: {{ type: tcp }}\n"
    );
    let config = parse_in(folder.path(), &text, &Overrides::default()).unwrap();
    assert!(config.has_names());
    let [east, west, plain] = config.clusters.as_slice() else { panic!("{config:?}") };
    let name = |cluster: &crate::config::Cluster| cluster.name.as_ref().unwrap().to_string();
    assert_eq!([name(east), name(west), name(plain)], ["east", "west", "plain"]);
    let backend = &east.backends[0].name;
    assert_eq!(
        (backend.as_str(), backend.own(), backend.cluster()),
        ("east/cp1", "cp1", Some("east"))
    );
    assert_eq!(west.backends[0].name.as_str(), "west/10.1.0.1:6443");
    assert_eq!((east.zone.as_deref(), west.zone.as_deref()), (Some("a"), Some("b")));
    let max = |cluster: &crate::config::Cluster| cluster.connections.max.get();
    assert_eq!((max(east), max(west)), (100, 7));
    assert_eq!(west.connections.drain_timeout, Duration::from_secs(5));
    let (check, rise) = (&west.health_check, west.health_check.rise.get());
    assert_eq!((check.interval, rise), (Duration::from_secs(3), 1));
    let tls = check.tls.clone().unwrap();
    assert_eq!(
        (tls.ca_file, tls.server_name),
        (Some(path(&folder, "client.crt")), "api".to_owned())
    );
    assert_eq!(plain.health_check.tls, None, "what is above is of no use to it");
    // Flags that can be meant for each.
    let zone = Overrides { zone: Some("z".to_owned()), ..Overrides::default() };
    let config = parse_in(folder.path(), &text, &zone).unwrap();
    assert!(config.clusters.iter().all(|cluster| cluster.zone.as_deref() == Some("z")));
}
