//! Writes results to standard output and complaints to standard error.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;

use super::CliError;

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    #[value(alias = "text")]
    Table,
    /// For programs: one document, stable keys.
    Json,
}

/// Writes text to standard output.
pub(super) fn emit(text: &str) -> Result<(), CliError> {
    emit_bytes(text.as_bytes())
}

/// Writes bytes to standard output. A reader that went away is no error of ours.
pub(super) fn emit_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::OutputClosed),
        Err(error) => Err(CliError::Failed(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// A document as JSON.
pub(super) fn json(document: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(document)
        .map(|json| json + "\n")
        .map_err(|error| CliError::Failed(format!("cannot write JSON: {error}")))
}

/// A document as one line of JSON.
pub(super) fn json_line(document: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(document)
        .map(|json| json + "\n")
        .map_err(|error| CliError::Failed(format!("cannot write JSON: {error}")))
}

/// Writes a document as JSON.
pub(super) fn emit_json(document: &impl Serialize) -> Result<(), CliError> {
    emit(&json(document)?)
}

/// Tells the user what went wrong.
pub(super) fn complain(error: &impl std::fmt::Display) {
    // With standard error gone too, there is no way left to complain.
    let _ = writeln!(io::stderr(), "apiproxy: {error}");
}

/// Tells the user something beside the output.
pub(super) fn tell_beside(line: &str) {
    // As above.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A plain table with a header, as kubectl prints them: no borders, so that it can be cut and grepped.
pub(super) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| Cell::new(*name)));
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Bytes in the unit that gives at most four digits.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let step = (0..units.len() - 1).find(|step| count >> (10 * (step + 1)) == 0);
    let step = step.unwrap_or(units.len() - 1);
    let whole = count >> (10 * step);
    if step == 0 || whole >= 10 {
        return format!("{whole} {}", units[step]);
    }
    let tenths = (count >> (10 * (step - 1))) % 1024 * 10 / 1024;
    format!("{whole}.{tenths} {}", units[step])
}

/// A duration as kubectl gives ages: the two largest units at most.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m{}s", seconds / 60, seconds % 60),
        7200..=172_799 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_ages_are_short() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 20, "10 MiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16383 PiB");
        let cases = [(5, "5s"), (150, "2m30s"), (7260, "2h1m"), (200_000, "2d7h")];
        for (seconds, text) in cases {
            assert_eq!(age(seconds), text);
        }
    }
}
