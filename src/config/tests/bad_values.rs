//! Bad values: all of them in one go, each in one line.

use super::*;

/// Every key with a fault or two.
const ALL_WRONG: &str = r"HEADzone: a b
backends:
  - 10.0.0.1:6443
  -
  - {adress: cp2:6443}
  - name: cp4
  - address: 10.0.0.1
    name: 10
  - address: https://cp:6443
  - address: cp9:6443
  - address: CP9:6443
  - {address: 'x:1', name: cp9, zone: ''}
  - {address: 'y:1', name: cp9}
balance: leastconn
healthCheck:
  type: htps
  path: healthz
  interval: 10
  fastInterval: 1m
  timeout: 1 year
  rise: 0
  fall: -1
  tls: {caFile: none.crt, certFile: ca.crt, serverName: 'a b', insecureSkipVerify: yes}
connect: {timeout: 1s, hedgeAfter: 2s}
connections: {max: many, keepalive: 15sec, userTimeout: 1.5, drainTimeout: -1}
admin: {listen: localhost:10242, controlSocket: x/}
threads: 65
log: {format: yaml, level: debag, levle: info}
listen: [127.0.0.1, '[::1]:1', '[::1]:1', [::1]:6443, 5, '::1', ':6443', cp1]
discovery: {kubernetes: {}}
<<: 1
";

const FAULTS: &str = r#"proxy.yaml:3:7: `zone`: `a b` cannot be a name (use 1 to 253 visible ASCII characters, no blanks or quotes)
proxy.yaml:5:5: `backends[0]`: expected a mapping, found the text `10.0.0.1:6443` (write `address: 10.0.0.1:6443`)
proxy.yaml:6:4: `backends[1]`: this item is empty (fill it in, or remove it)
proxy.yaml:7:6: unknown key `adress` (did you mean `address`?)
proxy.yaml:8:5: `backends[3]`: it has no address (add `address: HOST:PORT`)
proxy.yaml:9:14: `backends[4].address`: `10.0.0.1` has no port; write HOST:PORT, for example 10.0.0.1:6443
proxy.yaml:10:11: `backends[4].name`: expected text, found the number `10` (put it in quotes: "10")
proxy.yaml:11:14: `backends[5].address`: `https://cp:6443` is a URL; write only its HOST:PORT
proxy.yaml:13:14: `backends[7].address`: cp9:6443 is also the address of backends[6] (remove one of them)
proxy.yaml:14:39: `backends[8].zone`: `` cannot be a name (use 1 to 253 visible ASCII characters, no blanks or quotes)
proxy.yaml:15:28: `backends[9].name`: `cp9` is also the name of backends[8] (give each backend a name of its own)
proxy.yaml:16:10: `balance`: unknown value `leastconn` (did you mean `leastConnections`?)
proxy.yaml:18:9: `healthCheck.type`: unknown value `htps` (did you mean `https`?)
proxy.yaml:19:9: `healthCheck.path`: `healthz` does not begin with `/` (write it as in a URL, such as /readyz or /readyz?verbose)
proxy.yaml:20:13: `healthCheck.interval`: the duration `10` has no unit (write `10s`, or another unit)
proxy.yaml:21:17: `healthCheck.fastInterval`: 1m is longer than `healthCheck.interval`, which is 10s
proxy.yaml:22:12: `healthCheck.timeout`: 1year is outside 50ms to 1m
proxy.yaml:23:9: `healthCheck.rise`: 0 is outside 1 to 100
proxy.yaml:24:9: `healthCheck.fall`: -1 is outside 1 to 100
proxy.yaml:25:17: `healthCheck.tls.caFile`: cannot read /etc/none.crt: No such file or directory (os error 2) (check the path)
proxy.yaml:25:37: `healthCheck.tls.certFile`: there is no `keyFile` for it (a client certificate needs both `certFile` and `keyFile`)
proxy.yaml:25:57: `healthCheck.tls.serverName`: `a b` is neither a DNS name nor an IP address (write a name of the apiservers' certificates, such as kubernetes)
proxy.yaml:25:84: `healthCheck.tls.insecureSkipVerify`: expected true or false, found the text `yes` (write `true`)
proxy.yaml:26:36: `connect.hedgeAfter`: 2s is longer than `connect.timeout`, which is 1s
proxy.yaml:27:20: `connections.max`: expected a whole number, found the text `many`
proxy.yaml:27:57: `connections.userTimeout`: the duration `1.5` has no unit (write `1.5s`, or another unit)
proxy.yaml:27:76: `connections.drainTimeout`: `-1` is not a duration (write it as 500ms, 10s or 1m30s)
proxy.yaml:28:17: `admin.listen`: `localhost:10242` is not an IP address and port (write 127.0.0.1:10242)
proxy.yaml:28:49: `admin.controlSocket`: `x/` cannot be a socket (write the path of a file, such as /run/apiproxy/control.sock)
proxy.yaml:29:10: `threads`: 65 is outside 1 to 64
proxy.yaml:30:15: `log.format`: unknown value `yaml` (use one of `text`, `json`)
proxy.yaml:30:28: `log.level`: unknown value `debag` (did you mean `debug`?)
proxy.yaml:30:35: unknown key `levle` (did you mean `level`?)
proxy.yaml:31:10: `listen[0]`: `127.0.0.1` is not an IP address and port (add a port: 127.0.0.1:6443)
proxy.yaml:31:32: `listen[2]`: [::1]:1 is listed twice (remove one of them)
proxy.yaml:31:43: `listen[3]`: expected text, found a mapping (put a text with brackets, braces or `: ` in quotes)
proxy.yaml:31:55: `listen[4]`: expected text, found the number `5` (put it in quotes: "5")
proxy.yaml:31:58: `listen[5]`: `::1` is not an IP address and port (add brackets and a port: "[::1]:6443")
proxy.yaml:31:65: `listen[6]`: `:6443` is not an IP address and port (write 0.0.0.0:6443)
proxy.yaml:31:74: `listen[7]`: `cp1` is not an IP address and port (write IP:PORT, such as 127.0.0.1:6443 or "[::1]:6443")
proxy.yaml:32:13: `discovery.kubernetes`: it has no `kubeconfig` (name the kubeconfig of a user that may watch EndpointSlices; `apiproxy manifest rbac` shows how to make one)
proxy.yaml:33:1: unknown key `<<` (merge keys are not supported; write the keys out)"#;

#[test]
fn finds_every_fault_at_once() {
    let folder = certificates();
    let text = ALL_WRONG.replace("HEAD", HEAD);
    let error = parse_in(folder.path(), &text, &Overrides::default()).unwrap_err();
    let lines = error.lines().join("\n").replace(&folder.path().display().to_string(), "/etc");
    assert_eq!(lines, FAULTS);
    assert_eq!(error.faults().unwrap().name(), "proxy.yaml");
}

#[test]
fn faults_of_flags_name_the_flag() {
    let overrides = Overrides {
        backends: ["a", "b:1", "b:1", "127.0.0.1:5"].map(str::to_owned).to_vec(),
        listen: vec!["x".to_owned(), "127.0.0.1:5".to_owned()],
        zone: Some("a b".to_owned()),
        threads: Some(0),
        admin_listen: Some("127.0.0.1:5".to_owned()),
        ca_file: Some(PathBuf::from("/nowhere/ca.crt")),
        ..Overrides::default()
    };
    assert_eq!(
        flags(&overrides).unwrap_err().to_string(),
        "--admin-listen: 127.0.0.1:5 is to serve both clients and `admin`
  hint: give `admin.listen` another port
--backend: 127.0.0.1:5 is this proxy itself, which listens on 127.0.0.1:5
  hint: name the apiserver's own address, or change `listen`
--backend: `a` has no port; write HOST:PORT, for example a:6443
--backend: b:1 is also the address of backends[1]
  hint: remove one of them
--ca-file: cannot read /nowhere/ca.crt: No such file or directory (os error 2)
  hint: check the path
--listen: `x` is not an IP address and port
  hint: write IP:PORT, such as 127.0.0.1:6443 or \"[::1]:6443\"
--threads: 0 is outside 1 to 64
--zone: `a b` cannot be a name
  hint: use 1 to 253 visible ASCII characters, no blanks or quotes"
    );
}

#[test]
fn no_flags_at_all_are_a_fault_too() {
    let lines = flags(&Overrides::default()).unwrap_err().lines();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("--backend: there are no backends ("), "{lines:?}");
    assert!(lines[1].starts_with("--ca-file: no CA "), "{lines:?}");
}

#[test]
fn files_of_the_probe_are_looked_into() {
    let folder = certificates();
    fs::write(path(&folder, "huge"), vec![b'x'; (1 << 20) + 1]).unwrap();
    fs::write(
        path(&folder, "broken"),
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(
        path(&folder, "junk"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (tls, expected) in [
        ("caFile: huge", "larger than 1 MiB"),
        ("caFile: .", "is a directory"),
        ("caFile: /dev/null", "not a regular file"),
        ("caFile: broken", "is damaged"),
        ("caFile: junk", "no certificate in"),
        ("caFile: client.key", "holds no PEM certificate"),
        ("caFile: ca.crt, certFile: client.crt, keyFile: ca.crt", "holds no PEM private key"),
        ("caFile: ca.crt, certFile: client.crt, keyFile: other.key", "not the key of"),
        ("caFile: ca.crt, keyFile: client.key", "there is no `certFile`"),
        ("caFile: ''", "is a directory"),
    ] {
        let text = format!("{HEAD}backends: [address: 'a:1']\nhealthCheck: {{tls: {{{tls}}}}}\n");
        let error = parse_in(folder.path(), &text, &Overrides::default()).expect_err(tls);
        assert_eq!(error.lines().len(), 1, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn loops_are_found() {
    for (listen, backend) in [
        ("0.0.0.0:6443", "127.0.0.9:6443"),
        ("[::]:6443", "127.0.0.1:6443"),
        ("[::]:6443", "localhost:6443"),
        ("[::1]:6443", "LOCALHOST.:6443"),
        ("10.0.0.1:6443", "[::ffff:10.0.0.1]:6443"),
        ("0.0.0.0:6443", "10.0.0.5:6443"),
        ("[::]:6443", "[2001:db8::5]:6443"),
    ] {
        let overrides = Overrides {
            listen: vec![listen.to_owned()],
            backends: vec![backend.to_owned()],
            ..minimal_flags()
        };
        let error = flags(&overrides).expect_err(backend).to_string();
        assert!(error.contains("is this proxy itself"), "{error}");
    }
}

#[test]
fn a_loop_through_an_address_of_this_host_is_told_with_what_to_do() {
    let overrides = Overrides {
        listen: vec!["0.0.0.0:6443".to_owned()],
        backends: ["10.0.0.4:6443", "10.0.0.5:6443"].map(str::to_owned).to_vec(),
        admin_listen: Some("0.0.0.0:5".to_owned()),
        ..minimal_flags()
    };
    assert_eq!(
        flags(&overrides).unwrap_err().to_string(),
        "--backend: 10.0.0.5:6443 is this proxy itself, which listens on 0.0.0.0:6443
  hint: it is an address of this host: name another apiserver's, or listen on 127.0.0.1 alone"
    );
}

#[test]
fn more_backends_than_fit_are_refused() {
    let list: Vec<_> = (0..65).map(|n| format!("  - address: 10.0.1.{n}:6443\n")).collect();
    let error = parse(&format!("{HEAD}backends:\n{}", list.concat())).unwrap_err();
    assert!(error.to_string().contains("65 backends are more than 64"), "{error}");
}
