//! What the README says is so: the generated parts, the sample, the commands.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use apiproxy::bootstrap::backup::METRICS;
use apiproxy::bootstrap::spec;
use apiproxy::config::{self, Overrides};
use apiproxy::metrics::{CATALOGUE, Kind};

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// Compares the part of the README between two markers; with `UPDATE_README=1` it is rewritten.
fn compare(name: &str, expected: &str) {
    let text = readme();
    let begin = text.find(&format!("<!-- begin: {name}")).unwrap();
    let begin = begin + text[begin..].find("-->\n").unwrap() + "-->\n".len();
    let end = begin + text[begin..].find(&format!("<!-- end: {name} -->")).unwrap();
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&text[..begin], expected, &text[end..]].concat();
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), updated).unwrap();
        return;
    }
    assert_eq!(
        &text[begin..end],
        expected,
        "the README is out of date: UPDATE_README=1 cargo test --test readme -- --test-threads 1"
    );
}

#[test]
fn the_configuration_reference_is_the_codes() {
    compare("configuration reference", &format!("\n{}\n", config::reference_markdown()));
}

#[test]
fn the_cluster_reference_is_the_codes() {
    compare("cluster reference", &format!("\n{}\n", spec::reference_markdown()));
}

#[test]
fn the_cluster_sample_is_valid() {
    let text = readme();
    let sample = text.split("<!-- cluster sample: tested -->\n```yaml\n").nth(1).unwrap();
    let sample = sample.split("```").next().unwrap();
    let cluster = spec::parse("README.md", sample, Path::new(""), None).unwrap();
    assert_eq!(cluster.hosts.len(), 204);
}

#[test]
fn the_metrics_are_the_codes() {
    let rows = CATALOGUE.iter().map(|(name, kind, text)| {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        format!("| `{name}` | {kind} | {text} |\n")
    });
    let rows: String = rows.collect();
    compare("metrics", &format!("\n| metric | type | meaning |\n|---|---|---|\n{rows}\n"));
}

#[test]
fn the_metrics_of_backups_are_the_codes() {
    let rows = METRICS.iter().map(|(name, text)| format!("| `{name}` | {text} |\n"));
    let rows: String = rows.collect();
    compare("backup metrics", &format!("\n| metric | meaning |\n|---|---|\n{rows}\n"));
}

#[test]
fn the_sample_is_valid() {
    let text = readme();
    let sample = text.split("<!-- sample: tested -->\n```yaml\n").nth(1).unwrap();
    let sample = sample.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = apiproxy::demo::Authority::new("test").unwrap();
    fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    let sample = sample.replace("/etc/kubernetes/pki/ca.crt", "ca.crt");
    let config = config::parse("README.md", &sample, folder.path(), &Overrides::default());
    assert_eq!(config.unwrap().clusters[0].backends.len(), 3);
}

#[test]
fn the_sample_of_several_clusters_is_valid() {
    let text = readme();
    let sample = text.split("<!-- clusters sample: tested -->\n```yaml\n").nth(1).unwrap();
    let sample = sample.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let authority = apiproxy::demo::Authority::new("test").unwrap();
    fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    let sample = sample.replace("/etc/apiproxy/east/", "").replace("/etc/apiproxy/west/ca", "ca");
    let config = config::parse("README.md", &sample, folder.path(), &Overrides::default()).unwrap();
    let names: Vec<_> = config.clusters.iter().filter_map(|one| one.name.clone()).collect();
    let names: Vec<_> = names.iter().map(apiproxy::model::ClusterName::as_str).collect();
    assert_eq!(names, ["east", "west"]);
}

#[test]
fn the_commands_exist() {
    let text = readme();
    let mut seen = 0;
    for line in text.lines().filter(|line| line.trim_start().starts_with("apiproxy ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        if words[1].starts_with(|c: char| c.is_ascii_lowercase()) {
            let output = assert_cmd::Command::cargo_bin("apiproxy")
                .unwrap()
                .args([words[1], "--help"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}");
            seen += 1;
        }
    }
    assert!(seen >= 2, "the README has no commands");
}
