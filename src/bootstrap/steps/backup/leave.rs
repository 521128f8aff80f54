//! A host that leaves takes no backups any more. Those that it has stay.

use super::gone::Duties;
use crate::bootstrap::engine::{Context, StepError};

/// Stops the timers, and takes away what was put there for backups.
///
/// # Errors
/// The host cannot be reached.
pub async fn leave(cx: &Context, name: &str) -> Result<(), StepError> {
    Duties::default().clear(cx, name).await
}
