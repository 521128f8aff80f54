//! Asks on the terminal: for a password, without echo, and for a yes.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::bootstrap::transport::Secret;
use crate::cli::CliError;

/// Ctrl-C, Ctrl-D, and the two keys that take a character back.
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACK: [u8; 2] = [8, 127];

/// A terminal without echo, until it is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        // Signals are off as well: one would end us before the echo is back.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Asks for sudo's password.
pub(super) fn sudo_password() -> Result<Secret, CliError> {
    let failed = |error: io::Error| {
        CliError::Usage(format!(
            "--ask-sudo-password needs a terminal to ask on: {error}; without one, let sudo ask for none \
             (`NOPASSWD` for ssh.user), or set ssh.user to root"
        ))
    };
    let open = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = open.map_err(failed)?;
    let typed = {
        let mut quiet = Quiet::new(&terminal).map_err(failed)?;
        write!(quiet.terminal, "Password for sudo: ").map_err(failed)?;
        line(&mut quiet.terminal).map_err(failed)?
    };
    writeln!(terminal).map_err(failed)?;
    typed.map(Secret).ok_or_else(|| CliError::Failed("no password was given".to_owned()))
}

/// Reads the keys of a line; none if the user gave up.
fn line(keys: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut typed = Vec::new();
    let mut key = [0];
    while keys.read(&mut key)? > 0 {
        match key[0] {
            b'\n' | b'\r' => return Ok(Some(typed)),
            INTERRUPT | END => return Ok(None),
            key if BACK.contains(&key) => {
                // A character of UTF-8 goes as a whole.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            key => typed.push(key),
        }
    }
    Ok(None)
}

/// Is there a terminal to ask on?
///
/// # Errors
/// No: with the flags to give in place of an answer.
pub(super) fn terminal() -> Result<(), CliError> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    let problem = "there is no terminal to ask on: see the plan with --dry-run, and give --yes to carry it \
                   out without a question";
    Err(CliError::Usage(problem.to_owned()))
}

/// Asks for a yes.
pub(super) async fn confirm(question: &str) -> Result<bool, CliError> {
    let answer = ask(&format!("{question} [y/N] ")).await?;
    Ok(matches!(answer.as_str(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

/// Asks for a name: who types it knows what he does to whom.
pub(super) async fn name(name: &str) -> Result<bool, CliError> {
    Ok(ask(&format!("Type {name} to go on: ")).await? == name)
}

/// Asks, and has the answer. It may be dropped: who waits for the keys is a thread that nobody waits
/// for.
async fn ask(question: &str) -> Result<String, CliError> {
    terminal()?;
    let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("cannot ask: {error}"));
    write!(io::stderr(), "{question}").map_err(|error| failed(&error))?;
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).map(|_| answer);
        // Nobody may want to know any more.
        let _ = tell.send(read);
    });
    let answer = told.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_key_by_key() {
        let read = |keys: &[u8]| line(&mut &*keys).unwrap();
        assert_eq!(read(b"secret\nrest"), Some(b"secret".to_vec()));
        assert_eq!(read("aé\x7fb\r".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(read(b"\x7f\x08a\n"), Some(b"a".to_vec()));
        assert_eq!((read(b"sec\x03ret\n"), read(b"sec")), (None, None));
    }
}
