//! The bucket, against a store of this test that keeps objects in memory.

#[path = "../../../../tests/common/object_store.rs"]
#[expect(unreachable_pub, reason = "the integration tests have it too")]
mod object_store;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::MutexGuard;
use std::time::Duration;
use std::{fs, io};

use super::super::Copied;
use super::super::manifest::made;
use super::*;
use object_store::{BUCKET, CREDENTIALS as KEYS, Kept as Inside, ObjectStore};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct World {
    folder: tempfile::TempDir,
    store: ObjectStore,
    settings: BucketSettings,
}

impl World {
    fn new() -> Self {
        Self::at(ObjectStore::start(HERE, None), "http", None)
    }

    fn at(store: ObjectStore, scheme: &str, authority: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let settings = BucketSettings {
            endpoint: format!("{scheme}://{}", store.address),
            bucket: BUCKET.to_owned(),
            prefix: "etcd/prod".to_owned(),
            region: "us-east-1".to_owned(),
            credentials_file: file("keys", KEYS),
            ca_file: authority.map(|pem| file("ca.crt", &pem)),
        };
        Self { folder, store, settings }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.store.kept.lock().unwrap()
    }

    fn bucket(&self) -> Bucket {
        Bucket::open(&self.settings).unwrap()
    }

    fn depot(&self) -> Depot {
        Depot::open(&self.folder.path().join("depot")).unwrap()
    }

    /// A backup of this day with a bundle of this length.
    fn back_up(&self, day: u64, size: usize) -> Label {
        let bundle: Vec<u8> = (0_u8..251).cycle().take(size).collect();
        let mut summed = Summed::new(bundle.as_slice());
        io::copy(&mut summed, &mut io::sink()).unwrap();
        let label = made::label(day * 86_400, size as u64, &summed.sum());
        self.depot().put(&label, &mut bundle.as_slice()).unwrap();
        label
    }

    fn bring(&self, keep: usize) -> Copied {
        let depot = self.depot();
        self.bucket().bring("prod", keep, &depot, &depot.list().unwrap())
    }

    /// Why the bucket does not say what it has.
    fn why(&self) -> String {
        match Bucket::open(&self.settings) {
            Ok(bucket) => bucket.list("prod").unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    fn days(&self) -> Vec<u64> {
        let all = self.bucket().list("prod").unwrap();
        all.iter().map(|stored| stored.name.seconds / 86_400).collect()
    }
}

#[test]
fn copies_go_there_are_read_back_fetched_and_pruned() {
    let world = World::new();
    // Pages of a list are put together.
    world.inside().page = Some(2);
    let labels = [1, 2, 3].map(|day| world.back_up(day, 5000));
    let copied = world.bring(2);
    assert_eq!((copied.host.as_str(), copied.sent, copied.fault), ("s3://backups", 3, None));
    let again = world.bring(2);
    assert_eq!((again.sent, again.fault), (0, None), "it has them");
    assert_eq!(world.days(), [3, 2, 1]);
    let bucket = world.bucket();
    let all = bucket.list("prod").unwrap();
    assert!(all.iter().all(|stored| bucket.examine(stored.clone()).is_intact()));
    assert!(bucket.list("pro").unwrap().is_empty(), "another cluster's are not ours");

    let to = world.folder.path().join("fetched");
    bucket.fetch(&labels[2], &to).unwrap();
    assert_eq!(fs::read(to).unwrap(), fs::read(world.depot().path(&labels[2].file())).unwrap());

    assert_eq!(bucket.prune("prod", 2).unwrap(), [labels[0].manifest.name.clone()]);
    assert_eq!(world.days(), [3, 2]);
    assert_eq!(world.bring(2).sent, 0, "what would go again at once is not brought");
    let left = world.store.keys();
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().all(|key| key.starts_with("etcd/prod/prod-")), "{left:?}");
    let posts = world.inside().requests.iter().filter(|one| one.starts_with("POST")).count();
    assert_eq!(posts, 6, "long ones go in parts");
    assert!(world.inside().uploads.is_empty());
}

#[test]
fn a_private_authority_is_trusted_if_it_is_named() {
    let (tls, authority) = ObjectStore::private_authority(HERE);
    let mut world = World::at(ObjectStore::start(HERE, Some(tls)), "https", Some(authority));
    world.back_up(1, 5000);
    assert_eq!(world.bring(2).fault, None);
    assert_eq!(world.days(), [1]);
    let (_, another) = ObjectStore::private_authority(HERE);
    let ca_file = world.settings.ca_file.clone().unwrap();
    fs::write(&ca_file, another).unwrap();
    let told = world.why();
    assert!(told.contains("certificate") && told.contains("; see `caFile`"), "{told}");
    fs::write(&ca_file, "nothing").unwrap();
    let told = world.why();
    assert!(told.contains("it has no certificate; name a file of certificates"), "{told}");
    world.settings.ca_file = Some("/none".into());
    assert!(world.why().starts_with("/none: No such file"), "{}", world.why());
}

#[test]
fn what_is_spoilt_or_cut_off_is_told() {
    let world = World::new();
    let label = world.back_up(1, 300);
    world.inside().spoils = true;
    let fault = world.bring(9).fault.unwrap();
    assert!(fault.ends_with(".tar is damaged: its checksum does not fit"), "{fault}");
    let fault = || world.bucket().list("prod").unwrap().remove(0).fault.unwrap();
    assert_eq!(fault(), "it has no label: it was cut off, or is still being sent");
    world.inside().spoils = false;
    assert_eq!(world.bring(9).sent, 1, "the next run brings it");

    let bucket = world.bucket();
    let found = bucket.list("prod").unwrap().remove(0);
    world.store.change(".tar", |bundle| bundle[7] ^= 1);
    let examined = bucket.examine(found).fault.unwrap();
    assert!(examined.ends_with("its checksum does not fit"), "{examined}");
    let to = world.folder.path().join("fetched");
    let refused = bucket.fetch(&label, &to).unwrap_err();
    assert!(matches!(refused, BucketError::Damaged(_)), "{refused}");
    world.store.change(".tar", |bundle| bundle.truncate(299));
    assert_eq!(fault(), "it has 299 bytes in place of 300");
    let key = format!("etcd/prod/{}", label.file());
    world.inside().objects.remove(&key);
    assert_eq!(fault(), "its bundle is missing");
    assert_eq!(world.bring(9).sent, 1, "what was lost there is brought again");
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_leaves_no_parts() {
    let world = World::new();
    world.back_up(1, 5000);
    world.inside().refusals =
        vec![("GET", 503, "SlowDown"), ("POST", 500, "InternalError"), ("PUT", 503, "SlowDown")];
    world.inside().cuts = 1;
    assert_eq!(world.bring(9).fault, None);
    assert!(world.inside().refusals.is_empty());
    world.back_up(2, 5000);
    // The second part does not fit.
    world.inside().refusals = vec![("PUT", 507, "XMinioStorageFull")];
    let fault = world.bring(9).fault.unwrap();
    assert!(
        fault.ends_with("refused it (507 XMinioStorageFull); make room there or give it more: no backup was removed"),
        "{fault}"
    );
    assert!(world.inside().uploads.is_empty(), "it was aborted");
    assert_eq!(world.days(), [1]);
    world.inside().refusals = vec![("PUT", 503, "SlowDown"); 3];
    let fault = world.bring(9).fault.unwrap();
    assert!(fault.ends_with("(503 SlowDown); the next run tries it again"), "{fault}");
    assert_eq!(world.depot().list().unwrap().len(), 2, "here they stay");
}

#[test]
fn the_last_good_ones_stay() {
    let world = World::new();
    for day in 1..=4 {
        world.back_up(day, 300);
    }
    assert_eq!(world.bring(9).sent, 4);
    let newest = world.bucket().list("prod").unwrap().remove(0);
    let key = format!("etcd/prod/{}", label_file(&newest.name));
    world.inside().objects.remove(&key);
    assert_eq!(world.bucket().prune("prod", 1).unwrap().len(), 2, "the third is the last good one");
    assert_eq!(world.days(), [4, 3]);
    world.back_up(5, 300);
    assert_eq!(world.bring(1).sent, 2, "the fourth is brought again");
    world.inside().refusals = vec![("DELETE", 403, "AccessDenied")];
    let told = world.bucket().prune("prod", 1).unwrap_err().to_string();
    assert!(told.contains("must have the right to list, read, write and remove there"), "{told}");
    assert_eq!(world.days(), [5, 4, 3]);
    assert_eq!(world.bucket().prune("prod", 0).unwrap().len(), 2, "one always stays");
    assert_eq!(world.days(), [5]);
}

#[test]
fn one_from_the_future_stands_in_nobodys_place() {
    let world = World::new();
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    for day in [1, today + 10, today + 900] {
        world.back_up(day, 300);
    }
    assert_eq!(world.bring(1).sent, 3);
    world.back_up(today, 300);
    assert_eq!(world.bring(1).sent, 1);
    world.bucket().prune("prod", 1).unwrap();
    assert_eq!(world.days(), [today + 900, today + 10, today]);
    world.back_up(2, 300);
    assert_eq!(world.bring(1).sent, 0, "today's stands before it");
}

#[test]
fn refusals_say_what_to_do() {
    let mut world = World::new();
    let keys = world.settings.credentials_file.clone();
    world.inside().refusals = vec![("GET", 403, "AccessDenied")];
    let told = world.why();
    assert!(told.contains("must have the right to list, read, write and remove there"), "{told}");
    world.inside().ahead = Duration::from_hours(3);
    let told = world.why();
    assert!(told.contains("(403 RequestTimeTooSkewed); this host's clock is "), "{told}");
    assert!(told.ends_with(" behind the store's: set it right (timedatectl)"), "{told}");
    world.inside().ahead = Duration::ZERO;
    world.settings.bucket = "other".to_owned();
    let told = world.why();
    assert!(told.ends_with("(404 NoSuchBucket); make the bucket, or mend `bucket`"), "{told}");
    fs::write(&keys, "aws_access_key_id = AKIATEST\naws_secret_access_key = Y\n").unwrap();
    let told = world.why();
    assert!(told.contains("(403 SignatureDoesNotMatch); the key in "), "{told}");
    fs::write(&keys, "aws_access_key_id = X\naws_secret_access_key = Y\n").unwrap();
    let told = world.why();
    assert!(told.contains("(403 InvalidAccessKeyId); the key in "), "{told}");
    fs::write(&keys, "[other]\naws_access_key_id = X\n").unwrap();
    let told = world.why();
    assert!(told.contains("it has no `aws_access_key_id` in its profile `default`"), "{told}");
    fs::remove_file(&keys).unwrap();
    assert!(world.why().contains("keys: No such file"), "{}", world.why());
    fs::write(&keys, KEYS).unwrap();
    world.inside().down = true;
    let told = world.why();
    assert!(told.starts_with(&format!("{}: ", world.settings.endpoint)), "{told}");
    world.settings.endpoint = "http://127.0.0.1:1".to_owned();
    let told = world.why();
    assert!(told.starts_with("http://127.0.0.1:1: Connection refused"), "{told}");
}
