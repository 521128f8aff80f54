//! A cluster file that is to be changed: what it will say then, shown before it is written.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::edit::{EditError, with_replacement, with_version};
use super::{Cluster, Host, Loaded, SourceFile, SpecError, Version, name_of, parse_file};

/// A cluster file, and the table of hosts that it may name, with new texts, which were read again and
/// say what was wished.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The cluster file first.
    texts: Vec<Text>,
    cluster: Cluster,
}

/// A file before and after.
#[derive(Clone, Debug)]
struct Text {
    path: PathBuf,
    before: String,
    after: String,
}

/// Why there is no draft.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// The file, or the new text, is no valid cluster.
    #[error("{0}")]
    Spec(#[from] SpecError),
    /// The text cannot be changed by us.
    #[error("{0}")]
    Edit(#[from] EditError),
}

impl Draft {
    /// The file with another version of Kubernetes.
    ///
    /// # Errors
    /// It cannot be changed, or that version is not supported.
    pub fn with_version(said: &Loaded, version: Version) -> Result<Self, DraftError> {
        let (path, before) = said.file.clone();
        let after = with_version(&before, version)?;
        let wished = Cluster { kubernetes_version: version, ..said.cluster.clone() };
        let table = said.table.clone();
        let table = table.map(|(path, rows)| Text { path, before: rows.clone(), after: rows });
        Self::of([Text { path, before, after }].into_iter().chain(table).collect(), wished)
    }

    /// The file in which `new` has the place of `old`, as `wished` has it.
    ///
    /// # Errors
    /// It cannot be changed, or what comes out is no valid cluster.
    pub fn with_replacement(
        said: &Loaded,
        wished: &Cluster,
        old: &str,
        new: &Host,
    ) -> Result<Self, DraftError> {
        Self::with_replacements(said, wished, &[(old.to_owned(), new.clone())])
    }

    /// The file in which several hosts have the places of others, as `wished` has it.
    ///
    /// # Errors
    /// As [`Draft::with_replacement`].
    pub fn with_replacements(
        said: &Loaded,
        wished: &Cluster,
        pairs: &[(String, Host)],
    ) -> Result<Self, DraftError> {
        let (path, before) = said.file.clone();
        let (table, rows) = said.table.clone().unzip();
        let (mut after, mut new_rows) = (before.clone(), rows.clone());
        for (old, new) in pairs {
            // One that is not there was replaced before.
            if parse_file(&path, &after, new_rows.as_deref())?.host(old).is_some() {
                let (text, table) = with_replacement(&after, new_rows.as_deref(), old, new)?;
                (after, new_rows) = (text, table.or(new_rows));
            }
        }
        let mut texts = vec![Text { path, before, after }];
        if let (Some(path), Some(before), Some(after)) = (table, rows, new_rows) {
            texts.push(Text { path, before, after });
        }
        Self::of(texts, wished.clone())
    }

    /// Reads the new texts again.
    fn of(texts: Vec<Text>, wished: Cluster) -> Result<Self, DraftError> {
        let [file, rest @ ..] = texts.as_slice() else {
            return Err(odd("no file"));
        };
        let table = rest.first().map(|table| table.after.as_str());
        let cluster = parse_file(&file.path, &file.after, table)?;
        if in_order(cluster.clone()) != in_order(wished) {
            return Err(odd(&file.path.display().to_string()));
        }
        Ok(Self { texts, cluster })
    }

    /// The cluster of the new text.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The cluster file.
    pub fn path(&self) -> &Path {
        self.texts.first().map_or(Path::new(""), |text| &text.path)
    }

    /// The new texts.
    pub fn sources(&self) -> Vec<SourceFile> {
        let source =
            |text: &Text| SourceFile { name: name_of(&text.path), content: text.after.clone() };
        self.texts.iter().map(source).collect()
    }

    /// What changes in the files; none if nothing does.
    pub fn diff(&self) -> Option<String> {
        let changed = self.texts.iter().filter(|text| text.before != text.after);
        let diff = |Text { path, before, after }: &Text| {
            let diff = similar::TextDiff::from_lines(before, after);
            let name = path.display().to_string();
            diff.unified_diff().context_radius(1).header(&name, &name).to_string()
        };
        let diffs: String = changed.map(diff).collect();
        (!diffs.is_empty()).then_some(diffs)
    }

    /// Writes the new texts in the place of the old ones, each as a whole, with its permissions; behind a
    /// link, where that leads.
    ///
    /// # Errors
    /// A file cannot be written, or was changed by somebody else in the meantime.
    pub fn write(&self) -> io::Result<()> {
        let changed: Vec<_> = self.texts.iter().filter(|text| text.before != text.after).collect();
        for text in &changed {
            if fs::read_to_string(&text.path)? != text.before {
                return Err(io::Error::other("it was changed in the meantime; run this again"));
            }
        }
        // A table without its file says less than a file without its table.
        changed.into_iter().rev().try_for_each(Text::write)
    }
}

impl Text {
    fn write(&self) -> io::Result<()> {
        let path = fs::canonicalize(&self.path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::metadata(&path)?.permissions())
            .tempfile_in(folder)?;
        file.write_all(self.after.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

fn odd(what: &str) -> DraftError {
    let reason = format!("{what} is written in a way that is not understood");
    let remedy = "change it by hand, and run this again".to_owned();
    EditError { reason, remedy }.into()
}

/// The hosts by their names: in which order a file has them means nothing here.
fn in_order(mut cluster: Cluster) -> Cluster {
    cluster.hosts.sort_by(|one, other| one.name.cmp(&other.name));
    cluster
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::bootstrap::spec::{Topology, example};

    fn read(path: &Path) -> Loaded {
        Loaded::read(path).unwrap()
    }

    #[test]
    fn a_file_is_written_as_a_whole_with_its_permissions_and_only_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.yaml");
        let link = folder.path().join("cluster.yaml");
        let text = example(Topology::Stacked, "prod");
        fs::write(&real, &text).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let draft = Draft::with_version(&read(&link), Version::new(1, 35, 1)).unwrap();
        assert_eq!(draft.cluster().kubernetes_version, Version::new(1, 35, 1));
        let diff = draft.diff().unwrap();
        assert!(
            diff.contains("-  kubernetesVersion: v1.34.2\n+  kubernetesVersion: v1.35.1\n"),
            "{diff}"
        );
        draft.write().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&real).unwrap(), text.replace("v1.34.2", "v1.35.1"));
        assert!(draft.write().unwrap_err().to_string().contains("run this again"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
        let same = Draft::with_version(&read(&link), Version::new(1, 35, 1)).unwrap();
        assert_eq!(same.diff(), None);
        same.write().unwrap();
    }

    #[test]
    fn what_would_be_no_cluster_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        fs::write(&path, example(Topology::Stacked, "prod")).unwrap();
        let error =
            Draft::with_version(&read(&path), Version::new(1, 99, 0)).unwrap_err().to_string();
        assert!(error.contains("v1.99.0 is not supported"), "{error}");
        // Not what the caller wished: nothing that is not understood is written.
        let said = read(&path);
        let after = said.cluster.clone();
        let new = after.host("s1").unwrap().clone();
        let error = Draft::with_replacement(&said, &after, "w1", &new).unwrap_err().to_string();
        assert!(error.contains("change it by hand"), "{error}");
    }

    #[test]
    fn all_of_a_run_is_by_the_text_that_was_read_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.yaml");
        let text = example(Topology::Stacked, "prod")
            .replace("  hosts:", "  hostsFrom: more.csv\n  hosts:");
        fs::write(&path, &text).unwrap();
        fs::write(folder.path().join("more.csv"), "name,address\nw9,10.0.9.9\n").unwrap();
        let loaded = read(&path);
        fs::write(&path, text.replace("v1.34.2", "v1.33.0")).unwrap();
        fs::write(folder.path().join("more.csv"), "name,address\nw8,10.0.9.8\n").unwrap();
        assert!(loaded.cluster.host("w9").is_some());
        let sources = loaded.sources();
        assert_eq!((&sources[0].content, sources[1].name.as_str()), (&text, "more.csv"));
        assert!(sources[1].content.contains("w9"));
        // What is made of it is made of that text, and not written over another.
        let draft = Draft::with_version(&loaded, Version::new(1, 35, 1)).unwrap();
        assert!(draft.cluster().host("w9").is_some());
        assert!(draft.sources()[1].content.contains("w9"));
        assert!(draft.write().unwrap_err().to_string().contains("in the meantime"));
    }
}
