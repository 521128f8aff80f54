//! Copies in a bucket: whatever befalls the store, the backup here and other copies stay; and when every
//! host is gone, the bucket alone is enough.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use apiproxy::bootstrap::backup::{BucketSettings, Settings};
use serde_json::Value;

use crate::common::object_store::{BUCKET, CREDENTIALS, ObjectStore};
use crate::common::{Outcome, command, outcome_within, report};
use crate::rig::{Rig, Store, inventory, metric, name_of, obstacle};
use crate::skip;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An etcd, a store that speaks TLS with a certificate of a private authority, and an operator whose hosts
/// are all gone.
struct World {
    rig: Rig,
    store: ObjectStore,
    settings: Settings,
}

impl World {
    fn start() -> Self {
        let rig = Rig::start(1);
        rig.fill("/registry/pods/default/", 500);
        let (tls, authority) = ObjectStore::private_authority(HERE);
        let store = ObjectStore::start(HERE, Some(tls));
        let file = |name: &str, text: &str| {
            let path = rig.folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let endpoint = format!("https://{}", store.address);
        file(
            "operator.yaml",
            &format!(
                "apiVersion: apiproxy.io/v1alpha1\nkind: Cluster\nmetadata: {{ name: prod }}\nspec:\n  \
                 kubernetesVersion: v1.33.4\n  topology: external\n  hosts:\n    \
                 - {{ name: cp1, address: 192.0.2.1, roles: [controlPlane] }}\n    \
                 - {{ name: e1, address: 192.0.2.2, roles: [etcd] }}\n    \
                 - {{ name: s1, address: 192.0.2.3, roles: [spare] }}\n  \
                 etcd: {{ backup: {{ copyTo: [s1], s3: {{ endpoint: '{endpoint}', bucket: {BUCKET}, \
                 prefix: etcd/prod, credentialsFile: store-key, caFile: store.crt }} }} }}\n"
            ),
        );
        // Nobody is there.
        file("ssh_config", "Host *\n  ProxyCommand false\n");
        let mut settings = rig.settings(0);
        settings.keep = 2;
        settings.s3 = Some(BucketSettings {
            endpoint,
            bucket: BUCKET.to_owned(),
            prefix: "etcd/prod".to_owned(),
            region: "us-east-1".to_owned(),
            credentials_file: file("store-key", CREDENTIALS),
            ca_file: Some(file("store.crt", &authority)),
        });
        Self { rig, store, settings }
    }

    fn operator_command(&self, words: &[&str]) -> Command {
        let path = |name: &str| self.rig.folder.path().join(name);
        let mut etcd = command(&["bootstrap", "etcd"]);
        etcd.args(words).arg("--file").arg(path("operator.yaml"));
        etcd.arg("--ssh-config").arg(path("ssh_config")).arg("--log-dir").arg(path("runs"));
        etcd.env("HOME", self.rig.folder.path()).env("XDG_STATE_HOME", path("state"));
        etcd
    }

    fn operator(&self, words: &[&str]) -> Outcome {
        outcome_within(&mut self.operator_command(words), Duration::from_mins(1))
    }

    /// The states of the copies of a backup in the bucket, as the operator sees them.
    fn states(&self, command: &str) -> Vec<(String, String)> {
        let outcome = self.operator(&[command, "-o", "json"]);
        let document: Value = serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        let all = document["backups"].as_array().unwrap().iter().map(|backup| {
            let copy = &backup["copies"][0];
            assert_eq!(copy["host"], format!("s3://{BUCKET}"), "{document}");
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&backup["name"]), text(&copy["state"]))
        });
        all.collect()
    }

    /// The names in the bucket, by their labels.
    fn in_bucket(&self) -> Vec<String> {
        let keys = self.store.keys();
        let labels = keys.iter().filter_map(|key| key.strip_suffix(".json"));
        labels.map(|key| key.trim_start_matches("etcd/prod/").to_owned()).collect()
    }
}

#[test]
fn a_store_in_trouble_costs_neither_the_backup_nor_other_copies() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let mut world = World::start();
    let host = Store::start();
    host.give(&mut world.settings);
    let World { rig, store, settings } = &world;
    let (own, bucket) = (rig.depot("e1"), settings.s3.as_ref().unwrap());
    let first = name_of(&rig.well(settings));
    assert_eq!(world.in_bucket(), std::slice::from_ref(&first));
    assert_eq!(inventory(&host.folder), [(first, None)]);

    rig.well(settings);
    let refused = |why: &str| {
        let outcome = rig.backup(settings);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let copied = document["taken"]["copies"].as_array().unwrap();
        let fault = |place: &str| {
            copied.iter().find(|copied| copied["host"] == place).unwrap()["fault"].as_str()
        };
        assert_eq!(fault("s1"), None, "{document}");
        assert!(fault("s3://backups").is_some_and(|fault| fault.contains(why)), "{document}");
    };
    // More than are kept, and none goes as long as the newest is not everywhere.
    store.kept.lock().unwrap().spoils = true;
    refused("is damaged: its checksum does not fit");
    assert_eq!(inventory(&own).len(), 3);
    assert_eq!(world.in_bucket().len(), 2, "what was spoilt has no label");
    store.kept.lock().unwrap().spoils = false;

    store.kept.lock().unwrap().down = true;
    refused(&format!("{}: ", bucket.endpoint));
    store.kept.lock().unwrap().down = false;
    store.kept.lock().unwrap().refusals = vec![("PUT", 507, "XMinioStorageFull")];
    refused("make room there");
    store.kept.lock().unwrap().ahead = Duration::from_hours(1);
    refused(" behind the store's: set it right (timedatectl)");
    store.kept.lock().unwrap().ahead = Duration::ZERO;
    let key = fs::read_to_string(&bucket.credentials_file).unwrap();
    fs::write(&bucket.credentials_file, key.replace("not/a", "another")).unwrap();
    refused("SignatureDoesNotMatch");
    fs::write(&bucket.credentials_file, key).unwrap();
    assert_eq!(metric(settings, "last_run_success").as_deref(), Some("0"));
    let there = inventory(&own);
    assert_eq!(there.len(), 7, "all are here: {there:?}");
    assert!(there.iter().all(|(_, fault)| fault.is_none()), "{there:?}");
    assert_eq!(inventory(&host.folder)[..], there[..3], "and where else they should be");

    let last = name_of(&rig.well(settings));
    let all = inventory(&own);
    assert_eq!((all.len(), &all[0].0), (2, &last), "now old ones go");
    assert_eq!(world.in_bucket(), [all[1].0.clone(), last]);
}

#[test]
fn the_bucket_is_enough_when_every_host_is_gone() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    let world = World::start();
    let older = name_of(&world.rig.well(&world.settings));
    world.rig.fill("/registry/secrets/default/", 100);
    let newest = name_of(&world.rig.well(&world.settings));
    fs::remove_dir_all(world.rig.depot("e1")).unwrap();

    let state = |name: &str, state: &str| (name.to_owned(), state.to_owned());
    assert_eq!(world.states("list"), [state(&newest, "there"), state(&older, "there")]);
    assert_eq!(world.states("verify"), [state(&newest, "intact"), state(&older, "intact")]);
    let outcome = world.operator(&["list"]);
    assert_eq!(outcome.code, Some(1), "hosts are silent: {outcome:?}");
    assert!(outcome.stdout.contains("e1 gave no answer: "), "{outcome:?}");

    let begin = std::time::Instant::now();
    let outcome = world.operator(&["drill"]);
    report(&format!("a drill from a bucket: {:.1} s", begin.elapsed().as_secs_f64()));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains(&format!("{newest} passed: ")), "{outcome:?}");

    // It is found, fetched and opened; then there is no host to restore it on.
    let restore = |words: &[&str]| world.operator(&[&["restore", "--dry-run"], words].concat());
    restore(&[]).refused(1, "1 etcd hosts do not answer (e1), and the file has 0 spares that do");
    world.store.change(&format!("{newest}.tar"), |bundle| bundle[9000] ^= 1);
    let damaged = format!("{newest}.tar is damaged: its checksum does not fit");
    assert_eq!(world.states("verify")[0], (newest.clone(), damaged));
    restore(&[&newest]).refused(1, &format!("no intact copy of {newest} was found"));
    restore(&[]).refused(1, "1 etcd hosts do not answer (e1), and the file has 0 spares that do");
    world.store.change(&format!("{older}.tar"), |bundle| bundle.truncate(9000));
    let outcome = restore(&[]);
    assert!(outcome.stderr.contains("no good backup was found"), "{outcome:?}");
    assert!(outcome.stderr.contains("it has 9000 bytes in place of "), "{outcome:?}");

    // Nothing that was written down tells the key.
    let logs = fs::read_dir(world.rig.folder.path().join("runs")).unwrap();
    let texts = logs.map(|log| fs::read_to_string(log.unwrap().path()).unwrap());
    let texts = texts.collect::<String>();
    assert!(!texts.is_empty() && !texts.contains("not/a+secret"), "{texts}");
}
