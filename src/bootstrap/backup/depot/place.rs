//! How a bundle comes into a folder: beside its place, checked, made durable, renamed; its label and
//! checksum first, for it counts when the bundle is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::stored::sum_of;
use super::{Depot, DepotError};
use crate::bootstrap::backup::bundle::Summed;
use crate::bootstrap::backup::manifest::{Label, label_file, sum_file};

/// The ending of what is not whole.
pub(super) const PARTIAL: &str = ".partial";

/// A new file that only we may read.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn place(depot: &Depot, label: &Label, input: &mut dyn Read) -> Result<(), DepotError> {
    let file = label.file();
    let partial = depot.path(&format!("{file}{PARTIAL}"));
    let placed =
        take_in(depot, label, input, &partial).and_then(|()| adopt(depot, label, &partial));
    if placed.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&partial);
    }
    placed
}

fn take_in(
    depot: &Depot,
    label: &Label,
    input: &mut dyn Read,
    partial: &Path,
) -> Result<(), DepotError> {
    let fault = |error| depot.fault(&label.file(), error);
    let mut out = Summed::new(create(partial).map_err(fault)?);
    // One byte more than announced shows that it is another.
    io::copy(&mut input.take(label.size + 1), &mut out).map_err(fault)?;
    let torn = |what: String| DepotError::Torn { name: label.manifest.name.clone(), what };
    if out.len() != label.size {
        let more = if out.len() > label.size { "more" } else { "only" };
        let what = format!("{} bytes were announced, and {more} {} came", label.size, out.len());
        return Err(torn(what));
    }
    if out.sum() != label.sha256 {
        return Err(torn("its checksum does not fit".to_owned()));
    }
    Ok(())
}

pub(super) fn adopt(depot: &Depot, label: &Label, bundle: &Path) -> Result<(), DepotError> {
    let file = label.file();
    let fault = |error| depot.fault(&file, error);
    File::open(bundle).and_then(|bundle| bundle.sync_all()).map_err(fault)?;
    // As it is on the disk, not as it is in memory.
    let (size, sum) = sum_of(bundle).map_err(fault)?;
    if (size, &sum) != (label.size, &label.sha256) {
        let what = "it is not on the disk as it was written".to_owned();
        return Err(DepotError::Torn { name: label.manifest.name.clone(), what });
    }
    let json = label.to_json().map_err(DepotError::Label)?;
    small(depot, &label_file(&label.manifest.name), &json)?;
    small(depot, &sum_file(&file), format!("{}  {file}\n", label.sha256).as_bytes())?;
    fs::rename(bundle, depot.path(&file)).map_err(fault)?;
    File::open(depot.folder()).and_then(|folder| folder.sync_all()).map_err(fault)
}

/// Writes a small file as a whole or not at all.
fn small(depot: &Depot, file: &str, content: &[u8]) -> Result<(), DepotError> {
    let partial = depot.path(&format!("{file}{PARTIAL}"));
    let write = || {
        let mut out = create(&partial)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&partial, depot.path(file))
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&partial);
        depot.fault(file, error)
    })
}
