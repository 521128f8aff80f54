//! The journal in the text format of Prometheus.

use std::fmt::Write as _;

use super::Journal;

/// Every metric of backups, all of them gauges: name and help.
pub const METRICS: &[(&str, &str)] = &[
    (
        "apiproxy_etcd_backup_configured_timestamp_seconds",
        "Since when this host has to do with backups.",
    ),
    (
        "apiproxy_etcd_backup_newest_timestamp_seconds",
        "When the newest backup was taken that this host knows of.",
    ),
    ("apiproxy_etcd_backup_due_timestamp_seconds", "When the backup after the newest one is due."),
    ("apiproxy_etcd_backup_last_run_timestamp_seconds", "When a backup was last due on this host."),
    ("apiproxy_etcd_backup_last_run_success", "Did the last run on this host do all it should?"),
    (
        "apiproxy_etcd_backup_last_success_timestamp_seconds",
        "When this host last took a whole backup that is verified in all places.",
    ),
    ("apiproxy_etcd_backup_size_bytes", "Length of the last backup taken here."),
    (
        "apiproxy_etcd_backup_duration_seconds",
        "How long the last backup took here, with its copies.",
    ),
    (
        "apiproxy_etcd_backup_copies_complete",
        "Does a host or a bucket have all copies of this one's backups that it should?",
    ),
    ("apiproxy_etcd_backup_stored", "How many backups lie on this host."),
    (
        "apiproxy_etcd_backup_last_verified_restore_timestamp_seconds",
        "When a backup of this host was last restored as a drill and found good.",
    ),
    (
        "apiproxy_etcd_backup_last_drill_timestamp_seconds",
        "When the last drill with a backup of this host ended.",
    ),
    ("apiproxy_etcd_backup_last_drill_success", "Was all as it should be in that drill?"),
    ("apiproxy_etcd_backup_last_drill_duration_seconds", "How long that drill took."),
];

/// Milliseconds as seconds.
fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

fn yes(value: bool) -> String {
    u8::from(value).to_string()
}

impl Journal {
    /// The metrics: of what is not known, none.
    pub(super) fn metrics(&self, cluster: &str) -> String {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let drill = self.last_drill;
        let mut text = String::new();
        for (name, help) in METRICS {
            let value = match name.trim_start_matches("apiproxy_etcd_backup_") {
                "configured_timestamp_seconds" => number(self.since),
                "newest_timestamp_seconds" => number(self.newest),
                "due_timestamp_seconds" => number(self.due),
                "last_run_timestamp_seconds" => number(self.last_run),
                "last_run_success" => self.last_run.map(|_| yes(self.last_run_ok)),
                "last_success_timestamp_seconds" => number(self.last_success),
                "size_bytes" => number(self.size),
                "duration_seconds" => self.duration.map(seconds),
                "stored" => self.stored.map(|stored| stored.to_string()),
                "last_verified_restore_timestamp_seconds" => number(self.last_restore),
                "last_drill_timestamp_seconds" => number(drill.map(|drill| drill.at)),
                "last_drill_success" => drill.map(|drill| yes(drill.passed)),
                "last_drill_duration_seconds" => drill.map(|drill| seconds(drill.duration)),
                _ => None,
            };
            let mut lines: Vec<_> = value
                .iter()
                .map(|value| format!("{name}{{cluster=\"{cluster}\"}} {value}\n"))
                .collect();
            if name.ends_with("_copies_complete") {
                lines.extend(self.copies.iter().map(|(target, complete)| {
                    let value = yes(*complete);
                    format!("{name}{{cluster=\"{cluster}\",target=\"{target}\"}} {value}\n")
                }));
            }
            if !lines.is_empty() {
                // Writing into a string cannot fail.
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
                text.extend(lines);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Drilled;
    use super::*;

    #[test]
    fn what_is_known_is_told_and_nothing_else() {
        let mut journal = Journal {
            last_run: Some(30),
            newest: Some(20),
            duration: Some(1_250),
            copies: BTreeMap::from([("s1".to_owned(), false)]),
            stored: Some(3),
            ..Journal::default()
        };
        let text = journal.metrics("prod");
        let values: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let all = [
            "apiproxy_etcd_backup_newest_timestamp_seconds{cluster=\"prod\"} 20",
            "apiproxy_etcd_backup_last_run_timestamp_seconds{cluster=\"prod\"} 30",
            "apiproxy_etcd_backup_last_run_success{cluster=\"prod\"} 0",
            "apiproxy_etcd_backup_duration_seconds{cluster=\"prod\"} 1.250",
            "apiproxy_etcd_backup_copies_complete{cluster=\"prod\",target=\"s1\"} 0",
            "apiproxy_etcd_backup_stored{cluster=\"prod\"} 3",
        ];
        assert_eq!(values, all);
        assert_eq!(text.matches("# TYPE ").count(), all.len());
        // Each of the catalogue is told when all is known.
        let known = Some(1);
        (journal.since, journal.due, journal.last_success) = (known, known, known);
        (journal.size, journal.last_restore) = (known, known);
        journal.last_drill = Some(Drilled { at: 1, passed: true, duration: 20 });
        let text = journal.metrics("prod");
        for (name, help) in METRICS {
            assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}: {text}");
        }
        assert!(text.contains("last_drill_duration_seconds{cluster=\"prod\"} 0.020\n"), "{text}");
    }
}
