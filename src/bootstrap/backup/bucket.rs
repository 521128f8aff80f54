//! Copies in an object store that understands S3: whole ones, read back after they were sent. The label
//! goes last, so that what was cut off is never taken for a backup.

mod access;
mod answers;
mod fault;
mod requests;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bundle::Summed;
use super::copies::Keeper;
use super::depot::{Depot, Stored};
use super::manifest::{Label, bundle_file, label_file, sum_file};
use super::name::BackupName;
use super::prune::{Kept, Rules, superfluous};
use answers::Object;
use requests::Store;

pub use access::{BucketSettings, CREDENTIALS};
pub use fault::BucketError;

/// What is said of one that came half, or is just coming.
const NO_LABEL: &str = "it has no label: it was cut off, or is still being sent";

/// How much of a bundle is read at once.
const PIECE: usize = 64 << 10;

/// A bucket, or what begins with a prefix in one.
#[derive(Debug)]
pub struct Bucket {
    store: Store,
    prefix: String,
    name: String,
}

impl Bucket {
    /// The way to it. Nothing is asked of it yet.
    ///
    /// # Errors
    /// If the credentials or the authorities cannot be read.
    pub fn open(settings: &BucketSettings) -> Result<Self, BucketError> {
        let store = Store::open(settings)?;
        Ok(Self { store, prefix: settings.prefix.clone(), name: settings.to_string() })
    }

    fn key(&self, file: &str) -> String {
        if self.prefix.is_empty() { file.to_owned() } else { format!("{}/{file}", self.prefix) }
    }

    /// All backups of a cluster, the newest first, as their labels tell.
    ///
    /// # Errors
    /// If it does not say.
    pub fn list(&self, cluster: &str) -> Result<Vec<Stored>, BucketError> {
        let prefix = self.key(&format!("{cluster}-"));
        let mut found: BTreeMap<BackupName, BTreeMap<String, Object>> = BTreeMap::new();
        for object in self.store.list(&prefix)? {
            let file = object.key.rsplit('/').next().unwrap_or_default().to_owned();
            let stem = [".tar.age", ".tar", ".json"].iter().find_map(|end| file.strip_suffix(end));
            let name = stem.and_then(|stem| stem.parse::<BackupName>().ok());
            if let Some(name) = name.filter(|name| name.cluster == cluster) {
                found.entry(name).or_default().insert(file, object);
            }
        }
        let look = |(name, files)| self.look(name, &files);
        found.into_iter().rev().map(look).collect()
    }

    fn look(
        &self,
        name: BackupName,
        files: &BTreeMap<String, Object>,
    ) -> Result<Stored, BucketError> {
        let label = match files.get(&label_file(&name)) {
            None => Err(NO_LABEL.to_owned()),
            Some(object) => match self.store.read(&object.key) {
                // Another host has just removed it.
                Err(error) if error.is_absence() => Err(NO_LABEL.to_owned()),
                read => Label::parse(&read?).and_then(|label| {
                    let other = &label.manifest.name;
                    let same = *other == name;
                    if same { Ok(label) } else { Err(format!("its label is that of {other}")) }
                }),
            },
        };
        let bundle = [true, false].into_iter().find_map(|encrypted| {
            let right = label.as_ref().map_or(true, |label| label.encrypted == encrypted);
            files.get(&bundle_file(&name, encrypted)).filter(|_| right)
        });
        let fault = match (&label, bundle) {
            (_, None) => Some("its bundle is missing".to_owned()),
            (Err(why), _) => Some(why.clone()),
            (Ok(label), Some(bundle)) if bundle.size != label.size => {
                Some(format!("it has {} bytes in place of {}", bundle.size, label.size))
            }
            _ => None,
        };
        let (size, since) = bundle.map_or((0, 0), |bundle| (bundle.size, bundle.since));
        Ok(Stored { name, label: label.ok(), size, since, examined: false, fault })
    }

    /// The same after its bundle was read and compared with its checksum.
    pub fn examine(&self, stored: Stored) -> Stored {
        let Some(label) = stored.label.as_ref().filter(|_| stored.fault.is_none()) else {
            return Stored { examined: true, ..stored };
        };
        let fault = self.compare(label).err();
        Stored { examined: true, fault, ..stored }
    }

    /// Reads it, and compares it with its checksum.
    fn compare(&self, label: &Label) -> Result<(), String> {
        let read = self.store.patiently(|_| self.copy(label, |_| Ok(())));
        read.map_err(|error| match error {
            BucketError::Damaged(_) => error.to_string(),
            other => format!("it cannot be read: {other}"),
        })
    }

    /// Writes a bundle here, and compares it with its checksum on the way.
    ///
    /// # Errors
    /// If it does not come as it was sent, or cannot be written here.
    pub fn fetch(&self, label: &Label, to: &Path) -> Result<(), BucketError> {
        let here = |source| BucketError::Here { path: to.to_owned(), source };
        self.store.patiently(|_| {
            let mut file = File::create(to).map_err(here)?;
            self.copy(label, |bytes| file.write_all(bytes).map_err(here))
        })
    }

    fn copy(
        &self,
        label: &Label,
        mut write: impl FnMut(&[u8]) -> Result<(), BucketError>,
    ) -> Result<(), BucketError> {
        let mut body = Summed::new(self.store.get(&self.key(&label.file()))?);
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece).map_err(|error| self.store.silent(error.into()))? {
                0 => break,
                length => write(&piece[..length])?,
            }
        }
        let whole = body.len() == label.size && body.sum() == label.sha256;
        if whole { Ok(()) } else { Err(BucketError::Damaged(label.file())) }
    }

    /// Removes the backups of a cluster that are superfluous. Only when all that should be there was just
    /// found to be there: nothing is read again before it goes.
    ///
    /// # Errors
    /// If one cannot be removed. The others stay too.
    pub fn prune(&self, cluster: &str, keep: usize) -> Result<Vec<BackupName>, BucketError> {
        let rules = Rules { keep, at_least: 0 };
        let time = SystemTime::now();
        let now = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let each = self.list(cluster)?.into_iter().map(|stored| Kept {
            here: now.saturating_sub(stored.since),
            good: stored.stands(time),
            name: stored.name,
        });
        let gone = superfluous(cluster, &each.collect::<Vec<_>>(), rules);
        for name in &gone {
            // Without its label it is none any more.
            let bundles = [true, false].map(|encrypted| bundle_file(name, encrypted));
            let sums = bundles.each_ref().map(|bundle| sum_file(bundle));
            for file in [label_file(name)].into_iter().chain(bundles).chain(sums) {
                self.store.remove(&self.key(&file))?;
            }
        }
        Ok(gone)
    }
}

impl Keeper for Bucket {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn list(&self, cluster: &str) -> Result<Vec<Stored>, String> {
        Self::list(self, cluster).map_err(|error| error.to_string())
    }

    fn put(&self, depot: &Depot, stored: &Stored) -> Result<(), String> {
        let label = stored.label.as_ref().ok_or("it has no label")?;
        let bundle = depot.path(&label.file());
        let key = self.key(&label_file(&label.manifest.name));
        let found = match self.store.read(&key) {
            Err(error) if error.is_absence() => None,
            read => Label::parse(&read.map_err(|error| error.to_string())?).ok(),
        };
        if found.is_some_and(|found| found.sha256 != label.sha256) {
            return Err(
                "there is another backup of this name, which is left as it is: give each cluster \
                        a prefix of its own (spec.etcd.backup.s3.prefix)"
                    .to_owned(),
            );
        }
        let text = |error: BucketError| error.to_string();
        let mut file =
            File::open(&bundle).map_err(|error| format!("{}: {error}", bundle.display()))?;
        self.store.put(&self.key(&label.file()), label.size, &mut file, &bundle).map_err(text)?;
        self.compare(label)?;
        let sum = format!("{}  {}\n", label.sha256, label.file());
        let json = label.to_json()?;
        for (file, content) in [
            (sum_file(&label.file()), sum.as_bytes()),
            (label_file(&label.manifest.name), json.as_slice()),
        ] {
            let (key, size) = (self.key(&file), content.len() as u64);
            self.store
                .put(&key, size, &mut Cursor::new(content), Path::new(&file))
                .map_err(text)?;
            if self.store.read(&key).map_err(text)? != content {
                return Err(BucketError::Damaged(file).to_string());
            }
        }
        Ok(())
    }
}
