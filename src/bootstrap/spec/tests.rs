//! Cluster files as their users meet them: good ones, and exactly what is said of bad ones.

mod bad;
mod bad_hosts;
mod documents;
mod good;
mod selections;
mod tables;

use std::path::Path;

use super::*;

/// What every file begins with.
const HEAD: &str =
    "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: { name: prod }\nspec:\n";

/// A file of this `spec`, in which `VERSION` stands for a version and `BASE` for a version and a
/// control plane.
fn file(spec: &str) -> String {
    let version = "kubernetesVersion: v1.34.2";
    let host = "- { name: cp1, address: 10.0.0.11, roles: [controlPlane] }";
    let spec = spec.replace("BASE", &format!("{version}\nhosts:\n{host}"));
    let lines = spec.replace("VERSION", version);
    let lines: Vec<_> = lines.lines().map(|line| format!("  {line}\n")).collect();
    HEAD.to_owned() + &lines.concat()
}

/// Reads a text that is in the folder of this name.
fn read_in(base: &Path, text: &str) -> Result<Cluster, SpecError> {
    parse("cluster.yaml", text, base, Some(Path::new("/home/me")))
}

fn read(text: &str) -> Result<Cluster, SpecError> {
    read_in(Path::new("/nowhere"), text)
}

fn good(spec: &str) -> Cluster {
    match read(&file(spec)) {
        Ok(cluster) => cluster,
        Err(error) => panic!("{spec}\n{error}"),
    }
}

/// What is said of files, one after another.
fn told(cases: &[(&str, &str)]) -> String {
    let tell = |(case, spec): &(&str, &str)| {
        let error = read(&file(spec)).expect_err(case);
        format!("## {case}\n{}\n", error.lines().join("\n"))
    };
    cases.iter().map(tell).collect::<Vec<_>>().join("\n")
}
