//! Files that are no configuration, or no certificates: refused with exit code 2, one clear
//! message, and soon, whatever is in them.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

mod common;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use apiproxy::demo::{Authority, Issue};
use common::{Outcome, apiproxy, command, outcome, report};

const GOOD: &str = "\
# Nobody listens on port 1.
apiVersion: apiproxy.io/v1alpha1
kind: ProxyConfiguration
listen: [\"127.0.0.1:16443\"]
backends:
  - { name: cp1, address: \"127.0.0.1:1\", zone: a }
  - address: \"[::1]:1\"
zone: a
balance: roundRobin
healthCheck:
  type: https
  interval: 10s
  tls: { insecureSkipVerify: true, serverName: kubernetes }
connect: { timeout: 1s, hedgeAfter: 200ms }
connections: { max: 100, keepalive: 15s, drainTimeout: 60s }
admin: { listen: \"127.0.0.1:10242\" }
threads: 2
log: { format: text, level: info }
";

fn check(file: &Path) -> Outcome {
    outcome(&mut command(&["check", "--config", file.to_str().unwrap()]))
}

fn check_ca(file: &Path) -> Outcome {
    let file = file.to_str().unwrap();
    outcome(&mut command(&["run", "--backend", "127.0.0.1:1", "--ca-file", file]))
}

/// A file of these bytes in a folder.
fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_good_file_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = check(&file(folder.path(), "good.yaml", GOOD));
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""), "nobody is there");
    assert!(outcome.stdout.contains("The configuration is valid"), "{outcome:?}");
}

#[test]
fn files_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let missing = folder.join("missing");
    let empty = file(folder, "empty", "");
    let sparse = folder.join("sparse");
    File::create(&sparse).unwrap().set_len(1 << 30).unwrap();
    let pipe = folder.join("pipe");
    common::run(Command::new("mkfifo").arg(&pipe));
    let cases = [
        (missing.as_path(), "No such file or directory", "No such file or directory"),
        (&empty, "is empty", "holds no PEM certificate"),
        (folder, "is a directory", "is a directory"),
        (&sparse, "is larger than 1048576 bytes", "is larger than 1 MiB"),
        (&pipe, "it is a named pipe", "is not a regular file"),
        (Path::new("/dev/zero"), "is larger than 1048576 bytes", "is not a regular file"),
        (Path::new("/dev/null"), "is empty", "is not a regular file"),
        (Path::new("/proc/self/mem"), "Input/output error", "Input/output error"),
    ];
    let start = Instant::now();
    for (path, as_config, as_ca) in cases {
        let name = path.to_str().unwrap();
        check(path).refused(2, as_config);
        check(path).refused(2, name);
        check_ca(path).refused(2, as_ca);
        check_ca(path).refused(2, name);
    }
    report(&format!("{} bad files are refused in {:?}", 4 * 8, start.elapsed()));
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_unreadable_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = file(folder.path(), "secret.yaml", GOOD);
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let mut command = command(&["check", "--config", path.to_str().unwrap()]);
    if File::open(&path).is_ok() {
        // Root reads everything, nobody does not. The program may be where nobody has no access.
        let program = folder.path().join("apiproxy");
        common::copy_program(&common::program(), &program);
        command = Command::new(program);
        command.args(["check", "--config"]).arg(&path).uid(65534).gid(65534);
    }
    let outcome = outcome(&mut command);
    outcome.refused(2, "Permission denied");
    outcome.refused(2, "make it readable for the user that runs apiproxy");
}

#[test]
fn half_a_file_is_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    let cuts = (0..GOOD.len()).step_by(7);
    let count = cuts.len();
    for cut in cuts {
        let outcome = check(&file(folder.path(), "half.yaml", &GOOD[..cut]));
        if outcome.code == Some(2) {
            refused += 1;
            outcome.refused(2, "half.yaml");
        } else {
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""), "{outcome:?}");
        }
    }
    report(&format!("of {count} halves of a file {refused} are refused"));
    assert!(refused > count / 2, "most halves miss something");
}

#[test]
fn other_encodings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let wide = |mark: bool, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(GOOD.encode_utf16()).flat_map(bytes).collect()
    };
    let cases = [
        (wide(true, u16::to_le_bytes), "UTF-16LE"),
        (wide(false, u16::to_le_bytes), "UTF-16LE"),
        (wide(true, u16::to_be_bytes), "UTF-16BE"),
        (wide(false, u16::to_be_bytes), "UTF-16BE"),
        ([GOOD.as_bytes(), b"# caf\xe9\n"].concat(), "is no part of a character"),
    ];
    for (bytes, told) in cases {
        check(&file(folder.path(), "wide.yaml", bytes)).refused(2, told);
    }
    let marked = ["\u{feff}".as_bytes(), GOOD.as_bytes()].concat();
    let outcome = check(&file(folder.path(), "marked.yaml", marked));
    assert_eq!(outcome.code, Some(1), "a byte order mark before UTF-8 is harmless: {outcome:?}");
}

#[test]
fn yaml_of_another_shape_is_refused_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let head = "apiVersion: apiproxy.io/v1alpha1\nkind: ProxyConfiguration\n";
    let cases = [
        ("[1, 2]".to_owned(), "shape.yaml:1:1: "),
        ("42".to_owned(), "shape.yaml:1:1: "),
        ("just text".to_owned(), "shape.yaml:1:1: "),
        ("~".to_owned(), "shape.yaml"),
        ("a: [".to_owned(), "shape.yaml:"),
        ("a: &x [*x]".to_owned(), "shape.yaml:"),
        ("\t- a".to_owned(), "shape.yaml:1:"),
        ("apiVersion: v1\nkind: Pod\nspec: {}".to_owned(), "shape.yaml:1:"),
        (format!("{head}backends: 5"), "shape.yaml:3:"),
        (format!("{head}backends: {{ a: b }}"), "shape.yaml:3:"),
        (format!("{head}backends: []"), "shape.yaml:3:"),
        (format!("{head}backends: [[[]]]"), "shape.yaml:3:"),
        (format!("{head}bakcends: []"), "did you mean `backends`?"),
        (format!("{head}healthCheck: [https]"), "shape.yaml:3:"),
        (format!("{head}threads: {{}}"), "shape.yaml:3:"),
        (format!("{head}{head}"), "shape.yaml:3:"),
        (format!("{GOOD}---\n{GOOD}"), "shape.yaml:"),
        (GOOD.replace("10s", "-10s"), "shape.yaml:12:"),
        (GOOD.replace("threads: 2", "threads: 99999999999999999999"), "shape.yaml:17:"),
    ];
    for (text, told) in cases {
        check(&file(folder.path(), "shape.yaml", text)).refused(2, told);
    }
}

#[test]
fn files_of_certificates_that_hold_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let authority = Authority::new("test").unwrap();
    let issued = authority.issue(Issue { client: true, ..Issue::default() }).unwrap();
    let stranger = authority.issue(Issue { client: true, ..Issue::default() }).unwrap();
    let pem = authority.pem();
    check_ca(&file(folder, "key.pem", &issued.key_pem)).refused(2, "holds no PEM certificate");
    check_ca(&file(folder, "text.pem", "hello")).refused(2, "holds no PEM certificate");
    for cut in (1..pem.len() - 30).step_by(50) {
        check_ca(&file(folder, "half.pem", &pem[..cut])).refused(2, "half.pem");
    }
    let tls = |cert: &str, key: &str| {
        file(folder, "client.crt", cert);
        file(folder, "client.key", key);
        let with = "tls: { certFile: client.crt, keyFile: client.key,";
        check(&file(folder, "tls.yaml", GOOD.replace("tls: {", with)))
    };
    assert_eq!(tls(&issued.cert_pem, &issued.key_pem).code, Some(1), "good files");
    tls(&issued.cert_pem, &stranger.key_pem).refused(2, "this is not the key of `certFile`");
    tls(&issued.cert_pem, &issued.cert_pem).refused(2, "holds no PEM private key");
    tls(&issued.key_pem, &issued.key_pem).refused(2, "holds no PEM certificate");
    tls("", "").refused(2, "client.crt");
}

#[test]
fn a_configuration_may_come_from_a_pipe() {
    let mut command = Command::new(common::program());
    command.args(["check", "--config", "/dev/stdin"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(GOOD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("The configuration is valid"));
    assert_eq!(apiproxy(&["check", "--config", "/dev/stdin"]).code, Some(2));
}
