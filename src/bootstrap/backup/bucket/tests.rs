//! The bucket, against a store of this test that keeps objects in memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::super::manifest::made;
use super::*;

const KEY: &str = "AKIATEST";

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, u16), Vec<u8>>,
    requests: Vec<String>,
    /// Spoils what is sent.
    spoils: bool,
}

type Shared = Arc<Mutex<Objects>>;

fn store() -> (SocketAddr, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::default();
    let kept = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || while serve(&stream.as_ref().unwrap(), &kept).is_some() {});
        }
    });
    (address, shared)
}

/// One request of a connection.
fn serve(stream: &&TcpStream, kept: &Shared) -> Option<()> {
    let mut input = BufReader::new(*stream);
    let mut line = String::new();
    input.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        input.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (status, headers, answer) = answer(method, target, body, &mut kept.lock().unwrap());
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", answer.len());
    let mut output = *stream;
    output.write_all(head.as_bytes()).ok()?;
    output.write_all(&answer).ok()
}

fn answer(
    method: &str,
    target: &str,
    mut body: Vec<u8>,
    kept: &mut Objects,
) -> (u16, String, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap();
    let query: BTreeMap<_, _> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    kept.requests.push(format!("{method} {path}"));
    let error = |status, code: &str| {
        (status, String::new(), format!("<Error><Code>{code}</Code></Error>").into_bytes())
    };
    if !query["X-Amz-Credential"].starts_with(KEY) || query["X-Amz-Signature"].len() != 64 {
        return error(403, "InvalidAccessKeyId");
    }
    let Some(key) = path.strip_prefix("/backups") else { return error(404, "NoSuchBucket") };
    let key = key.trim_start_matches('/').to_owned();
    let done = |body: Vec<u8>| (200, String::new(), body);
    match (method, query.get("uploadId")) {
        ("GET", _) if key.is_empty() => done(list(kept, query["prefix"]).into_bytes()),
        ("GET", _) => match kept.objects.get(&key) {
            Some(object) => done(object.clone()),
            None => error(404, "NoSuchKey"),
        },
        ("PUT", upload) => {
            if let Some(byte) = body.first_mut().filter(|_| kept.spoils) {
                *byte ^= 1;
            }
            match upload {
                None => {
                    kept.objects.insert(key, body);
                }
                Some(_) => {
                    kept.parts.insert((key, query["partNumber"].parse().unwrap()), body);
                }
            }
            (200, "etag: \"tag\"\r\n".to_owned(), Vec::new())
        }
        ("POST", None) => done(
            "<InitiateMultipartUploadResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Bucket>backups</Bucket><Key>x</Key><UploadId>1</UploadId>\
             </InitiateMultipartUploadResult>"
                .into(),
        ),
        ("POST", Some(_)) => {
            let parts = std::mem::take(&mut kept.parts);
            kept.objects.insert(key, parts.into_values().flatten().collect());
            done(b"<CompleteMultipartUploadResult/>".to_vec())
        }
        ("DELETE", _) => {
            kept.objects.remove(&key);
            (204, String::new(), Vec::new())
        }
        _ => error(405, "MethodNotAllowed"),
    }
}

fn list(kept: &Objects, prefix: &str) -> String {
    let prefix = prefix.replace("%2F", "/");
    let mut text =
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for (key, object) in kept.objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        write!(
            text,
            "<Contents><Key>{key}</Key><Size>{}</Size>\
             <LastModified>2026-12-01T06:00:00.000Z</LastModified></Contents>",
            object.len()
        )
        .unwrap();
    }
    text + "<IsTruncated>false</IsTruncated></ListBucketResult>"
}

struct World {
    folder: tempfile::TempDir,
    kept: Shared,
    settings: BucketSettings,
}

impl World {
    fn new() -> Self {
        let (address, kept) = store();
        let folder = tempfile::tempdir().unwrap();
        let credentials_file = folder.path().join("keys");
        let keys = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key=secret\n");
        std::fs::write(&credentials_file, keys).unwrap();
        let settings = BucketSettings {
            endpoint: format!("http://{address}"),
            bucket: "backups".to_owned(),
            prefix: "etcd/prod".to_owned(),
            region: "us-east-1".to_owned(),
            credentials_file,
            ca_file: None,
        };
        Self { folder, kept, settings }
    }

    fn bucket(&self) -> Bucket {
        Bucket::open(&self.settings).unwrap()
    }

    fn depot(&self) -> Depot {
        Depot::open(&self.folder.path().join("depot")).unwrap()
    }

    /// A backup of this day with a bundle of this length.
    fn back_up(&self, day: u64, size: usize) -> Stored {
        let bundle: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut summed = Summed::new(bundle.as_slice());
        io::copy(&mut summed, &mut io::sink()).unwrap();
        let label = made::label(day * 86_400, size as u64, &summed.sum());
        self.depot().put(&label, &mut bundle.as_slice()).unwrap();
        self.depot().find(&label.manifest.name).unwrap()
    }

    fn bring(&self, keep: usize) -> super::super::Copied {
        let depot = self.depot();
        self.bucket().bring("prod", keep, &depot, &depot.list().unwrap())
    }
}

fn days(all: &[Stored]) -> Vec<u64> {
    all.iter().map(|stored| stored.name.seconds / 86_400).collect()
}

#[test]
fn copies_go_there_are_read_back_fetched_and_pruned() {
    let world = World::new();
    for day in 1..=3 {
        world.back_up(day, 5000);
    }
    let copied = world.bring(2);
    assert_eq!((copied.host.as_str(), copied.sent, copied.fault), ("s3://backups", 3, None));
    let again = world.bring(2);
    assert_eq!((again.sent, again.fault), (0, None), "it has them");
    let bucket = world.bucket();
    let all = bucket.list("prod").unwrap();
    assert_eq!(days(&all), [3, 2, 1]);
    assert!(all.iter().all(|stored| bucket.examine(stored.clone()).is_intact()));
    assert!(bucket.list("pro").unwrap().is_empty(), "another cluster's are not ours");

    let to = world.folder.path().join("fetched");
    bucket.fetch(all[0].label.as_ref().unwrap(), &to).unwrap();
    assert_eq!(std::fs::read(to).unwrap().len(), 5000);

    assert_eq!(bucket.prune("prod", 2).unwrap().len(), 1);
    assert_eq!(days(&bucket.list("prod").unwrap()), [3, 2]);
    assert_eq!(world.bring(2).sent, 0, "what would go again at once is not brought");
    let left: Vec<_> = world.kept.lock().unwrap().objects.keys().cloned().collect();
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().all(|key| key.starts_with("etcd/prod/prod-")), "{left:?}");
    let parts = world.kept.lock().unwrap().requests.iter().filter(|r| r.starts_with("POST")).count();
    assert_eq!(parts, 6, "long ones go in parts");
}

#[test]
fn what_is_spoilt_or_cut_off_is_told() {
    let world = World::new();
    world.back_up(1, 300);
    world.kept.lock().unwrap().spoils = true;
    let fault = world.bring(9).fault.unwrap();
    assert!(fault.contains("is damaged: its checksum does not fit"), "{fault}");
    let cut = world.bucket().list("prod").unwrap();
    assert_eq!(cut[0].fault.as_deref(), Some("it was cut off: it has no label"));
    world.kept.lock().unwrap().spoils = false;
    assert_eq!(world.bring(9).sent, 1, "the next run brings it");
    let bucket = world.bucket();
    let found = bucket.list("prod").unwrap().remove(0);
    let key = format!("etcd/prod/{}", found.label.as_ref().unwrap().file());
    world.kept.lock().unwrap().objects.get_mut(&key).unwrap()[7] ^= 1;
    let fault = bucket.examine(found.clone()).fault.unwrap();
    assert!(fault.contains("its checksum does not fit"), "{fault}");
    world.kept.lock().unwrap().objects.get_mut(&key).unwrap().pop();
    let fault = bucket.list("prod").unwrap().remove(0).fault.unwrap();
    assert_eq!(fault, "it has 299 bytes in place of 300");
    world.kept.lock().unwrap().objects.remove(&key);
    let fault = bucket.list("prod").unwrap().remove(0).fault.unwrap();
    assert_eq!(fault, "its bundle is missing");
}

#[test]
fn refusals_say_what_to_do() {
    let mut world = World::new();
    let keys = world.settings.credentials_file.clone();
    let why = |world: &World| match Bucket::open(&world.settings) {
        Ok(bucket) => bucket.list("prod").unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    world.settings.bucket = "other".to_owned();
    let told = why(&world);
    assert!(told.ends_with("(404 NoSuchBucket); make the bucket, or mend its name"), "{told}");
    std::fs::write(&keys, "aws_access_key_id = X\naws_secret_access_key = Y\n").unwrap();
    let told = why(&world);
    assert!(told.contains("(403 InvalidAccessKeyId); see what the key in "), "{told}");
    std::fs::write(&keys, "[other]\naws_access_key_id = X\n").unwrap();
    let told = why(&world);
    assert!(told.contains("it has no `aws_access_key_id` in its profile `default`"), "{told}");
    std::fs::remove_file(&keys).unwrap();
    assert!(why(&world).contains("keys: No such file"), "{}", why(&world));
    std::fs::write(&keys, "aws_access_key_id = X\naws_secret_access_key = Y\n").unwrap();
    world.settings.endpoint = "http://127.0.0.1:1".to_owned();
    let told = why(&world);
    assert!(told.starts_with("http://127.0.0.1:1 cannot be reached: "), "{told}");
    world.settings.endpoint = "https://127.0.0.1:1".to_owned();
    world.settings.ca_file = Some(keys);
    let told = why(&world);
    assert!(told.contains("it has no certificate; name a file of certificates"), "{told}");
}
