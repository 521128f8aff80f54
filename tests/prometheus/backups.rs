//! Backups of a real etcd, told by a real node-exporter: each alert of theirs, provoked.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use apiproxy::bootstrap::backup::{DrillSettings, Settings, Target};
use serde_json::Value;

use crate::common::{
    Outcome, Running, command, free_port, has_program, outcome_within, report, wait_for,
};
use crate::rig::{Rig, bundle, name_of, obstacle};
use crate::server::{Prometheus, hastened};
use crate::{LONG, queries, skip, text};

/// Is a query or a rule about backups?
pub(crate) fn is_about_them(query: &str) -> bool {
    query.contains("apiproxy_etcd_backup_")
}

/// One member whose backups are told.
struct Scene {
    settings: Settings,
    prometheus: Prometheus,
    _exporter: Running,
    rig: Rig,
}

impl Scene {
    fn start() -> Self {
        let rig = Rig::start(1);
        rig.fill("/registry/pods/default/", 20);
        let mut settings = rig.settings(0);
        let told = rig.folder.path().join("told");
        // As on a host: it is there before we are, or we make it.
        settings.textfile = told.join("backup.prom");
        rig.well(&settings);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = File::create(rig.folder.path().join("exporter.log")).unwrap();
        let exporter = Command::new("prometheus-node-exporter")
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!("--collector.textfile.directory={}", told.display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let exporter = Running(exporter);
        let rules = hastened(&text("packaging/prometheus-rules.yaml"));
        let metric = "apiproxy_etcd_backup_newest_timestamp_seconds";
        let prometheus = Prometheus::of_job("node", address, metric, &rules);
        Self { settings, prometheus, _exporter: exporter, rig }
    }

    fn wait_firing(&self, wanted: &[&str]) {
        let begin = Instant::now();
        wait_for(&format!("{wanted:?} and nothing else"), LONG, || {
            (self.prometheus.firing() == wanted).then_some(())
        });
        report(&format!("{wanted:?} after {:.1} s", begin.elapsed().as_secs_f64()));
    }

    /// The drill of the timer, with what this host has.
    fn drill(&self) -> Outcome {
        let settings = DrillSettings {
            cluster: self.settings.cluster.clone(),
            folders: vec![self.settings.directory.clone()],
            identity_file: None,
            textfile: self.settings.textfile.clone(),
            journal: self.settings.journal.clone(),
        };
        let file = self.rig.folder.path().join("drill.json");
        fs::write(&file, serde_json::to_string(&settings).unwrap()).unwrap();
        let mut drill = command(&["bootstrap", "etcd", "drill", "--local", "--config"]);
        outcome_within(drill.arg(file), LONG)
    }

    /// What the host remembers is so much older, and so is told.
    fn age(&self, keys: &[&str], by: Duration) {
        let json = fs::read(&self.settings.journal).unwrap();
        let mut journal: Value = serde_json::from_slice(&json).unwrap();
        let then = SystemTime::now() - by;
        let then = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for key in keys {
            journal[*key] = then.into();
        }
        fs::write(&self.settings.journal, journal.to_string()).unwrap();
        let config = self.rig.folder.path().join("e1.json");
        let mut note = command(&["bootstrap", "etcd", "note", "--config"]);
        let outcome = outcome_within(note.arg(config), LONG);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

#[test]
fn each_alert_of_backups_fires_when_it_should_and_not_otherwise() {
    if let Some(why) = obstacle() {
        skip!("{why}");
    }
    if !has_program("prometheus") || !has_program("prometheus-node-exporter") {
        skip!("prometheus and prometheus-node-exporter are not both installed");
    }
    let mut scene = Scene::start();
    assert_eq!(scene.drill().code, Some(0));
    scene.wait_firing(&[]);

    // etcd does not answer.
    let endpoint = scene.settings.etcd.endpoint.clone();
    scene.settings.etcd.endpoint = "http://127.0.0.1:1".to_owned();
    scene.rig.backup(&scene.settings).refused(1, "is not fit for a backup");
    scene.wait_firing(&["ApiproxyBackupFailed"]);
    scene.settings.etcd.endpoint = endpoint;

    // It does, and the host that gets copies is away: that alone is told.
    let address = IpAddr::from([127, 0, 0, 1]);
    scene.settings.copy_to = vec![Target { name: "s1".to_owned(), address, port: 1 }];
    let outcome = scene.rig.backup(&scene.settings);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    scene.wait_firing(&["ApiproxyBackupCopyMissing"]);
    every_query_returns_data(&scene.prometheus);
    scene.settings.copy_to.clear();
    let newest = name_of(&scene.rig.well(&scene.settings));
    scene.wait_firing(&[]);

    // A drill finds that the newest one is damaged; the next one is good.
    let file = bundle(&scene.settings.directory, &newest);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    scene.drill().refused(1, "is damaged");
    scene.wait_firing(&["ApiproxyBackupDrillFailed"]);
    scene.rig.fill("/registry/pods/default/", 1);
    scene.rig.well(&scene.settings);
    assert_eq!(scene.drill().code, Some(0));
    scene.wait_firing(&[]);

    // The last drill was long ago; then the last backup too, where one is due each minute.
    scene.age(&["lastRestore"], Duration::from_hours(36 * 24));
    scene.wait_firing(&["ApiproxyBackupUnproven"]);
    scene.settings.schedule = "* * * * *".to_owned();
    scene.rig.write(&scene.settings);
    scene.age(&["newest", "since"], Duration::from_hours(2));
    scene.wait_firing(&["ApiproxyBackupTooOld", "ApiproxyBackupUnproven"]);
}

/// The panels of backups show something.
fn every_query_returns_data(prometheus: &Prometheus) {
    let all: Vec<_> = queries().into_iter().filter(|(_, query)| is_about_them(query)).collect();
    assert!(all.len() >= 7, "{all:?}");
    for (panel, query) in all {
        assert!(!prometheus.query(&query).is_empty(), "no data in panel `{panel}`: {query}");
    }
}
