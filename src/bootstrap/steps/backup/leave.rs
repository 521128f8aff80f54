//! A host that leaves takes no backups any more. Those that it has stay.

use super::FOLDER;
use super::unit::TIMER;
use crate::bootstrap::backup::UNIT;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::transport::Command;

/// Stops the timer, and takes away what was put there for backups, the keys first of all.
///
/// # Errors
/// The host cannot be reached.
pub async fn leave(cx: &Context, name: &str) -> Result<(), StepError> {
    // It is in the way of nothing if there is none.
    cx.host(name)?.run(&Command::new(["systemctl", "disable", "--now", TIMER])).await?;
    let units = [UNIT, TIMER].map(|unit| format!("/etc/systemd/system/{unit}"));
    let [unit, timer] = &units;
    cx.run(name, &Command::new(["rm", "-rf", "--", FOLDER, unit, timer])).await.map(drop)
}
