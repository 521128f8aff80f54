//! A drill: a backup is restored into an etcd of its own that nobody else knows of, and what is in it is
//! compared with what the backup says. Nothing of it is left.

mod server;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bundle::{self, BundleError};
use super::contents::{Contents, ContentsError, check_sum};
use super::manifest::{Label, Manifest, SNAPSHOT};
use super::seal::Identities;
use crate::bootstrap::scratch::Scratch;
use server::{Answers, Server};

/// Why a drill could not be held. That it was held and failed is a [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The bundle cannot be opened or is damaged.
    #[error("the bundle: {0}")]
    Bundle(#[from] BundleError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] ContentsError),
    /// A program failed, or is not there.
    #[error("{0}")]
    Program(String),
    /// There is no room for what is restored.
    #[error(
        "{folder} has {free} MiB free, and {needed} MiB are needed; set TMPDIR to a folder with more"
    )]
    Full {
        /// The folder.
        folder: PathBuf,
        /// What is free, in MiB.
        free: u64,
        /// What is needed, in MiB.
        needed: u64,
    },
    /// A file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was compared.
    pub what: String,
    /// Is it as it should be?
    pub ok: bool,
    /// What was found.
    pub found: String,
}

/// What came of a drill.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The backup.
    pub name: String,
    /// Is all as it should be?
    pub passed: bool,
    /// What was compared.
    pub findings: Vec<Finding>,
    /// Seconds that each part took, in their order.
    pub timings: Vec<(String, f64)>,
}

impl Report {
    fn new(manifest: &Manifest) -> Self {
        let (findings, timings) = (Vec::new(), Vec::new());
        Self { name: manifest.name.to_string(), passed: true, findings, timings }
    }

    fn compare<T: PartialEq + std::fmt::Display>(&mut self, what: &str, expected: &T, found: &T) {
        let ok = expected == found;
        let found = if ok { found.to_string() } else { format!("{found} in place of {expected}") };
        self.find(what, ok, found);
    }

    fn find(&mut self, what: &str, ok: bool, found: String) {
        self.passed &= ok;
        self.findings.push(Finding { what: what.to_owned(), ok, found });
    }

    fn time(&mut self, what: &str, time: Duration) {
        self.timings.push((what.to_owned(), time.as_secs_f64()));
    }
}

/// Holds a drill with a bundle. It can be dropped at any moment: what it started is killed, and its folder
/// is removed.
///
/// # Errors
/// If it cannot be held.
pub async fn drill(bundle: &Path, label: &Label, keys: Identities) -> Result<Report, DrillError> {
    let mut report = Report::new(&label.manifest);
    let folder = Scratch::new("apiproxy-drill-")?;
    room(folder.path(), &label.manifest)?;
    let begin = Instant::now();
    let snapshot = folder.path().join("snapshot.db");
    let manifest = {
        let (bundle, encrypted) = (bundle.to_owned(), label.encrypted);
        let to = snapshot.clone();
        blocking(move || unpack(&bundle, encrypted, &keys, &to)).await?
    };
    report.time("open", begin.elapsed());
    report.compare("the label is that of the bundle", &true, &(manifest == label.manifest));

    let wanted = manifest.contents;
    let begin = Instant::now();
    let data = folder.path().join("data");
    server::restore(&snapshot, &data).await?;
    report.time("restore", begin.elapsed());

    let begin = Instant::now();
    let mut etcd = Server::start(folder.path(), &data).await?;
    report.time("start", begin.elapsed());
    let begin = Instant::now();
    let answers = etcd.ask(&wanted).await?;
    report.time("ask", begin.elapsed());
    compare_answers(&mut report, &wanted, &answers);
    etcd.stop().await?;

    let begin = Instant::now();
    let database = data.join("member/snap/db");
    let found = blocking(move || Ok(Contents::of(&File::open(database)?)?)).await?;
    report.compare("all keys and values (SHA-256)", &wanted.digest, &found.digest);
    report.time("compare", begin.elapsed());
    Ok(report)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DrillError> + Send + 'static,
) -> Result<T, DrillError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Twice the snapshot, as a file and restored, and etcd's log, of which two files have 64 MiB.
fn room(folder: &Path, manifest: &Manifest) -> Result<(), DrillError> {
    let snapshot = manifest.parts.iter().find(|part| part.path == SNAPSHOT);
    let needed = snapshot.map_or(0, |part| part.size.saturating_mul(2)).saturating_add(160 << 20);
    let stat = rustix::fs::statvfs(folder).map_err(io::Error::from)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let (folder, free, needed) = (folder.to_owned(), free >> 20, needed >> 20);
    Err(DrillError::Full { folder, free, needed })
}

/// Takes the snapshot out of a bundle; what it holds is checked as it is read.
fn unpack(
    bundle: &Path,
    encrypted: bool,
    keys: &Identities,
    to: &Path,
) -> Result<Manifest, DrillError> {
    let input = io::BufReader::with_capacity(256 << 10, File::open(bundle)?);
    let manifest = bundle::read(input, encrypted, keys, &mut |_, part, content| {
        if part.path == SNAPSHOT {
            io::copy(content, &mut File::create_new(to)?)?;
        }
        Ok(())
    })?;
    check_sum(&File::open(to)?)?;
    Ok(manifest)
}

fn compare_answers(report: &mut Report, wanted: &Contents, answers: &Answers) {
    report.compare("revision", &wanted.revision, &answers.revision);
    let total: u64 = answers.counts.values().sum();
    report.compare("keys", &wanted.keys, &total);
    let other: Vec<_> = wanted
        .prefixes
        .iter()
        .filter(|(prefix, count)| answers.counts.get(*prefix) != Some(count))
        .map(|(prefix, count)| {
            let found = answers.counts.get(prefix).copied().unwrap_or_default();
            format!("{prefix}: {found} in place of {count}")
        })
        .collect();
    let found = if other.is_empty() {
        format!("{} prefixes", wanted.prefixes.len())
    } else {
        other.join(", ")
    };
    report.find("keys by prefix", other.is_empty(), found);
    match (&wanted.sample, answers.sample) {
        (Some(key), Some(bytes)) => report.find("an object", true, format!("{key}: {bytes} bytes")),
        (Some(key), None) => report.find("an object", false, format!("{key} cannot be read")),
        (None, _) => report.find("an object", true, "there is none".to_owned()),
    }
}
