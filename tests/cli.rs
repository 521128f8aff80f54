//! The command line: what is refused and how, what is printed, and who reads it.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use apiproxy::admin::Status;
use common::{ANY_PORT, Cluster, Echo, Proxy, apiproxy, backend_lines, command, outcome, wait_for};
use serde_json::Value;

const CA: &str = "--insecure-skip-verify";

#[test]
fn wrong_flags_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["rnu"], "unrecognized subcommand 'rnu'"),
        (&["run", "--frobnicate"], "unexpected argument '--frobnicate'"),
        (&["run", "10.0.0.1:6443"], "unexpected argument '10.0.0.1:6443'"),
        (&["run", "--config"], "a value is required for '--config <FILE>'"),
        (&["run"], "nothing to proxy: give --backend HOST:PORT"),
        (&["check"], "try `apiproxy demo`"),
        (&["run", CA, "-b", ""], "--backend: an address is missing"),
        (&["run", CA, "-b", "10.0.0.1"], "write HOST:PORT, for example 10.0.0.1:6443"),
        (&["run", CA, "-b", "10.0.0.1:99999"], "--backend: `99999` is not a port"),
        (&["run", CA, "-b", "10.0.0.1:0"], "--backend: `0` is not a port"),
        (&["run", CA, "-b", "a b:1"], "--backend: "),
        (&["run", CA, "-b", "a:1", "-b", "a:1"], "--backend: a:1 is also the address of"),
        (&["run", CA, "-b", "a:1", "-l", "localhost:1"], "--listen: `localhost:1` is not an IP"),
        (&["run", CA, "-b", "a:1", "--admin-listen", "x"], "--admin-listen: `x` is not an IP"),
        (&["run", CA, "-b", "a:1", "--zone", "a b"], "--zone: `a b` cannot be a name"),
        (&["run", CA, "-b", "a:1", "--threads", "0"], "--threads: 0 is outside 1 to 64"),
        (&["run", CA, "-b", "a:1", "--threads", "65"], "--threads: 65 is outside 1 to 64"),
        (&["run", "--threads", "many"], "invalid value 'many' for '--threads <N>'"),
        (&["run", "--log-level", "loud"], "it is one of error, warn, info, debug and trace"),
        (&["run", "--log-format", "xml"], "it is text or json"),
        (&["run", "--insecure-skip-verify=no"], "unexpected value 'no'"),
        (&["run", "-b", "a:1", "--ca-file", "/nowhere/ca.crt"], "cannot read /nowhere/ca.crt"),
        (&["check", "-o", "yaml"], "possible values: table, json"),
        (&["status", "--admin", "nonsense"], "invalid value 'nonsense' for '--admin <IP:PORT>'"),
        (&["status", "-o", "yaml"], "possible values: table, json"),
        (&["demo", "--duration", "never"], "invalid value 'never' for '--duration <DURATION>'"),
        (&["demo", "--duration", "90"], "write it as 30s, 2m or 1m30s"),
        (&["demo", "--listen", "here"], "invalid value 'here' for '--listen <IP:PORT>'"),
        (&["manifest", "static-pod", "-b", "x"], "`x` has no port"),
        (&["manifest", "static-pod", "-c", "rel"], "give the absolute path of a file on the node"),
        (
            &["manifest", "static-pod", "--ca-file", "rel"],
            "give the absolute path of a file on the node",
        ),
        (&["manifest", "static-pod", "-c", "/a", "-b", "a:1"], "cannot be used with"),
        (&["manifest", "systemd-pod"], "unrecognized subcommand 'systemd-pod'"),
        (&["completions", "tcsh"], "possible values: bash,"),
        (&["completions"], "<SHELL>"),
    ];
    for (arguments, text) in cases {
        outcome(&mut command(arguments)).refused(2, text);
    }
}

#[test]
fn all_wrong_flags_are_told_at_once() {
    let flags = ["-b", "x", "--ca-file", "/no", "-l", "y", "--admin-listen", "z", "--threads", "0"];
    let outcome = apiproxy(&[&["run"], flags.as_slice()].concat());
    for flag in ["--backend: ", "--ca-file: ", "--listen: ", "--admin-listen: ", "--threads: "] {
        outcome.refused(2, flag);
    }
}

#[test]
fn help_names_the_flags_of_each_command() {
    let proxy: &[&str] = &[
        "--config",
        "--backend",
        "--ca-file",
        "--insecure-skip-verify",
        "--listen",
        "--admin-listen",
        "--zone",
        "--threads",
        "--log-level",
        "--log-format",
    ];
    let cases: &[(&[&str], &[&str])] = &[
        (&["run"], &[proxy, &["--no-hardening"]].concat()),
        (&["check"], &[proxy, &["--output"]].concat()),
        (&["status"], &["--admin", "--output", "--events", "--watch", "--control-socket"]),
        (&["demo"], &["--duration", "--listen", "--calm"]),
        (
            &["manifest", "static-pod"],
            &[
                "--image",
                "--config",
                "--backend",
                "--ca-file",
                "--name",
                "--namespace",
                "--from-haproxy",
                "--from-nginx",
                "--from-kubeconfig",
            ],
        ),
        (&["manifest"], &["static-pod", "systemd"]),
        (&["image"], &["--output", "--tag"]),
        (&["completions"], &["<SHELL>"]),
        (
            &[],
            &["run", "demo", "check", "status", "manifest", "image", "completions", "Exit codes"],
        ),
    ];
    for (arguments, words) in cases {
        for help in ["--help", "-h"] {
            let outcome = apiproxy(&[arguments, [help].as_slice()].concat());
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
            for word in *words {
                assert!(outcome.stdout.contains(word), "no {word} in {outcome:?}");
            }
        }
    }
    let version = apiproxy(&["--version"]);
    assert_eq!(version.stdout, format!("apiproxy {}\n", env!("CARGO_PKG_VERSION")));
}

/// Answers every request with these bytes, and goes on with blanks when they end in `endless`.
fn impostor(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
            while answer.ends_with(b"endless") && stream.write_all(&[b' '; 8192]).is_ok() {}
        }
    });
    address
}

#[test]
fn status_without_a_proxy_says_what_to_do() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], common::free_port())).to_string();
    let outcome = apiproxy(&["status", "--admin", &nobody]);
    outcome.refused(1, &format!("cannot reach apiproxy at {nobody}"));
    outcome.refused(1, "is it running?");
    let ok: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let endless: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nendless";
    let missing: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let cases = [
        (impostor(ok), "is not apiproxy (missing field"),
        (impostor(endless), "longer than 4194304 bytes"),
        (impostor(missing), "is not apiproxy (404"),
        (impostor(b"SSH-2.0-OpenSSH_9.9\r\n"), "does not speak HTTP"),
        (impostor(b""), "does not speak HTTP"),
        (Echo::start(b'!').address, ""),
    ];
    for (address, text) in cases {
        apiproxy(&["status", "--admin", &address.to_string()]).refused(1, text);
    }
    // The kernel takes the connection, but nobody ever answers.
    let silent = TcpListener::bind(ANY_PORT).unwrap();
    let silent = (silent.local_addr().unwrap().to_string(), silent);
    apiproxy(&["status", "--admin", &silent.0]).refused(1, "does not answer within 3s");
}

#[test]
fn status_asks_the_control_socket_that_is_named() {
    let cluster = Cluster::new(2);
    let proxy = cluster.proxy("", "");
    let socket = &proxy.control.to_str().unwrap().to_owned();
    let status = apiproxy(&["status", "--control-socket", socket]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.stdout.contains("2 of 2 backends ready"), "{status:?}");
    let json = apiproxy(&["status", "-o", "json", "--control-socket", socket]);
    let over_socket: Status = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(over_socket.instance, proxy.status().instance);
    assert_eq!(over_socket.instance.len(), 16);
    // A flag counts for more than the environment, and --admin for more than --control-socket.
    let asked = |more: &[&str]| {
        let mut command = command(&["status", "--control-socket", socket]);
        outcome(command.args(more).env("APIPROXY_ADMIN", "127.0.0.1:1"))
    };
    assert_eq!(asked(&[]).code, Some(0), "{:?}", asked(&[]));
    asked(&["--admin", "127.0.0.1:2"]).refused(1, "cannot reach apiproxy at 127.0.0.1:2");
    let mut by_environment = command(&["status"]);
    by_environment.env("APIPROXY_CONTROL_SOCKET", socket).env("APIPROXY_ADMIN", "127.0.0.1:1");
    outcome(&mut by_environment).refused(1, "cannot reach apiproxy at 127.0.0.1:1");
    drop(proxy);
    for more in [&[][..], &["--events"], &["-o", "json"]] {
        let arguments = [&["status", "--control-socket", socket], more].concat();
        apiproxy(&arguments).refused(1, &format!("cannot reach apiproxy at {socket}"));
    }
}

#[test]
fn status_and_check_show_backends() {
    let cluster = Cluster::new(2);
    let dead = common::free_port();
    let lines =
        cluster.lines("") + &format!("  - {{ name: gone, address: \"127.0.0.1:{dead}\" }}\n");
    let proxy = Proxy::start(cluster.folder.path(), &lines);
    proxy.wait_ready(2);
    proxy.wait_state("gone", "dead", std::time::Duration::from_secs(10));
    let status = apiproxy(&["status", "--admin", &proxy.admin.to_string()]);
    assert_eq!(status.code, Some(0), "{status:?}");
    for word in ["2 of 3 backends ready", "cp1", "cp2", "gone", "refused", "dead", "REASON"] {
        assert!(status.stdout.contains(word), "no {word} in {status:?}");
    }
    let status = apiproxy(&["status", "-o", "json", "--admin", &proxy.admin.to_string()]);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        (&status["usable"], &status["backends"][2]["state"]),
        (&true.into(), &"dead".into())
    );

    let file = cluster.folder.path().join(format!("apiproxy-{}.yaml", proxy.listen.port()));
    let check = apiproxy(&["check", "-o", "json", "--config", file.to_str().unwrap()]);
    assert_eq!(check.code, Some(0), "{check:?}");
    let findings: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(findings["usable"], true);
    let gone = &findings["backends"][2];
    assert_eq!((&gone["name"], &gone["code"]), (&"gone".into(), &"refused".into()));
    for backend in findings["backends"].as_array().unwrap() {
        let keys: Vec<_> = backend.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = "address certificateDaysLeft certificateExpires code message milliseconds \
                        name source state";
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted.join(" "), expected, "{keys:?}");
    }
    cluster.servers.iter().for_each(apiproxy::demo::ApiServer::crash);
    let check = apiproxy(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.stdout.contains("0 of 3 backends are ready: nothing could be served"));
}

#[test]
fn check_probes_what_discovery_has_found_before_and_says_what_it_does_not_ask() {
    let cluster = Cluster::new(3);
    let folder = cluster.folder.path();
    let addresses: Vec<_> = cluster.servers.iter().map(|s| s.address().to_string()).collect();
    std::fs::write(folder.join("servers"), addresses[..2].join("\n") + "\n").unwrap();
    let check = format!(
        "backends: [{{ name: seed, address: \"{}\" }}]\n\
         healthCheck: {{ tls: {{ caFile: ca.crt }} }}\n",
        addresses[0]
    );
    // A run that has found two writes the cache, with the third one.
    std::fs::write(folder.join("all"), addresses.join("\n") + "\n").unwrap();
    let finder = Proxy::start(
        folder,
        &format!("{check}discovery: {{ file: all, cacheFile: cache.json }}\n"),
    );
    finder.wait_ready(3);
    wait_for("the cache is written", Duration::from_secs(10), || {
        folder.join("cache.json").exists().then_some(())
    });
    drop(finder);

    let file = folder.join("check.yaml");
    let text = format!(
        "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n{check}discovery: {{ \
         kubernetes: {{ kubeconfig: none.conf }}, file: servers, cacheFile: cache.json }}\n"
    );
    std::fs::write(&file, &text).unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["check", "--config", file.to_str().unwrap()], more].concat();
        apiproxy(&arguments)
    };
    let table = run(&[]);
    assert_eq!(table.code, Some(0), "{table:?}");
    for text in [
        "SOURCE",
        "3 of 3 backends are ready",
        "discovery by kubernetes: not asked; a running proxy does",
        "discovery by file: 1 more server, probed above",
        "discovery by cache: 1 more server, probed above",
    ] {
        assert!(table.stdout.contains(text), "no {text} in {table:?}");
    }
    let sources = |outcome: &common::Outcome| -> Vec<String> {
        let findings: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let backends = findings["backends"].as_array().unwrap();
        backends.iter().map(|b| b["source"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(sources(&run(&["-o", "json"])), ["static", "file", "cache"]);
    // With dead seeds it is the cache that serves: usable all the same.
    cluster.servers[..2].iter().for_each(apiproxy::demo::ApiServer::crash);
    std::fs::remove_file(folder.join("servers")).unwrap();
    let check = run(&[]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(check.stdout.contains("discovery by file: No such file"), "{check:?}");
    assert!(check.stdout.contains("1 of 3 backends are ready"), "{check:?}");
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(
        folder.path(),
        &("healthCheck: { type: tcp }\n".to_owned() + &backend_lines(&[ANY_PORT_1])),
    );
    let free = SocketAddr::from(([127, 0, 0, 1], common::free_port())).to_string();
    let (listen, admin) = (proxy.listen.to_string(), proxy.admin.to_string());
    for (listen, admin, taken) in [(&listen, &free, &listen), (&free, &admin, &admin)] {
        let backend = ["run", CA, "-b", "127.0.0.1:1"];
        let flags = ["--listen", listen, "--admin-listen", admin];
        let outcome = apiproxy(&[backend.as_slice(), flags.as_slice()].concat());
        outcome.refused(1, &format!("cannot listen on {taken}: Address already in use"));
        outcome.refused(1, "ss -ltnp");
    }
}

/// Nobody is there.
const ANY_PORT_1: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = apiproxy(&["completions", shell]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        for word in ["status", "static-pod", "insecure-skip-verify"] {
            assert!(outcome.stdout.contains(word), "no {word} for {shell}");
        }
    }
    if !common::has_program("bash") {
        skip!("bash is not there to check its completions");
    }
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), apiproxy(&["completions", "bash"]).stdout).unwrap();
    common::run(Command::new("bash").arg("-n").arg(script.path()));
}

fn pod(arguments: &[&str]) -> Value {
    let outcome = apiproxy(&[["manifest", "static-pod"].as_slice(), arguments].concat());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    let pod: Value = serde_saphyr::from_str(&outcome.stdout).unwrap();
    assert_eq!((&pod["apiVersion"], &pod["kind"]), (&"v1".into(), &"Pod".into()));
    assert_eq!(pod["spec"]["hostNetwork"], true);
    assert_eq!(pod["spec"]["priorityClassName"], "system-node-critical");
    assert_eq!(pod["spec"]["tolerations"][0]["operator"], "Exists");
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], 10242);
    // Every volume is mounted and every mount has its volume.
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|v| v["name"].to_string()).collect()
    };
    assert_eq!(names(&container["volumeMounts"]), names(&pod["spec"]["volumes"]));
    pod
}

#[test]
fn the_manifest_of_a_static_pod_is_one() {
    let flags = ["--backend", "10.0.0.11:6443", "--backend", "cp2.example.org:6443"];
    let inline = pod(&[flags.as_slice(), &["--ca-file", "/pki/ca.crt"]].concat());
    let expected: Value = [
        "run",
        "--backend",
        "10.0.0.11:6443",
        "--backend",
        "cp2.example.org:6443",
        "--ca-file",
        "/pki/ca.crt",
    ]
    .into_iter()
    .collect();
    assert_eq!(inline["spec"]["containers"][0]["args"], expected);
    assert_eq!(
        inline["spec"]["volumes"][0]["hostPath"]["path"], "/pki",
        "the folder, not the file"
    );
    assert_eq!(inline["spec"]["volumes"][1], Value::Null);

    let file = ["--config", "/etc/proxy/c.yaml", "--image", "r.local/apiproxy:9", "--name", "p"];
    let file = pod(&[file.as_slice(), &["--namespace", "infra"]].concat());
    let expected: Value = ["run", "--config", "/etc/proxy/c.yaml"].into_iter().collect();
    let container = &file["spec"]["containers"][0];
    assert_eq!(
        (&container["args"], &container["image"]),
        (&expected, &"r.local/apiproxy:9".into())
    );
    assert_eq!(file["spec"]["volumes"][1]["hostPath"]["path"], "/etc/proxy");
    assert_eq!(file["metadata"]["name"], "p");
    assert_eq!(file["metadata"]["namespace"], "infra");

    let third = pod(&["--generation", "3", "--backend", "10.0.0.11:6443"]);
    assert_eq!(third["metadata"]["name"], "apiproxy-g3");
    let container = &third["spec"]["containers"][0];
    let arguments: Vec<_> = container["args"].as_array().unwrap().iter().take(4).collect();
    assert_eq!(arguments, ["run", "--take-over", "--generation", "3"]);
    assert_eq!(container["volumeMounts"][1]["mountPath"], "/run/apiproxy");
    assert_eq!(container["volumeMounts"][1]["readOnly"], Value::Null);
    assert_eq!(third["spec"]["volumes"][1]["hostPath"]["path"], "/run/apiproxy");

    let hostile = "x\"\n  evil: {{ 1 }} #";
    let image = &pod(&["--image", hostile])["spec"]["containers"][0]["image"];
    assert_eq!(image, hostile);
    for refused in [
        ["--name", hostile],
        ["--namespace", "../x y"],
        ["--config", "/c.yaml"],
        ["--config", "/etc/../c.yaml"],
        ["--ca-file", "ca.crt"],
    ] {
        let outcome = apiproxy(&[&["manifest", "static-pod"][..], &refused].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{outcome:?}");
        assert!(outcome.stderr.contains(refused[0]), "{outcome:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_a_full_disk_is_one() {
    for arguments in ["completions bash", "manifest static-pod", "--help", "run --help"] {
        let script = format!("set -o pipefail; \"$0\" {arguments} | true");
        let mut shell = Command::new("bash");
        let outcome = outcome(shell.args(["-c", &script]).arg(common::program()));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = command(&["completions", "zsh"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot write to standard output: No space left"), "{text}");
}

#[test]
fn the_manifest_of_the_rights_grants_no_more_than_to_watch() {
    let outcome = apiproxy(&["manifest", "rbac", "--namespace", "infra"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&outcome.stdout).unwrap();
    let kinds: Vec<_> = documents.iter().map(|d| d["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ServiceAccount", "Role", "RoleBinding"]);
    assert_eq!(documents[0]["metadata"]["namespace"], "infra");
    assert_eq!(documents[1]["metadata"]["namespace"], "default");
    let rules = documents[1]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["resources"], serde_json::json!(["endpointslices"]));
    assert_eq!(rules[0]["verbs"], serde_json::json!(["get", "list", "watch"]));
    assert_eq!(documents[2]["subjects"][0]["namespace"], "infra");
    assert_eq!(documents[2]["roleRef"]["name"], documents[1]["metadata"]["name"]);
    assert_eq!(apiproxy(&["manifest", "rbac", "--namespace", "a b"]).code, Some(2));
}
