//! Faulty files and flags, and exactly what their users read.

use super::*;

/// What is wrong, the file, and what is shown.
const CASES: &[(&str, &str, &str)] = &[
    (
        "a file that is no mapping",
        r"hello
",
        r"proxy.yaml:1:1: expected a mapping, found the text `hello`
  1 | hello
    | ^
  hint: write `apiVersion: apiproxy.io/v1alpha1`",
    ),
    (
        "another kind",
        r"apiVersion: apiproxy.io/v1
kind: Cluster
foo: 1
",
        r"proxy.yaml:1:13: `apiVersion` is the text `apiproxy.io/v1`, expected `apiproxy.io/v1alpha1`
  1 | apiVersion: apiproxy.io/v1
    |             ^
  hint: write `apiVersion: apiproxy.io/v1alpha1`
proxy.yaml:2:7: `kind` is the text `Cluster`, expected `ProxyConfiguration`
  2 | kind: Cluster
    |       ^
  hint: write `kind: ProxyConfiguration`",
    ),
    (
        "no kind",
        r"backends: []
kind:
",
        r"proxy.yaml:1:1: `apiVersion` is missing
  1 | backends: []
    | ^
  hint: write `apiVersion: apiproxy.io/v1alpha1`
proxy.yaml:2:1: `kind` is missing
  2 | kind:
    | ^
  hint: write `kind: ProxyConfiguration`",
    ),
    (
        "a second document",
        r"HEAD---
kind: ProxyConfiguration
",
        r"proxy.yaml:4:1: a second document begins here
  4 | kind: ProxyConfiguration
    | ^
  hint: one file holds one document; remove the `---` and what follows",
    ),
    (
        "a tab",
        r"HEADlog:
	level: info
",
        r"proxy.yaml:4:2: not YAML: tabs disallowed within this context (block indentation)
  4 |  level: info
    |  ^
  hint: indent with spaces; YAML allows no tabs there",
    ),
    (
        "an open quote",
        r"HEADzone: 'x
",
        r"proxy.yaml:3:7: not YAML: unclosed quote
  3 | zone: 'x
    |       ^",
    ),
    (
        "a colon",
        r"HEADzone: a: b
",
        r"proxy.yaml:3:8: not YAML: mapping values are not allowed in this context
  3 | zone: a: b
    |        ^
  hint: check the indentation, or put the text with `: ` in quotes",
    ),
    (
        "nothing but the head",
        "HEAD",
        r"proxy.yaml:1:1: `backends`: there are no backends
  1 | apiVersion: apiproxy.io/v1alpha1
    | ^
  hint: name each apiserver: `--backend HOST:PORT`, or `- address: HOST:PORT` under `backends:`
proxy.yaml:1:1: `healthCheck.tls.caFile`: no CA to check the apiservers' certificates with, and /nowhere/ca.crt does not exist
  1 | apiVersion: apiproxy.io/v1alpha1
    | ^
  hint: give `--ca-file FILE` or `healthCheck.tls.caFile`, or accept any certificate with `insecureSkipVerify: true`",
    ),
    (
        "a scalar for a list",
        r"HEADbackends: 10.0.0.1:6443
listen: 127.0.0.1:6443
healthCheck: {type: tcp}
",
        r"proxy.yaml:3:11: `backends`: expected a list, found the text `10.0.0.1:6443`
  3 | backends: 10.0.0.1:6443
    |           ^
  hint: begin each item with `- `, or put [ ] around the items
proxy.yaml:4:9: `listen`: expected a list, found the text `127.0.0.1:6443`
  4 | listen: 127.0.0.1:6443
    |         ^
  hint: begin each item with `- `, or put [ ] around the items",
    ),
    (
        "a long line",
        r"HEADhealthCheck: {type: tcp} # xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
backends: [{address: 'a:1', name: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy, zne: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz}]
",
        r"proxy.yaml:4:107: unknown key `zne`
  4 | …yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy, zne: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…
    |                                                    ^
  hint: did you mean `zone`?",
    ),
    (
        "duplicate keys",
        r"HEADbackends: [{address: 'a:1', address: 'b:1'}]
healthCheck: {type: tcp}
healthCheck: {type: tls}
",
        r"proxy.yaml:3:29: `address` is given twice
  3 | backends: [{address: 'a:1', address: 'b:1'}]
    |                             ^
  hint: it is already in line 3; keep one of them
proxy.yaml:5:1: `healthCheck` is given twice
  5 | healthCheck: {type: tls}
    | ^
  hint: it is already in line 4; keep one of them",
    ),
    (
        "certificates",
        r"HEADbackends: [address: 'a:1']
healthCheck: {tls: {caFile: client.key, certFile: client.crt, keyFile: other.key}}
",
        r"proxy.yaml:4:29: `healthCheck.tls.caFile`: /etc/client.key holds no PEM certificate
  4 | healthCheck: {tls: {caFile: client.key, certFile: client.crt, keyFile: other.key}}
    |                             ^
  hint: it needs a block `-----BEGIN CERTIFICATE-----`
proxy.yaml:4:72: `healthCheck.tls.keyFile`: this is not the key of `certFile`
  4 | healthCheck: {tls: {caFile: client.key, certFile: client.crt, keyFile: other.key}}
    |                                                                        ^",
    ),
    (
        "loops",
        r"HEADbackends: [address: 'localhost:6443', address: '[::1]:6443', address: '127.0.0.1:10242']
admin: {listen: '0.0.0.0:6443'}
healthCheck: {type: tcp, tls: {}}
",
        r"proxy.yaml:3:21: `backends[0].address`: localhost:6443 is this proxy itself, which listens on 127.0.0.1:6443
  3 | backends: [address: 'localhost:6443', address: '[::1]:6443', address: '127.0.0.1:10242']
    |                     ^
  hint: name the apiserver's own address, or change `listen`
proxy.yaml:3:48: `backends[1].address`: [::1]:6443 is this proxy itself, which listens on [::1]:6443
  3 | backends: [address: 'localhost:6443', address: '[::1]:6443', address: '127.0.0.1:10242']
    |                                                ^
  hint: name the apiserver's own address, or change `listen`
proxy.yaml:4:17: `admin.listen`: 127.0.0.1:6443 is to serve both clients and `admin`
  4 | admin: {listen: '0.0.0.0:6443'}
    |                 ^
  hint: give `admin.listen` another port
proxy.yaml:5:26: `healthCheck.tls`: a check of type `tcp` uses no TLS
  5 | healthCheck: {type: tcp, tls: {}}
    |                          ^
  hint: leave it out, or use `https` or `tls`",
    ),
];

#[test]
fn says_what_is_wrong_and_where() {
    let folder = certificates();
    let name = folder.path().display().to_string();
    for (case, text, expected) in CASES {
        let text = text.replace("HEAD", HEAD);
        let error = parse_in(folder.path(), &text, &Overrides::default()).expect_err(case);
        assert_eq!(error.to_string().replace(&name, "/etc"), *expected, "{case}");
    }
}
