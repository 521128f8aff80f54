//! Several clusters that are changed in an order: the file of `kind: Fleet`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::shape::{List, Metadata};
use super::{Cluster, FileFaults, Role, SpecError, load, syntax};
use crate::config::{Document, Fault, Faults, quoted, read_text};

/// The `kind` of a fleet's file.
pub const FLEET: &str = "Fleet";

/// The longest that a wave may have to settle.
const LONGEST: Duration = Duration::from_hours(24);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    metadata: Option<Metadata>,
    spec: Option<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    waves: Option<List<RawWave>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawWave {
    clusters: Option<List<PathBuf>>,
    settle: Option<String>,
}

/// Several clusters, and in which order they are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// Those of the first are changed first.
    pub waves: Vec<Wave>,
}

/// Clusters that are changed at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// At least one.
    pub clusters: Vec<Member>,
    /// For how long all of them have to be well before the next wave begins; at most 24 h.
    pub settle: Duration,
}

/// A cluster of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
}

impl Fleet {
    /// Reads a fleet, and the files of all its clusters.
    ///
    /// # Errors
    /// One of the files cannot be read or is not valid: all faults of all of them are told at once.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = read_text(path)?;
        let (document, faults) = Document::parse(&path.display().to_string(), &text)?;
        let mut faults = document.expect_kind(FLEET, faults)?;
        let raw: Option<File> = document.read(&mut faults);
        let base = path.parent().unwrap_or(Path::new(""));
        let mut check =
            Check { document: &document, base, faults, others: Vec::new(), known: Vec::new() };
        let fleet = raw.map(|raw| check.fleet(raw));
        let own = Some(check.faults).filter(|faults| !faults.is_empty());
        let all: Vec<_> = own.into_iter().chain(check.others).collect();
        match fleet {
            Some(fleet) if all.is_empty() => Ok(fleet),
            _ => Err(SpecError::Faults(FileFaults(all))),
        }
    }

    /// All clusters in their order, each with the number of its wave, from 1.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        let numbered = self.waves.iter().enumerate();
        numbered.flat_map(|(index, wave)| wave.clusters.iter().map(move |one| (index + 1, one)))
    }
}

struct Check<'a> {
    document: &'a Document,
    base: &'a Path,
    faults: Faults,
    /// Of the files of clusters.
    others: Vec<Faults>,
    known: Vec<Cluster>,
}

impl Check<'_> {
    fn fault(&mut self, at: &str, message: &str, hint: &str) {
        let place = self.document.place(at);
        self.faults.push(Fault::new(place, format!("`{at}`: {message}")).hint(hint));
    }

    fn fleet(&mut self, raw: File) -> Fleet {
        let name = raw.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        if !syntax::is_label(&name) {
            let message = format!("{} cannot be the name of a fleet", quoted(&name));
            self.fault(
                "metadata.name",
                &message,
                "use 1 to 63 lower-case letters, digits and inner hyphens",
            );
        }
        let waves = raw.spec.and_then(|spec| spec.waves).unwrap_or_default();
        if waves.is_empty() {
            let hint = "write `waves: [{ clusters: [canary.yaml] }, { clusters: [west.yaml, east.yaml] }]`";
            self.fault("spec.waves", "there is no wave", hint);
        }
        let waves = waves.into_iter().enumerate();
        let waves = waves.map(|(index, raw)| self.wave(index, raw.unwrap_or_default())).collect();
        self.machines();
        Fleet { name, waves }
    }

    fn wave(&mut self, index: usize, raw: RawWave) -> Wave {
        let at = format!("spec.waves[{index}]");
        let files = raw.clusters.unwrap_or_default();
        if files.is_empty() {
            let hint = "write `clusters: [west.yaml]`, or take the wave out";
            self.fault(&format!("{at}.clusters"), "the wave has no cluster", hint);
        }
        let files = files.into_iter().enumerate();
        let clusters = files
            .filter_map(|(index, file)| self.member(&format!("{at}.clusters[{index}]"), &file?))
            .collect();
        let settle = raw.settle.as_deref().map_or(Some(Duration::ZERO), |text| {
            humantime::parse_duration(text).ok().filter(|settle| *settle <= LONGEST)
        });
        if settle.is_none() {
            let message =
                format!("{} is no time up to 24h", quoted(&raw.settle.unwrap_or_default()));
            self.fault(&format!("{at}.settle"), &message, "write it as 30s, 10m or 2h");
        }
        Wave { clusters, settle: settle.unwrap_or_default() }
    }

    fn member(&mut self, at: &str, file: &Path) -> Option<Member> {
        let file = self.base.join(file);
        let cluster = match load(&file) {
            Ok(cluster) => cluster,
            Err(SpecError::Faults(FileFaults(faults))) => {
                self.others.extend(faults);
                return None;
            }
            Err(SpecError::File(error)) => {
                let first = error.lines().into_iter().next().unwrap_or_default();
                self.fault(
                    at,
                    &first,
                    "name a cluster file, by its path from the folder of this one",
                );
                return None;
            }
        };
        let name = cluster.name.clone();
        if self.known.iter().any(|known| known.name == name) {
            let message =
                format!("another cluster of the fleet is called {} as well", quoted(&name));
            self.fault(at, &message, "name each once: clusters are told apart by `metadata.name`");
            return None;
        }
        self.known.push(cluster);
        Some(Member { name, file })
    }

    /// A machine is a node of one cluster; what stands outside may serve several.
    fn machines(&mut self) {
        let mut seen: BTreeMap<IpAddr, String> = BTreeMap::new();
        let outside = [Role::External, Role::Monitoring];
        let mut clashes = Vec::new();
        for cluster in &self.known {
            let inside =
                |host: &&super::Host| host.roles.iter().any(|role| !outside.contains(role));
            for host in cluster.hosts.iter().filter(inside) {
                let own = format!("{} of {}", host.name, cluster.name);
                if let Some(other) = seen.insert(host.address, own.clone()) {
                    clashes.push(format!("{} is {other} and {own}", host.address));
                }
            }
        }
        for clash in clashes {
            self.fault(
                "spec.waves",
                &clash,
                "a machine can be part of one cluster; give one of them another",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn cluster(name: &str, address: &str) -> String {
        format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: {name} }}\nspec:\n  \
             kubernetesVersion: v1.34.2\n  hosts:\n  \
             - {{ name: cp1, address: {address}, roles: [controlPlane] }}\n  \
             - {{ name: x1, address: 10.9.0.1, roles: [external] }}\n"
        )
    }

    fn read(spec: &str, files: &[(&str, String)]) -> Result<Fleet, SpecError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let head = "apiVersion: apiproxy.io/v1alpha1\nkind: Fleet\nmetadata: { name: world }\n";
        let file = folder.path().join("fleet.yaml");
        fs::write(&file, format!("{head}{spec}")).unwrap();
        Fleet::read(&file)
    }

    fn told(spec: &str, files: &[(&str, String)]) -> String {
        read(spec, files).unwrap_err().lines().join("\n")
    }

    #[test]
    fn waves_have_clusters_in_an_order() {
        let files = [
            ("canary.yaml", cluster("canary", "10.0.0.1")),
            ("west.yaml", cluster("west", "10.0.1.1")),
            ("east.yaml", cluster("east", "10.0.2.1")),
        ];
        let spec = "spec:\n  waves:\n  - { clusters: [canary.yaml], settle: 10m }\n  \
                    - { clusters: [west.yaml, east.yaml] }\n";
        let fleet = read(spec, &files).unwrap();
        let all: Vec<_> = fleet.members().map(|(wave, one)| (wave, one.name.as_str())).collect();
        assert_eq!(all, [(1, "canary"), (2, "west"), (2, "east")]);
        assert_eq!(fleet.waves[0].settle, Duration::from_mins(10));
        assert_eq!((fleet.name.as_str(), fleet.waves[1].settle), ("world", Duration::ZERO));
    }

    #[test]
    fn all_faults_of_all_files_are_told_at_their_lines() {
        let files = [
            ("a.yaml", cluster("one", "10.0.0.1")),
            ("b.yaml", cluster("one", "10.0.0.2")),
            ("c.yaml", cluster("three", "10.0.0.1")),
            ("d.yaml", cluster("four", "10.0.0.400")),
        ];
        let spec = "spec:\n  waves:\n  - clusters: [a.yaml, b.yaml, none.yaml]\n    settle: 2d\n  \
                    - clusters: [c.yaml, d.yaml]\n  - {}\n";
        let told = told(spec, &files);
        for part in [
            "fleet.yaml:6:",
            "another cluster of the fleet is called `one` as well",
            "none.yaml",
            "`2d` is no time up to 24h",
            "the wave has no cluster",
            "10.0.0.1 is cp1 of one and cp1 of three",
            "d.yaml:7:",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(self::told("spec: {}\n", &[]).contains("there is no wave"));
        let other = read("", &[]).unwrap_err();
        assert!(other.lines().join("\n").contains("there is no wave"));
    }
}
