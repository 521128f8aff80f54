//! What a directory of artifacts has to hold for a cluster, and whether it does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::images::{self, Image};
use super::manifest::{Item, Need, items};
use super::{ArtifactError, Directory};
use crate::bootstrap::spec::{Artifacts, Cluster, Topology};

/// How it stands with one artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It is there, and it is what its checksum says.
    Ok,
    /// It is not there, and must be.
    Missing,
    /// It is not there; hosts that have it already do without.
    Absent,
    /// It is there, but `SHA256SUMS` does not name it.
    Unlisted,
    /// It is not what `SHA256SUMS` says, or no archive of images.
    Wrong,
    /// Two files could be meant.
    Ambiguous,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What it brings: `kubelet`, or an image's name.
    pub name: String,
    /// The file, below the directory; with a `*` for a version that is yours to choose.
    pub path: String,
    /// Where its project publishes it.
    pub source: String,
    /// How it stands with it; nothing is known without a directory.
    pub state: Option<State>,
    /// Bytes.
    pub size: Option<u64>,
    /// What else is to be said.
    pub note: String,
}

/// All artifacts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// The version of Kubernetes.
    pub version: String,
    /// The directory, if the cluster names one.
    pub directory: Option<String>,
    /// Is all there that must be, and right?
    pub complete: bool,
    /// What must be there.
    pub artifacts: Vec<Row>,
}

/// What must be there for hosts of these machine types; `kubeadm` is what the kubeadm of the
/// directory itself lists, if it was asked.
///
/// # Errors
/// If the directory cannot be read.
pub fn list(
    cluster: &Cluster,
    archs: &[String],
    kubeadm: Option<Vec<Image>>,
) -> Result<Listing, ArtifactError> {
    let directory = match &cluster.artifacts {
        Artifacts::Directory(root) => Some(Directory::open(root)?),
        Artifacts::Packages { .. } => None,
    };
    let mut artifacts: Vec<Row> = Vec::new();
    for arch in archs {
        let rows = items(cluster, arch);
        artifacts.extend(rows.iter().map(|item| file_row(item, directory.as_ref())));
    }
    artifacts.extend(image_rows(cluster, kubeadm, directory.as_ref()));
    if let Some(directory) = &directory {
        artifacts.extend(extra_rows(directory, archs));
    }
    let well = |row: &Row| matches!(row.state, Some(State::Ok | State::Absent));
    Ok(Listing {
        version: cluster.kubernetes_version.to_string(),
        directory: match &cluster.artifacts {
            Artifacts::Directory(root) => Some(root.display().to_string()),
            Artifacts::Packages { .. } => None,
        },
        complete: artifacts.iter().all(well),
        artifacts,
    })
}

fn file_row(item: &Item, directory: Option<&Directory>) -> Row {
    let mut row = Row {
        name: item.name.to_owned(),
        path: item.path.clone(),
        source: item.url.clone(),
        state: None,
        size: None,
        note: match item.need {
            Need::Always => "",
            Need::UnlessInstalled => "unless the hosts have it",
            Need::Optional => "optional",
        }
        .to_owned(),
    };
    let Some(directory) = directory else { return row };
    let (state, note) = match directory.find(item) {
        Ok(None) if item.need == Need::Always => (State::Missing, None),
        Ok(None) => (State::Absent, None),
        Ok(Some(stored)) => match directory.verify(&stored) {
            Ok(()) => (State::Ok, Some(String::new())),
            Err(error) => (State::Wrong, Some(error.to_string())),
        },
        Err(error @ ArtifactError::Unlisted(_)) => (State::Unlisted, Some(error.to_string())),
        Err(error) => (State::Ambiguous, Some(error.to_string())),
    };
    row.state = Some(state);
    if let Some(note) = note {
        row.note = note;
    }
    if let [(path, size)] = directory.candidates(item).as_slice() {
        (row.path, row.size) = ((*path).to_owned(), Some(*size));
    }
    row
}

/// What is in each archive, or why that is not known.
type Archives = BTreeMap<String, Result<BTreeSet<String>, ArtifactError>>;

fn archives(directory: &Directory) -> Archives {
    let stored = match directory.image_archives() {
        Ok(stored) => stored,
        Err(error) => return BTreeMap::from([("images/".to_owned(), Err(error))]),
    };
    let read = |stored: super::Stored| {
        let names = directory.verify(&stored).and_then(|()| super::names_in_archive(&stored.path));
        (stored.name, names)
    };
    stored.into_iter().map(read).collect()
}

fn image_rows(
    cluster: &Cluster,
    kubeadm: Option<Vec<Image>>,
    directory: Option<&Directory>,
) -> Vec<Row> {
    let stacked = cluster.topology == Topology::Stacked;
    let wanted = match kubeadm {
        // An external etcd is no image.
        Some(listed) => listed
            .into_iter()
            .filter(|image| stacked || !image.repository.ends_with("/etcd"))
            .collect(),
        None => images::images(cluster.kubernetes_version, images::REGISTRY, stacked),
    };
    let archives = directory.map(archives).unwrap_or_default();
    let mut rows: Vec<_> =
        wanted.iter().map(|image| image_row(image, directory.map(|_| &archives))).collect();
    for (name, error) in archives {
        let Err(error) = error else { continue };
        let state = match error {
            ArtifactError::Unlisted(_) => State::Unlisted,
            _ => State::Wrong,
        };
        rows.push(Row {
            name: "image archive".to_owned(),
            path: name,
            source: String::new(),
            state: Some(state),
            size: None,
            note: error.to_string(),
        });
    }
    rows
}

fn image_row(image: &Image, archives: Option<&Archives>) -> Row {
    let whole = image.to_string();
    let mut row = Row {
        name: whole.clone(),
        path: "images/*.tar".to_owned(),
        source: whole.clone(),
        state: archives.map(|_| State::Missing),
        size: None,
        note: String::new(),
    };
    let same = |name: &String| {
        *name == whole || !image.exact && name.starts_with(&format!("{}:", image.repository))
    };
    let mut readable = archives.into_iter().flatten();
    let found = readable.find_map(|(archive, names)| {
        names.as_ref().ok()?.iter().find(|name| same(name)).map(|name| (archive, name))
    });
    if let Some((archive, name)) = found {
        row.state = Some(State::Ok);
        row.path.clone_from(archive);
        row.name.clone_from(name);
    }
    if !image.exact {
        row.note =
            "the tag differs between patch releases: `kubeadm config images list` decides".into();
    }
    row
}

/// Packages are the user's choice; those that are there must be whole.
fn extra_rows(directory: &Directory, archs: &[String]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name: &str, path: String, state, note: String| {
        let (name, source) = (name.to_owned(), String::new());
        rows.push(Row { name, path, source, state: Some(state), size: None, note });
    };
    let mut seen = BTreeSet::new();
    for arch in archs {
        match directory.packages(arch) {
            Err(error) => row("package", "debs/".to_owned(), State::Unlisted, error.to_string()),
            Ok(packages) => {
                for stored in packages.into_iter().filter(|stored| seen.insert(stored.name.clone()))
                {
                    match directory.verify(&stored) {
                        Ok(()) => row("package", stored.name, State::Ok, String::new()),
                        Err(error) => row("package", stored.name, State::Wrong, error.to_string()),
                    }
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests;
