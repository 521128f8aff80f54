//! The units of systemd that take backups.

use std::fmt::Write as _;

use crate::bootstrap::backup::{SETTINGS, Schedule, UNIT};
use crate::bootstrap::render::paths::PROXY_PROGRAM;
use crate::bootstrap::transport::File;

/// The timer.
pub(super) const TIMER: &str = "apiproxy-etcd-backup.timer";

/// The unit and its timer.
pub(super) fn files(schedule: &Schedule) -> [File; 2] {
    let unit = format!(
        "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n\
         [Unit]\n\
         Description=Backup of etcd and of the cluster's keys\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={PROXY_PROGRAM} bootstrap etcd backup --local --config {SETTINGS}\n\
         UMask=0077\n\
         Nice=10\n\
         IOSchedulingClass=best-effort\n\
         IOSchedulingPriority=7\n\
         TimeoutStartSec=3h\n\
         NoNewPrivileges=yes\n\
         PrivateTmp=yes\n\
         ProtectHome=yes\n"
    );
    let mut calendars = String::new();
    for time in schedule.calendars() {
        let _ = writeln!(calendars, "OnCalendar={time}");
    }
    let timer = format!(
        "# Written by `apiproxy bootstrap`; changes are put right by the next `apply`.\n\
         [Unit]\n\
         Description=Times of backups of etcd\n\
         \n\
         [Timer]\n\
         {calendars}AccuracySec=1s\n\
         Persistent=yes\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    );
    let file = |name: &str, text| File::new(format!("/etc/systemd/system/{name}"), text);
    [file(UNIT, unit), file(TIMER, timer)]
}
