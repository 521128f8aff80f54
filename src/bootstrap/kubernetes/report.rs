//! Many looks in one remote command: a script whose parts report under their names.

use std::collections::BTreeMap;

use crate::bootstrap::transport::Command;

/// What begins a part (ASCII record separator) and what ends it (unit separator): no tool prints them.
const BEGIN: char = '\u{1e}';
const END: char = '\u{1f}';

/// `part NAME COMMAND..` reports what the command prints and its exit code; `told` adds what it
/// complains about.
const PRELUDE: &str = r#"
told() {
    printf '\036%s\n' "$1"; shift; code=0
    "$@" 2>&1 </dev/null || code=$?
    printf '\037%s\n' "$code"
}
part() {
    printf '\036%s\n' "$1"; shift; code=0
    "$@" 2>/dev/null </dev/null || code=$?
    printf '\037%s\n' "$code"
}
"#;

/// A script that may use `part` and `told`; `$1` and on are the arguments. It never fails as a whole.
pub fn script<W: Into<String>>(body: &str, arguments: impl IntoIterator<Item = W>) -> Command {
    Command::script(&format!("{PRELUDE}{body}"), arguments)
}

/// One part of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What it printed, without white space at the ends.
    pub text: String,
    /// Its exit code; none if the script ended before.
    pub code: Option<i32>,
}

impl Part {
    /// Did its command succeed?
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its last line: where tools put what went wrong.
    pub fn last_line(&self) -> &str {
        self.text.lines().last().unwrap_or_default().trim()
    }
}

/// What the parts of a script reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(BTreeMap<String, Part>);

impl Report {
    /// Reads the output of a script.
    pub fn read(output: &[u8]) -> Self {
        let output = String::from_utf8_lossy(output);
        let parts = output.split(BEGIN).skip(1).filter_map(|part| {
            let (name, rest) = part.split_once('\n')?;
            let (text, code) = match rest.rsplit_once(END) {
                Some((text, code)) => (text, code.trim().parse().ok()),
                None => (rest, None),
            };
            Some((name.to_owned(), Part { text: text.trim().to_owned(), code }))
        });
        Self(parts.collect())
    }

    /// The part of this name; an empty one without a code if it was not reported.
    pub fn part(&self, name: &str) -> Part {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// The parts whose names begin so, by the rest of their names.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Part)> {
        self.0.iter().filter_map(move |(name, part)| Some((name.strip_prefix(prefix)?, part)))
    }

    /// Is a part of this name there, and did it succeed?
    pub fn ok(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Part::ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_real_shell_are_told_apart() {
        let command = script(
            r#"part files ls /nowhere
told complaint sh -c 'echo no >&2; exit 3'
part text printf 'a\nb\n'
part argument echo "$1"
part 'file x' cat /dev/null"#,
            ["$HOME; *"],
        );
        let mut shell = std::process::Command::new(&command.argv[0]);
        let output = shell.args(&command.argv[1..]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report = Report::read(&output.stdout);
        assert_eq!(report.part("files").text, "");
        assert!(!report.ok("files"));
        assert_eq!(report.part("complaint"), Part { text: "no".to_owned(), code: Some(3) });
        assert_eq!(report.part("text").last_line(), "b");
        assert_eq!(report.part("argument").text, "$HOME; *");
        let under: Vec<_> = report.under("file ").map(|(name, part)| (name, part.ok())).collect();
        assert_eq!(under, [("x", true)]);
    }

    #[test]
    fn a_script_that_was_cut_off_has_a_part_without_a_code() {
        let report = Report::read(b"\x1ea\nfine\n\x1f0\n\x1eb\nhal");
        assert!(report.ok("a"));
        assert_eq!(report.part("b"), Part { text: "hal".to_owned(), code: None });
        assert_eq!(report.part("c"), Part::default());
    }
}
