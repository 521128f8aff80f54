//! `apiproxy bootstrap new` and `schema`, as their users meet them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use apiproxy::bootstrap::spec::{self, Topology};

fn bootstrap(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("apiproxy").unwrap();
    command.current_dir(folder).arg("bootstrap").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn new_prints_an_example_that_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    for (topology, expected) in [("stacked", Topology::Stacked), ("external", Topology::External)] {
        let arguments = ["new", "--topology", topology, "--name", "edge"];
        let printed = bootstrap(folder.path(), &arguments);
        assert!(printed.status.success());
        let cluster = spec::parse("-", &text(&printed.stdout), folder.path(), None).unwrap();
        assert_eq!((cluster.topology, cluster.name.as_str()), (expected, "edge"));
    }
    let default = bootstrap(folder.path(), &["new"]);
    assert_eq!(text(&default.stdout), spec::example(Topology::Stacked, "prod"));
}

#[test]
fn new_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.yaml");
    assert!(bootstrap(folder.path(), &["new", "--output", "cluster.yaml"]).status.success());
    spec::load(&path).unwrap();
    fs::write(&path, "mine").unwrap();
    let refused = bootstrap(folder.path(), &["new", "-o", "cluster.yaml"]);
    assert_eq!(refused.status.code(), Some(2));
    let complaint =
        "apiproxy: cluster.yaml is there already; give another --output, or remove it\n";
    assert_eq!(text(&refused.stderr), complaint);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let nowhere = bootstrap(folder.path(), &["new", "-o", "none/cluster.yaml"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let nameless = bootstrap(folder.path(), &["new", "--name", "My_Cluster"]);
    assert_eq!(nameless.status.code(), Some(2));
}

#[test]
fn schema_prints_the_schema() {
    let printed = bootstrap(Path::new("/"), &["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(schema, spec::schema());
    assert_eq!(schema["properties"]["kind"]["const"], "Cluster");
}

#[test]
fn help_teaches_by_example() {
    let help = bootstrap(Path::new("/"), &["--help"]);
    let help = text(&help.stdout);
    assert!(help.contains("apiproxy bootstrap new --name prod --output cluster.yaml"), "{help}");
}
