//! A folder of backups: what comes into it, what is told of it, what goes.

use std::time::Duration;

use tempfile::TempDir;

use super::super::bundle::Summed;
use super::super::manifest::made::label;
use super::*;

fn sum(bytes: &[u8]) -> String {
    let mut summed = Summed::new(bytes);
    io::copy(&mut summed, &mut io::sink()).unwrap();
    summed.sum()
}

fn depot() -> (TempDir, Depot) {
    let folder = tempfile::tempdir().unwrap();
    let depot = Depot::open(&folder.path().join("backups")).unwrap();
    (folder, depot)
}

fn put(depot: &Depot, day: u64, bytes: &[u8]) -> Result<Arrival, DepotError> {
    depot.put(&label(day * 86_400, bytes.len() as u64, &sum(bytes)), &mut &*bytes)
}

fn files(depot: &Depot) -> Vec<String> {
    let entries = fs::read_dir(depot.folder()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn faults(depot: &Depot) -> Vec<Option<String>> {
    let all = depot.list().unwrap().into_iter();
    all.map(|stored| depot.examine(stored).fault).collect()
}

#[test]
fn a_backup_comes_with_its_label_and_checksum() {
    let (_folder, depot) = depot();
    assert_eq!(put(&depot, 20_000, b"one").unwrap(), Arrival::New);
    assert_eq!(put(&depot, 20_000, b"one").unwrap(), Arrival::Known);
    let name = "prod-20241004T000000Z-r7";
    let all = [format!("{name}.json"), format!("{name}.tar"), format!("{name}.tar.sha256")];
    assert_eq!(files(&depot), all);
    let told = fs::read_to_string(depot.path(&all[2])).unwrap();
    assert_eq!(told, format!("{}  {name}.tar\n", sum(b"one")));
    let stored = depot.list().unwrap().remove(0);
    assert_eq!((stored.name.to_string().as_str(), stored.size), (name, 3));
    assert!(stored.is_good() && !stored.is_intact());
    assert!(depot.examine(stored).is_intact());
}

/// What comes from a disk that fills up.
struct Full;

impl Read for Full {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn what_does_not_arrive_whole_leaves_nothing() {
    let (_folder, depot) = depot();
    let right = label(86_400, 3, &sum(b"one"));
    let refused = |bytes: &[u8]| depot.put(&right, &mut &*bytes).unwrap_err().to_string();
    assert!(refused(b"on").contains("3 bytes were announced, and only 2 came"));
    assert!(refused(b"ones").contains("and more 4 came"));
    assert!(refused(b"two").contains("its checksum does not fit"));
    assert_eq!(files(&depot), [""; 0]);
    assert!(matches!(depot.put(&right, &mut Full), Err(DepotError::Io { .. })));
    assert_eq!(files(&depot), [""; 0]);
    let large = label(86_400, 1 << 60, &sum(b"one"));
    let refused = depot.put(&large, &mut &b"one"[..]).unwrap_err().to_string();
    assert!(refused.contains("no backup was removed"), "{refused}");
}

#[test]
fn an_intact_one_is_not_replaced_and_a_damaged_one_is() {
    let (_folder, depot) = depot();
    put(&depot, 1, b"one").unwrap();
    assert!(matches!(put(&depot, 1, b"two"), Err(DepotError::Other(_))));
    let name = depot.list().unwrap()[0].name.clone();
    fs::write(depot.path(&bundle_file(&name, false)), b"onf").unwrap();
    assert_eq!(faults(&depot), [Some("it is damaged: its checksum does not fit".to_owned())]);
    assert_eq!(put(&depot, 1, b"one").unwrap(), Arrival::Healed);
    assert_eq!(faults(&depot), [None]);
}

#[test]
fn what_is_wrong_is_told_without_reading_it_all() {
    let (_folder, depot) = depot();
    for day in 1..=4 {
        put(&depot, day, b"one").unwrap();
    }
    let names: Vec<_> = depot.list().unwrap().into_iter().map(|stored| stored.name).collect();
    fs::write(depot.path(&bundle_file(&names[0], false)), b"on").unwrap();
    fs::remove_file(depot.path(&bundle_file(&names[1], false))).unwrap();
    fs::write(depot.path(&label_file(&names[2])), b"{").unwrap();
    fs::write(depot.path("notes.txt"), b"not ours").unwrap();
    let found: Vec<_> = depot.list().unwrap().into_iter().map(|stored| stored.fault).collect();
    assert_eq!(found[0].as_deref(), Some("it has 2 bytes in place of 3"));
    assert_eq!(found[1].as_deref(), Some("its bundle is missing"));
    assert!(found[2].as_ref().unwrap().starts_with("its label cannot be used"));
    assert_eq!(found[3], None);
}

#[test]
fn pruning_keeps_the_good_ones() {
    let (_folder, depot) = depot();
    for day in 1..=4 {
        put(&depot, day, b"one").unwrap();
    }
    let newest = depot.list().unwrap()[0].name.clone();
    fs::write(depot.path(&bundle_file(&newest, false)), b"onf").unwrap();
    let prune = |at_least, cluster: &str| {
        let rules = Rules { keep: 2, at_least };
        depot.prune(cluster, rules, SystemTime::now()).unwrap()
    };
    assert_eq!(prune(0, "other"), []);
    assert_eq!(prune(60, "prod"), [], "they are too new to go");
    let gone: Vec<_> = prune(0, "prod").iter().map(|name| name.seconds / 86_400).collect();
    assert_eq!(gone, [1]);
    assert_eq!(depot.list().unwrap().len(), 3);
    assert_eq!(files(&depot).len(), 9);
}

#[test]
fn one_writes_at_a_time_and_left_overs_go() {
    let (_folder, depot) = depot();
    let locked = depot.lock().unwrap();
    assert!(matches!(depot.lock(), Err(DepotError::Busy(_))));
    let work = depot.work(&locked).unwrap();
    fs::write(work.join("snapshot.db"), b"half").unwrap();
    assert!(depot.work(&locked).unwrap().read_dir().unwrap().next().is_none());
    drop(locked);
    depot.lock().unwrap();
    let since = label(0, 0, "").manifest.name.age(UNIX + Duration::from_secs(5));
    assert_eq!(since, 5);
}

const UNIX: SystemTime = SystemTime::UNIX_EPOCH;
