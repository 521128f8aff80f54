//! A drill with a backup that lies on this very host: by hand, or by the timer.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::note::remember;
use super::{Args, failed, hold, identities, keys};
use crate::bootstrap::backup::{
    BackupName, Depot, DrillSettings, Identities, Logbook, Report, SETTINGS, Settings, Stored,
};
use crate::cli::{CliError, output};

pub(super) async fn run(args: &Args) -> Result<Report, CliError> {
    if let Some(file) = &args.config {
        return by_timer(args, file).await;
    }
    let settings = Settings::load(Path::new(SETTINGS));
    let (folder, book) = match (&args.directory, settings) {
        // Whoever names a folder may mean anyone's.
        (Some(folder), _) => (folder.clone(), None),
        (None, Ok(settings)) => (settings.directory.clone(), Some(settings.logbook())),
        (None, Err(error)) => return Err(CliError::Usage(format!("{error}, or give --directory"))),
    };
    let begin = Instant::now();
    let (folder, stored) = pick(&[folder], None, args.name.as_ref())?;
    let report = with(&folder, stored, keys(args)?).await?;
    if let Some(book) = book {
        note(&book, report.passed, begin);
    }
    Ok(report)
}

/// Whatever comes of it is remembered.
async fn by_timer(args: &Args, file: &Path) -> Result<Report, CliError> {
    let settings = DrillSettings::load(file).map_err(|error| CliError::Usage(error.to_string()))?;
    let begin = Instant::now();
    let work = async {
        let keys = match (&args.identity, &settings.identity_file) {
            (None, Some(file)) => identities(&read(file)?, &file.display().to_string())?,
            _ => keys(args)?,
        };
        let cluster = Some(settings.cluster.as_str());
        let (folder, stored) = pick(&settings.folders, cluster, args.name.as_ref())?;
        with(&folder, stored, keys).await
    };
    let report = work.await;
    note(&settings.logbook(), report.as_ref().is_ok_and(|report| report.passed), begin);
    report
}

fn read(file: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(file)
        .map_err(|error| CliError::Failed(format!("{}: {error}", file.display())))
}

/// The drill is as good without it.
fn note(book: &Logbook, passed: bool, begin: Instant) {
    if let Err(error) = remember(book, passed, begin.elapsed()) {
        output::complain(&format!("the metrics cannot be written: {error}"));
    }
}

/// The backup of this name, or the newest that is whole, in one of these folders.
fn pick(
    folders: &[PathBuf],
    cluster: Option<&str>,
    name: Option<&BackupName>,
) -> Result<(PathBuf, Stored), CliError> {
    let mut found: Option<(PathBuf, Stored)> = None;
    for folder in folders {
        let Some(depot) = Depot::existing(folder) else { continue };
        let stored = if let Some(name) = name {
            depot.find(name)
        } else {
            let all = depot.list().map_err(|error| failed(&error))?;
            let ours = |one: &Stored| cluster.is_none_or(|name| one.name.cluster == name);
            all.into_iter().find(|one| ours(one) && one.is_good())
        };
        let newer = |stored: &Stored| {
            found.as_ref().is_none_or(|(_, other)| {
                (stored.fault.is_none(), &stored.name) > (other.fault.is_none(), &other.name)
            })
        };
        if let Some(stored) = stored.filter(newer) {
            found = Some((folder.clone(), stored));
        }
    }
    found.ok_or_else(|| {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        CliError::Failed(format!("there is no such backup in {}", folders.join(" or ")))
    })
}

async fn with(folder: &Path, stored: Stored, keys: Identities) -> Result<Report, CliError> {
    match (stored.label, stored.fault) {
        (Some(label), None) => hold(&folder.join(label.file()), &label, keys).await,
        (_, fault) => {
            let fault = fault.unwrap_or_default();
            Err(CliError::Failed(format!("{} did not pass: {fault}", stored.name)))
        }
    }
}
