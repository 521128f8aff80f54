//! Documents of any kind are read: one call finds every fault.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::config::{Document, Place};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Other {
    hosts: Vec<Host>,
    labels: Option<BTreeMap<String, u8>>,
    source: Option<Source>,
    ratio: Option<f64>,
    pair: Option<(u16, u16)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    name: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Source {
    Packages,
    Directory { path: PathBuf },
}

fn read(text: &str) -> (Option<Other>, Vec<String>) {
    let (document, mut faults) = Document::parse("x", text).unwrap();
    let other = document.read(&mut faults);
    (other, faults.lines())
}

#[test]
fn reads_maps_tuples_and_enums() {
    let text = "hosts: [{name: a}]\nlabels: {a: 1}\nsource: {directory: {path: /x}}\nratio: 1\npair: [1, 2]\n";
    let (other, faults) = read(text);
    let other = other.unwrap();
    assert_eq!(faults, [""; 0]);
    assert_eq!(other.hosts[0].name, "a");
    assert_eq!(other.labels.unwrap()["a"], 1);
    assert_eq!(other.source, Some(Source::Directory { path: "/x".into() }));
    assert!(other.ratio.is_some_and(|ratio| ratio > 0.5));
    assert_eq!(other.pair, Some((1, 2)));
    assert_eq!(read("hosts: []\nsource: packages\n").0.unwrap().source, Some(Source::Packages));
}

#[test]
fn faults_of_required_values_end_too() {
    let (other, faults) =
        read("hosts: [{name: a, x: 1}]\nlabels: {a: 300, b: -1}\nsource: 5\nratio: x\npair: [1]\n");
    assert!(other.is_some());
    assert_eq!(
        faults,
        [
            "x:1:19: unknown key `x` (use `name`)",
            "x:2:13: `labels.a`: expected u8, found integer `300`",
            "x:2:21: `labels.b`: expected u8, found integer `-1`",
            "x:3:9: `source`: expected a name, found the number `5` (use one of `packages`, `directory`)",
            "x:4:8: `ratio`: expected a number, found the text `x`",
            "x:5:7: `pair`: invalid length 1, expected a tuple of size 2",
        ]
    );
    let (other, faults) = read("hosts: [{}, 1, {name: 5}, {name: a}]\n");
    assert_eq!(other.unwrap().hosts.len(), 1);
    assert_eq!(
        faults,
        [
            "x:1:9: `hosts[0]`: the key `name` is missing",
            "x:1:13: `hosts[0]`: expected a mapping, found the number `1`",
            "x:1:23: `hosts[0].name`: expected text, found the number `5` (put it in quotes: \"5\")",
        ]
    );
}

#[test]
fn finds_the_place_of_a_path() {
    let text = "a:\n  - b: x\n    c:\n  - {d: [1, 22]}\n";
    let (document, _) = Document::parse("x", text).unwrap();
    for (path, line, column) in [
        ("a", 1, 1),
        ("a[0]", 2, 5),
        ("a[0].b", 2, 8),
        ("a[0].c", 3, 5),
        ("a[0].nothing", 2, 5),
        ("a[1].d", 4, 6),
        ("a[1].d[1]", 4, 13),
        ("a[9]", 1, 1),
        ("nothing", 1, 1),
        ("a[x].[", 1, 1),
    ] {
        assert_eq!(document.place(path), Place::Position { line, column }, "{path}");
    }
    assert!(document.has("a[0].b.below") && !document.has("a[0].c") && !document.has("z"));
}
