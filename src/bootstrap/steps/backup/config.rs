//! What an etcd host is told of backups: its settings, and the files that go into each of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::cluster_files::{FILES, archive};
use super::{FOLDER, IDENTITY, KNOWN_HOSTS, Shared, USER};
use crate::bootstrap::backup::{
    BucketSettings, CREDENTIALS, EtcdAccess, JOURNAL, SETTINGS, Settings, SshAccess, TEXTFILE,
    Target, Wanted,
};
use crate::bootstrap::engine::StepError;
use crate::bootstrap::spec::{Credentials, Host, Topology};
use crate::bootstrap::steps::documents::{Documents as _, ENCRYPTION, Rendered};
use crate::bootstrap::steps::etcd::paths;
use crate::bootstrap::transport::File;

/// Whom a bucket's certificate must be signed by, if the spec names somebody.
pub(super) const S3_CA: &str = "/etc/apiproxy/backup/s3-ca.crt";

/// sshd's port where the spec names none.
const SSH_PORT: u16 = 22;

/// kubeadm's configuration of the cluster, in a backup and on an etcd host.
const KUBEADM: &str = "kubeadm.yaml";

/// The spec's files, as they are called in a backup and on an etcd host.
fn source_names(shared: &Shared) -> impl Iterator<Item = String> {
    let rest = shared.sources.iter().skip(1).map(|source| source.name.clone());
    let first = shared.sources.first().map(|_| "cluster.yaml".to_owned());
    first.into_iter().chain(rest)
}

/// The files that go into each backup and are written by `apply`.
pub(super) fn documents(shared: &Shared) -> Result<Vec<File>, StepError> {
    let sources = source_names(shared).zip(&shared.sources);
    let sources = sources
        .map(|(name, source)| File::secret(format!("{FOLDER}/{name}"), source.content.clone()));
    let kubeadm = Rendered.settings(&shared.cluster)?;
    let kubeadm = File::secret(format!("{FOLDER}/{KUBEADM}"), kubeadm);
    Ok(sources.chain([kubeadm]).collect())
}

/// What a bucket is asked with: files of this machine, for root alone there.
pub(super) fn bucket_files(shared: &Shared) -> Result<Vec<File>, StepError> {
    let Some(s3) = &shared.backup.s3 else { return Ok(Vec::new()) };
    let wrong = |path: &Path, reason: String, key: &str| StepError::Refused {
        reason: format!("{}: {reason}", path.display()),
        remedy: format!("see `spec.etcd.backup.s3.{key}`"),
    };
    let read = |path: &Path, key: &str| {
        fs::read_to_string(path).map_err(|error| wrong(path, error.to_string(), key))
    };
    let (path, key) = (&s3.credentials_file, "credentialsFile");
    let text = read(path, key)?;
    Credentials::parse(&text).map_err(|reason| wrong(path, reason, key))?;
    let mut files = vec![File::secret(CREDENTIALS, text)];
    if let Some(path) = &s3.ca_file {
        files.push(File::new(S3_CA, read(path, "caFile")?));
    }
    Ok(files)
}

fn wanted(shared: &Shared) -> Vec<Wanted> {
    let file = |path: String, file: String, required| Wanted { path, file: file.into(), required };
    let names = source_names(shared).chain([KUBEADM.to_owned()]);
    let mut all: Vec<_> =
        names.map(|name| file(format!("spec/{name}"), format!("{FOLDER}/{name}"), true)).collect();
    if shared.cluster.topology == Topology::External {
        let archive = archive(&shared.backup.recipients);
        let name = archive.trim_start_matches(FOLDER).trim_start_matches('/').to_owned();
        all.push(file(name, archive, true));
        return all;
    }
    for (path, always) in FILES {
        // Where Secrets are encrypted, the keys of that are needed.
        let required = always || path == ENCRYPTION && shared.cluster.encryption_at_rest;
        all.push(file(format!("files{path}"), path.to_owned(), required));
    }
    all
}

fn access(shared: &Shared) -> EtcdAccess {
    let pki = "/etc/kubernetes/pki/etcd";
    let files = match shared.cluster.topology {
        Topology::External => {
            [paths::CA_CERT, paths::CLIENT_CERT, paths::CLIENT_KEY].map(PathBuf::from)
        }
        Topology::Stacked => ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"]
            .map(|file| PathBuf::from(format!("{pki}/{file}"))),
    };
    let [ca_file, cert_file, key_file] = files;
    EtcdAccess { endpoint: paths::local_url(), ca_file, cert_file, key_file }
}

/// The settings of a host.
pub(super) fn settings(shared: &Shared, host: &Host) -> Result<File, StepError> {
    let target = |target: &Host| Target {
        name: target.name.clone(),
        address: target.address,
        port: target.ssh.port.unwrap_or(SSH_PORT),
    };
    let settings = Settings {
        cluster: shared.cluster.name.clone(),
        host: host.name.clone(),
        kubernetes_version: shared.cluster.kubernetes_version.to_string(),
        etcd: access(shared),
        schedule: shared.backup.schedule.clone(),
        keep: usize::try_from(shared.backup.keep).unwrap_or(usize::MAX),
        directory: PathBuf::from(&shared.backup.directory),
        recipients: shared.backup.recipients.clone(),
        copy_to: shared.targets(host).map(target).collect(),
        ssh: SshAccess {
            user: USER.to_owned(),
            identity_file: PathBuf::from(IDENTITY),
            known_hosts_file: PathBuf::from(KNOWN_HOSTS),
        },
        files: wanted(shared),
        s3: shared.backup.s3.as_ref().map(|s3| BucketSettings {
            credentials_file: PathBuf::from(CREDENTIALS),
            ca_file: s3.ca_file.as_ref().map(|_| PathBuf::from(S3_CA)),
            ..BucketSettings::from(s3)
        }),
        textfile: PathBuf::from(TEXTFILE),
        journal: PathBuf::from(JOURNAL),
    };
    let json = serde_json::to_string_pretty(&settings)
        .map_err(|error| StepError::Unverified(format!("the settings of backups: {error}")))?;
    Ok(File::new(SETTINGS, json + "\n").mode(0o600))
}
