//! The units of systemd that take backups and hold drills.

use std::fmt::Write as _;

use crate::bootstrap::backup::{DRILL_SETTINGS, DRILL_UNIT, SETTINGS, Schedule, UNIT};
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::transport::{Command, File};

/// The timer of backups.
pub(super) const TIMER: &str = "apiproxy-etcd-backup.timer";
/// The timer of drills.
pub(super) const DRILL_TIMER: &str = "apiproxy-etcd-drill.timer";

/// The unit of backups and its timer.
pub(super) fn backup(schedule: &Schedule) -> [File; 2] {
    let command = format!("backup --local --config {SETTINGS}");
    let service =
        service("Backup of etcd and of the cluster's keys", &command, "3h", "ProtectHome=yes\n");
    let timer = timer("Times of backups of etcd", schedule);
    [file(UNIT, service), file(TIMER, timer)]
}

/// The unit of drills and its timer.
pub(super) fn drill(schedule: &Schedule) -> [File; 2] {
    let command = format!("drill --local --config {DRILL_SETTINGS}");
    // Not in /tmp, which may be memory; the key may lie in a home.
    let more = "Environment=TMPDIR=/var/tmp\nProtectHome=read-only\n";
    let service = service("Drill with a backup of etcd", &command, "1h", more);
    let timer = timer("Times of drills with backups of etcd", schedule);
    [file(DRILL_UNIT, service), file(DRILL_TIMER, timer)]
}

fn file(name: &str, text: String) -> File {
    File::new(format!("/etc/systemd/system/{name}"), text)
}

const HEAD: &str =
    "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n";

fn service(what: &str, command: &str, limit: &str, more: &str) -> String {
    format!(
        "{HEAD}[Unit]\n\
         Description={what}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={PROXY_PROGRAM} bootstrap etcd {command}\n\
         {more}UMask=0077\n\
         Nice=10\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=7\n\
         TimeoutStartSec={limit}\n\
         NoNewPrivileges=yes\n\
         PrivateTmp=yes\n"
    )
}

fn timer(what: &str, schedule: &Schedule) -> String {
    let mut calendars = String::new();
    for time in schedule.calendars() {
        let _ = writeln!(calendars, "OnCalendar={time}");
    }
    format!(
        "{HEAD}[Unit]\n\
         Description={what}\n\
         \n\
         [Timer]\n\
         {calendars}AccuracySec=1s\n\
         Persistent=yes\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    )
}

/// Does a timer run, now and after a restart?
///
/// # Errors
/// The host cannot be reached.
pub(super) async fn runs(cx: &Context, host: &str, timer: &str) -> Result<bool, StepError> {
    let words = ["systemctl", "show", "-p", "ActiveState", "-p", "UnitFileState", timer];
    let shown = cx.run(host, &Command::new(words)).await?.text();
    let has = |line: &&str| shown.lines().any(|found| found == *line);
    Ok(["ActiveState=active", "UnitFileState=enabled"].iter().all(has))
}

/// Starts a timer anew, now and after a restart.
///
/// # Errors
/// The host cannot be reached, or does not start it.
pub(super) async fn start(cx: &Context, host: &str, timer: &str) -> Result<(), StepError> {
    const SCRIPT: &str = r#"
# start a timer of backups
systemctl daemon-reload
systemctl enable --quiet "$1"
systemctl restart "$1"
"#;
    cx.run(host, &Command::script(SCRIPT, [timer])).await.map(drop)
}
