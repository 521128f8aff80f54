//! Copies in an object store that understands S3: whole ones, read back after they were sent. The label
//! goes last, so that what was cut off is never taken for a backup.

mod access;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::bundle::Summed;
use super::copies::Keeper;
use super::depot::{Depot, Stored};
use super::manifest::{Label, bundle_file, label_file, sum_file};
use super::name::BackupName;
use super::prune::{Kept, Rules, superfluous};
use requests::{Object, Store};

pub use access::{BucketSettings, CREDENTIALS, Credentials};
pub use requests::BucketError;

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
            None => Err("it was cut off: it has no label".to_owned()),
            Some(object) => Label::parse(&self.store.read(&object.key)?).and_then(|label| {
                let other = &label.manifest.name;
                if *other == name { Ok(label) } else { Err(format!("its label is that of {other}")) }
            }),
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

    fn compare(&self, label: &Label) -> Result<(), String> {
        self.copy(label, &mut io::sink()).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Writes a bundle here, and compares it with its checksum on the way.
    ///
    /// # Errors
    /// If it does not come as it was sent, or cannot be written here.
    pub fn fetch(&self, label: &Label, to: &Path) -> Result<(), BucketError> {
        let mut file = File::create_new(to).map_err(BucketError::Here)?;
        self.copy(label, &mut file)
    }

    fn copy(&self, label: &Label, to: &mut dyn io::Write) -> Result<(), BucketError> {
        let body = self.store.get(&self.key(&label.file()))?;
        let mut body = Summed::new(body);
        io::copy(&mut body, to).map_err(BucketError::Here)?;
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
        let gone = superfluous(cluster, &kept(self.list(cluster)?), rules);
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

fn kept(all: Vec<Stored>) -> Vec<Kept> {
    let here = |stored: &Stored| {
        let since = UNIX_EPOCH + std::time::Duration::from_secs(stored.since);
        SystemTime::now().duration_since(since).unwrap_or_default().as_secs()
    };
    let each = all.into_iter().map(|stored| Kept {
        here: here(&stored),
        good: stored.is_good(),
        name: stored.name,
    });
    each.collect()
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
        let text = |error: BucketError| error.to_string();
        let mut file = File::open(&bundle).map_err(|error| error.to_string())?;
        self.store.put(&self.key(&label.file()), label.size, &mut file).map_err(text)?;
        self.compare(label)?;
        let sum = format!("{}  {}\n", label.sha256, label.file());
        let json = label.to_json()?;
        for (file, content) in [
            (sum_file(&label.file()), sum.as_bytes()),
            (label_file(&label.manifest.name), json.as_slice()),
        ] {
            let mut content: &mut dyn Read = &mut &*content;
            let size = if file.ends_with(".json") { json.len() } else { sum.len() };
            self.store.put(&self.key(&file), size as u64, &mut content).map_err(text)?;
        }
        Ok(())
    }

    /// Several hosts bring theirs: what would go again at once is not brought.
    fn wants(&self, there: &[Stored], keep: usize, stored: &Stored) -> bool {
        let good = there.iter().filter(|other| other.is_good() && other.name > stored.name);
        good.count() < keep
    }
}
