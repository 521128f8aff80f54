//! `apiproxy bootstrap schema`: what editors complete and check cluster files with.

use crate::bootstrap::spec;
use crate::cli::{CliError, output};

pub(super) fn run() -> Result<(), CliError> {
    output::emit_json(&spec::schema())
}
