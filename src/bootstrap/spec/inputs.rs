//! The files and folders of this machine that a cluster file names, besides its table of hosts: looked at
//! before any host is reached, and each fault told at its line.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Artifacts, Cluster, Cni, Credentials, FileFaults, Loaded, SpecError};
use crate::config::{Document, Fault};

const MANIFEST: &str = "spec.network.cni.manifest";
const FOLDER: &str = "spec.artifacts.path";
const CREDENTIALS: &str = "spec.etcd.backup.s3.credentialsFile";
const CA_FILE: &str = "spec.etcd.backup.s3.caFile";

/// A message and a hint.
type Trouble = (String, &'static str);

/// What every document of a manifest says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    api_version: Option<String>,
    kind: Option<String>,
}

impl Loaded {
    /// Looks at what the file names on this machine.
    ///
    /// # Errors
    /// Something is not there, cannot be read, or is not what it should be: all of it at once.
    pub fn inputs(&self) -> Result<(), SpecError> {
        let troubles = troubles(&self.cluster);
        if troubles.is_empty() {
            return Ok(());
        }
        let (path, text) = &self.file;
        let (document, mut faults) = Document::parse(&path.display().to_string(), text)?;
        for (key, (message, hint)) in troubles {
            let fault = Fault::new(document.place(key), format!("`{key}`: {message}"));
            faults.push(fault.hint(hint));
        }
        Err(SpecError::Faults(FileFaults(vec![faults])))
    }
}

fn troubles(cluster: &Cluster) -> Vec<(&'static str, Trouble)> {
    let mut troubles = Vec::new();
    if let Cni::Manifest(path) = &cluster.network.cni
        && let Err(trouble) = manifest(path)
    {
        troubles.push((MANIFEST, trouble));
    }
    if let Artifacts::Directory(path) = &cluster.artifacts
        && let Err(error) = fs::read_dir(path)
    {
        let hint = "name the folder; `apiproxy bootstrap artifacts list` says what is to be in it";
        troubles.push((FOLDER, (unreadable(path, &error), hint)));
    }
    if let Some(s3) = cluster.etcd.backup.as_ref().and_then(|backup| backup.s3.as_ref()) {
        let told = credentials(&s3.credentials_file).err();
        troubles.extend(told.map(|trouble| (CREDENTIALS, trouble)));
        let told = s3.ca_file.as_deref().and_then(|path| authority(path).err());
        troubles.extend(told.map(|trouble| (CA_FILE, trouble)));
    }
    troubles
}

/// Is there a key of an object store in it?
fn credentials(path: &Path) -> Result<(), Trouble> {
    let hint = "name a file with aws_access_key_id and aws_secret_access_key";
    let text = fs::read_to_string(path).map_err(|error| (unreadable(path, &error), hint))?;
    let wrong = |why| (format!("{}: {why}", path.display()), hint);
    Credentials::parse(&text).map(drop).map_err(wrong)
}

/// Is there a certificate in it?
fn authority(path: &Path) -> Result<(), Trouble> {
    let hint = "name a file of certificates in PEM: whom the store's is signed by";
    let text = fs::read_to_string(path).map_err(|error| (unreadable(path, &error), hint))?;
    if text.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    Err((format!("{} has no certificate", path.display()), hint))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// Is it a manifest: documents of YAML, each with an `apiVersion` and a `kind`?
fn manifest(path: &Path) -> Result<(), Trouble> {
    let hint = "name the manifest of a pod network, relative to this file";
    let text = fs::read_to_string(path).map_err(|error| (unreadable(path, &error), hint))?;
    let shown = path.display();
    let options = serde_saphyr::options! {
        budget: None,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    let documents: Vec<Option<Header>> = serde_saphyr::from_multiple_with_options(&text, options)
        .map_err(|error| {
        let what = error.to_string().replace('\n', " ");
        (
            format!("{shown} is no YAML of mappings: {what}"),
            "fetch it anew: it may be a page of HTML",
        )
    })?;
    let mut documents = documents.into_iter().flatten().peekable();
    if documents.peek().is_none() {
        return Err((format!("{shown} holds no object"), hint));
    }
    for (at, Header { api_version, kind }) in documents.enumerate() {
        let lacks = match (api_version, kind) {
            (Some(_), Some(_)) => continue,
            (None, _) => "apiVersion",
            (_, None) => "kind",
        };
        let object = at + 1;
        return Err((format!("{shown}: object {object} has no `{lacks}`"), hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::spec::{Topology, example};

    const CNI: &str = "  network: { cni: { manifest: ./cni.yaml } }\n";

    const BUCKET: &str = "      s3: { endpoint: 'https://s3.example', bucket: backups, \
                          credentialsFile: keys, caFile: ca.crt }\n";

    /// What is said of a file whose manifest is this.
    fn with_manifest(manifest: Option<&str>) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        let spec = "kubernetesVersion: v1.34.2\n  hosts:\n    - { name: a, address: 10.0.0.1, roles: [controlPlane] }";
        let text = format!(
            "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  {spec}\n{CNI}"
        );
        fs::write(&path, text).unwrap();
        if let Some(manifest) = manifest {
            fs::write(folder.path().join("cni.yaml"), manifest).unwrap();
        }
        let said = Loaded::read(&path).and_then(|loaded| loaded.inputs()).err();
        said.map(|error| error.to_string().replace(&folder.path().display().to_string(), "."))
    }

    #[test]
    fn a_manifest_is_there_and_one_before_any_host_is_reached() {
        // That there is none is a fault of the file for every command.
        assert!(with_manifest(None).unwrap().contains("cni.yaml is no file"));
        let said = with_manifest(Some("kind: Pod")).unwrap();
        let expected =
            "./cluster.yaml:8:31: `spec.network.cni.manifest`: ././cni.yaml: object 1 has no";
        assert!(said.starts_with(expected), "{said}");
        let hint = "hint: name the manifest of a pod network, relative to this file";
        assert!(said.ends_with(hint), "{said}");
        for (manifest, what) in [
            ("", "holds no object"),
            ("# nothing\n---\n", "holds no object"),
            ("<html>\n<body>not: [found</body>", "is no YAML of mappings"),
            ("just words", "is no YAML of mappings"),
            ("kind: Pod\n", "object 1 has no `apiVersion`"),
            ("apiVersion: v1\nkind: Pod\n---\napiVersion: v1\n", "object 2 has no `kind`"),
        ] {
            let said = with_manifest(Some(manifest)).unwrap();
            assert!(said.contains(what), "{manifest}: {said}");
        }
        let good = "# a network\n---\napiVersion: v1\nkind: Namespace\nmetadata: { name: net }\n---\n# no more\n---\n\
                    apiVersion: apps/v1\nkind: DaemonSet\nspec: { a: 1, a: 2 }\n";
        assert_eq!(with_manifest(Some(good)), None);
    }

    #[test]
    fn a_folder_of_artifacts_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        let text = example(Topology::Stacked, "prod");
        let folder_of = "artifacts: { from: directory, path: ./artifacts }";
        let text = text.replace("  artifacts: { from: packages }", &format!("  {folder_of}"));
        fs::write(&path, text).unwrap();
        let loaded = Loaded::read(&path).unwrap();
        let said = loaded.inputs().unwrap_err().to_string();
        assert!(said.contains("`spec.artifacts.path`: cannot read "), "{said}");
        assert!(said.contains("artifacts list"), "{said}");
        fs::create_dir(folder.path().join("artifacts")).unwrap();
        assert!(loaded.inputs().is_ok());
    }

    #[test]
    fn the_key_of_a_bucket_is_there_and_its_authority() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        let keep = "      keep: 28\n";
        let text = example(Topology::Stacked, "prod").replace(keep, &format!("{keep}{BUCKET}"));
        fs::write(&path, text).unwrap();
        let loaded = Loaded::read(&path).unwrap();
        let said = || loaded.inputs().map_err(|error| error.to_string());
        let told = said().unwrap_err();
        assert!(told.contains("`spec.etcd.backup.s3.credentialsFile`: cannot read "), "{told}");
        assert!(told.contains("`spec.etcd.backup.s3.caFile`: cannot read "), "{told}");
        let [keys, ca] = ["keys", "ca.crt"].map(|file| folder.path().join(file));
        fs::write(&keys, "aws_access_key_id = A\n").unwrap();
        fs::write(&ca, "nothing\n").unwrap();
        let told = said().unwrap_err();
        assert!(told.contains("keys: it has no `aws_secret_access_key`"), "{told}");
        assert!(told.contains("ca.crt has no certificate"), "{told}");
        fs::write(&keys, "aws_access_key_id = A\naws_secret_access_key = B\n").unwrap();
        fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(said(), Ok(()));
    }
}
