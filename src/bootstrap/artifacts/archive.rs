//! The names of the images in an archive, of Docker's form or the OCI's, without reading the layers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use tar::{Archive, Entry};

use super::ArtifactError;
use super::images::whole_name;

/// No index of images is larger.
const INDEX_LIMIT: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// The whole names of the images in an archive.
///
/// # Errors
/// If it is no archive of images, or names none.
pub fn names(path: &Path) -> Result<BTreeSet<String>, ArtifactError> {
    let wrong = |reason: String| ArtifactError::Archive { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut archive = Archive::new(file);
    let mut found = BTreeSet::new();
    // Layers are passed over by seeking.
    let entries = archive.entries_with_seek().map_err(|error| wrong(error.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| wrong(error.to_string()))?;
        let name = entry.path().map_err(|error| wrong(error.to_string()))?;
        let name = name.to_string_lossy().trim_start_matches("./").to_owned();
        match name.as_str() {
            "manifest.json" => found.extend(docker(&mut entry).map_err(wrong)?),
            "index.json" => found.extend(oci(&mut entry).map_err(wrong)?),
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(wrong("it names no image".to_owned()));
    }
    Ok(found)
}

fn json<T: serde::de::DeserializeOwned>(entry: &mut Entry<'_, impl Read>) -> Result<T, String> {
    let mut bytes = Vec::new();
    entry.take(INDEX_LIMIT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn docker(entry: &mut Entry<'_, impl Read>) -> Result<Vec<String>, String> {
    let images: Vec<DockerImage> = json(entry)?;
    let tags = images.into_iter().filter_map(|image| image.repo_tags).flatten();
    Ok(tags.map(|tag| whole_name(&tag)).collect())
}

/// containerd's annotation has the whole name; the OCI's may be but a tag, which names nothing.
fn oci(entry: &mut Entry<'_, impl Read>) -> Result<Vec<String>, String> {
    let index: Index = json(entry)?;
    let name = |described: &Described| {
        let of = |key| described.annotations.get(key).cloned();
        of("io.containerd.image.name")
            .or_else(|| of("org.opencontainers.image.ref.name").filter(|name| name.contains('/')))
    };
    Ok(index.manifests.iter().filter_map(name).map(|name| whole_name(&name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, entries: &[(&str, &str)]) -> std::path::PathBuf {
        let path = folder.join("images.tar");
        let mut builder = tar::Builder::new(File::create(&path).expect("a file"));
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).expect("an entry");
        }
        builder.finish().expect("an archive");
        path
    }

    fn found(entries: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = archive(folder.path(), entries);
        names(&path).map(|names| names.into_iter().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_tell_their_names() {
        let docker = r#"[{"Config":"x","RepoTags":["busybox:1","registry.k8s.io/pause:3.9"]},
            {"Config":"y","RepoTags":null}]"#;
        assert_eq!(
            found(&[("layer.tar", "0123456789"), ("manifest.json", docker)]),
            Ok(vec!["docker.io/library/busybox:1".into(), "registry.k8s.io/pause:3.9".into()])
        );
        let oci = r#"{"manifests":[{"annotations":{"io.containerd.image.name":"a.b/c:1"}},
            {"annotations":{"org.opencontainers.image.ref.name":"latest"}},
            {"annotations":{"org.opencontainers.image.ref.name":"d.e/f:2"}}, {}]}"#;
        assert_eq!(found(&[("./index.json", oci)]), Ok(vec!["a.b/c:1".into(), "d.e/f:2".into()]));
    }

    #[test]
    fn what_is_no_archive_of_images_is_refused() {
        let error = found(&[("index.json", r#"{"manifests":[]}"#)]).expect_err("no name");
        assert!(error.ends_with("it names no image; make it with `ctr images export`"), "{error}");
        assert!(found(&[("manifest.json", "{")]).is_err());
        assert!(names(Path::new("/nowhere/x.tar")).is_err());
    }

    #[test]
    fn a_file_that_is_no_tar_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.tar");
        std::fs::write(&path, b"not a tar, and shorter than a block").expect("a file");
        assert!(names(&path).is_err());
    }
}
