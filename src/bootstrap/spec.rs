//! What is wished: the cluster of one file, validated.

mod cidr;
mod cluster;
mod credentials;
mod cron;
mod csv;
mod draft;
mod edit;
mod error;
mod example;
mod fleet;
mod inputs;
mod overrides;
mod range;
mod recipient;
mod reference;
mod schema;
mod selection;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;
mod validate;
mod version;
mod word;

use std::path::{Path, PathBuf};

use crate::config::{Document, read_text};

pub use cluster::{
    Artifacts, Cluster, Cni, Endpoint, Etcd, EtcdBackup, EtcdDrill, Extension, ExtensionKind, Host,
    Monitoring, Network, Placement, Role, S3, Ssh, Taint, Topology,
};
pub use credentials::Credentials;
pub use cron::{CronFields, cron_fields};
pub use draft::{Draft, DraftError};
pub use edit::EditError;
pub use error::{FileFaults, SpecError};
pub use example::example;
pub use fleet::{FLEET, Fleet, Member, Wave};
pub use overrides::Overrides;
pub use range::{Pattern, RangeError};
pub use reference::{reference, reference_markdown};
pub use schema::schema;
pub use selection::{Selection, SelectionError};
pub use syntax::is_label as is_cluster_name;
pub use version::{Version, VersionError};

/// The `kind` of a cluster file.
pub const KIND: &str = "Cluster";

/// Reads a cluster from a file, and from the table of hosts that it may name.
///
/// # Errors
///
/// The file cannot be read or is no valid cluster: all its faults are told at once.
pub fn load(path: &Path) -> Result<Cluster, SpecError> {
    Loaded::read(path).map(|loaded| loaded.cluster)
}

/// Reads a cluster from the text of this file, and from that of its table of hosts in place of what the
/// table says.
fn parse_file(path: &Path, text: &str, table: Option<&str>) -> Result<Cluster, SpecError> {
    let base = path.parent().unwrap_or(Path::new(""));
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    parse_with(&path.display().to_string(), text, (base, home.as_deref()), table)
}

/// Reads a cluster from the text of a file called `name`. Relative paths in it start from `base`,
/// and `~` stands for `home`.
///
/// # Errors
///
/// As [`load`].
pub fn parse(
    name: &str,
    text: &str,
    base: &Path,
    home: Option<&Path>,
) -> Result<Cluster, SpecError> {
    parse_with(name, text, (base, home), None)
}

fn parse_with(
    name: &str,
    text: &str,
    (base, home): (&Path, Option<&Path>),
    rows: Option<&str>,
) -> Result<Cluster, SpecError> {
    let (document, faults) = Document::parse(name, text)?;
    let mut faults = document.expect_kind(KIND, faults)?;
    let Some(raw) = document.read::<shape::File>(&mut faults) else {
        return Err(SpecError::Faults(FileFaults(vec![faults])));
    };
    let around = validate::Surroundings { document: &document, base, home, rows };
    let (cluster, table) = validate::cluster(raw, around, &mut faults);
    let faults: Vec<_> =
        [Some(faults), table].into_iter().flatten().filter(|faults| !faults.is_empty()).collect();
    match cluster {
        Some(cluster) if faults.is_empty() => Ok(cluster),
        _ => Err(SpecError::Faults(FileFaults(faults))),
    }
}

/// A text that a cluster was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its name, without folders.
    pub name: String,
    /// What is in it.
    pub content: String,
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A cluster, and the texts that it was read from. They are read once: whoever changes a file meanwhile
/// changes the next run, not half of this one.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The cluster.
    pub cluster: Cluster,
    /// The file.
    file: (PathBuf, String),
    /// The table of hosts that it names.
    table: Option<(PathBuf, String)>,
}

impl Loaded {
    /// Reads a file, and the table of hosts that it may name.
    ///
    /// # Errors
    /// As [`load`].
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = read_text(path)?;
        let table = edit::table_of(&text);
        let table = table.map(|table| path.parent().unwrap_or(Path::new("")).join(table));
        // Of one that cannot be read, the file is told with the line that names it.
        let table = table.and_then(|table| read_text(&table).ok().map(|rows| (table, rows)));
        let rows = table.as_ref().map(|(_, rows)| rows.as_str());
        let cluster = parse_file(path, &text, rows)?;
        Ok(Self { cluster, file: (path.to_owned(), text), table })
    }

    /// The texts: the file, then its table of hosts.
    pub fn sources(&self) -> Vec<SourceFile> {
        let source = |(path, content): &(PathBuf, String)| SourceFile {
            name: name_of(path),
            content: content.clone(),
        };
        [&self.file].into_iter().chain(&self.table).map(source).collect()
    }
}
