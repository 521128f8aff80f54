//! What runs a command on a host and kills it when nobody wants it any more: a few lines of sh.
//!
//! ssh gives no way to end a remote command: it lives on when the connection is lost or the
//! program at our end is killed. So a small supervisor runs there. Its standard input carries, in
//! this order: what sudo asks for, if it does; a line with a mark and two lengths; the command, as
//! quoted words; the command's own input. Then it is held open. When it ends before the mark came
//! a second time, the command and all its children are killed: that is how a limit of time, an
//! interrupt, a lost connection and even a killed apiproxy end what they started.
//!
//! The exit code comes back behind a mark at the end of both outputs, so that an exit code of 255 is
//! told from a lost connection, and a command that leaves a child behind does not keep us waiting.

use super::quote;

/// Runs as root. It tells itself by USR1: a shell cannot trap a hangup that its parent ignores, as under
/// nohup. No single quote, backslash or line break is in it: it passes the login shell of the
/// user, which may be any.
const SUPERVISOR: &str = concat!(
    "t=$1; r=$2; n=; until [ \"$n\" = \"$t\" ]; do IFS=\" \" read -r n a i || exit 1; done; ",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; LC_ALL=C; ",
    "export PATH LC_ALL; umask 022; cd /; ",
    "eval \"set -- $(head -c \"$a\")\"; ",
    "p=; h=; ",
    "k() { kill -TERM -$p; for j in 1 2 3 4 5 6 7 8 9 10; do kill -0 -$p || exit 1; sleep 0.1; ",
    "done; kill -KILL -$p; exit 1; } 2>/dev/null; ",
    "e() { h=1; [ -z \"$p\" ] || k; }; trap e HUP USR1; ",
    "exec 3<&0; ",
    "{ head -c \"$i\"; exec >&-; while read -r n; do [ \"$n\" = \"$t\" ] && exit 0; done; ",
    "kill -USR1 $$; } <&3 2>/dev/null | setsid sh -c \"$r\" sh \"$t\" \"$@\" 3<&- & ",
    "p=$!; [ -z \"$h\" ] || k; wait $p"
);

/// Runs the command in a session of its own and tells its exit code.
const REPORTER: &str = concat!(
    "t=$1; shift; (exec \"$@\"); c=$?; ",
    "printf \"<%s:%s>\" $t $c; printf \"<%s:%s>\" $t $c >&2"
);

/// One way of talking to supervisors, with a mark that no command knows.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    mark: String,
}

impl Supervisor {
    pub(super) fn new() -> Self {
        Self { mark: format!("{:032x}", fastrand::u128(..)) }
    }

    /// The line that starts one, for any login shell.
    pub(super) fn line(&self, rise: &[&str]) -> String {
        let own = ["sh", "-c", SUPERVISOR, "sh", &self.mark, REPORTER];
        quote::line(rise.iter().copied().chain(own))
    }

    /// What goes before the command's own input of this many bytes.
    pub(super) fn head(&self, argv: &[String], input: u64) -> String {
        let words = quote::line(argv.iter().map(String::as_str));
        format!("{} {} {input}\n{words}", self.mark, words.len())
    }

    /// What tells it that it is not needed any more.
    pub(super) fn tail(&self) -> String {
        format!("\n{}\n", self.mark)
    }

    /// The end of an output: where it is and the exit code, if it has come. The first `seen` bytes
    /// have been looked at already.
    pub(super) fn end(&self, output: &[u8], seen: usize) -> Option<(usize, i32)> {
        // `<`, the mark, `:`, at most three digits and `>`.
        let longest = self.mark.len() + 6;
        let from = seen.saturating_sub(longest);
        let start = format!("<{}:", self.mark);
        let fresh = &output[from..];
        let at = fresh.windows(start.len()).position(|bytes| bytes == start.as_bytes())?;
        let rest = &fresh[at + start.len()..];
        let digits = rest.iter().position(|byte| *byte == b'>')?;
        let code = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        Some((from + at, code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_login_shell_takes_its_line() {
        for script in [SUPERVISOR, REPORTER] {
            assert!(!script.contains(['\'', '\\', '\n']), "{script}");
        }
        let line = Supervisor::new().line(&["sudo", "-n", "--"]);
        assert!(line.starts_with("'sudo' '-n' '--' 'sh' '-c' 't=$1;"), "{line}");
    }

    #[test]
    fn the_end_is_found_wherever_a_read_was_cut() {
        let supervisor = Supervisor { mark: "abc".to_owned() };
        // A line that only looks like an end is none.
        assert_eq!(supervisor.end(b"text <abc:x>", 0), None);
        let whole = b"text\n<abc:143>late";
        for seen in 0..whole.len() {
            let before = supervisor.end(&whole[..seen], 0);
            if before.is_none() {
                assert_eq!(supervisor.end(whole, seen), Some((5, 143)), "{seen}");
            }
        }
    }
}
