//! Files of a host, by commands: read, written as a whole or not at all, compared by checksum.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use ring::digest::{Context, SHA256};

use crate::bootstrap::hex::hex;

use super::{Command, File, Found, Output, PATIENCE};

/// The slowest link and disk that a file is uploaded over, in bytes per second.
const SLOWEST: u64 = 512 << 10;

const READ: &str = r#"
if [ ! -e "$1" ]; then echo none; exit; fi
stat -L -c 'found %a %U %G' -- "$1"
exec cat -- "$1"
"#;

/// Takes path, checksum, mode and owner. Left-overs of killed writes go with the next one, and what
/// another run writes at the same time too: that one finds its file gone, and puts no half of ours in
/// place. `set -C` makes sure that we made it. What kills it must not hit the `rm` of the end.
const WRITE: &str = r#"
folder=$(dirname -- "$1")
[ -d "$folder" ] || mkdir -p -- "$folder"
stem=$folder/.$(basename -- "$1").apiproxy
new=$stem.$$
trap 'trap "" HUP INT TERM; rm -f -- "$new"' EXIT
trap 'exit 143' HUP INT TERM
rm -f -- "$stem" "$stem".*
(umask 077; set -C; cat > "$new")
if [ "$(sha256sum < "$new")" != "$2  -" ]; then
    echo 'what arrived is not what was sent: its checksum differs' >&2
    exit 1
fi
chown -- "$4" "$new"
chmod -- "$3" "$new"
sync -- "$new"
mv -fT -- "$new" "$1"
sync -- "$folder"
"#;

const SAME: &str = r#"
[ -f "$1" ] && [ "$(sha256sum < "$1")" = "$2  -" ]
chmod -- "$3" "$1"
chown -- root:root "$1"
"#;

/// The command that reads a file.
pub(super) fn read(path: &str) -> Command {
    Command::script(READ, [path])
}

/// What [`read`] found.
pub(super) fn found(output: &Output) -> Result<Option<Found>, String> {
    if !output.ok() {
        return Err(reason(output));
    }
    if output.stdout == b"none\n" {
        return Ok(None);
    }
    parse(&output.stdout).map(Some).ok_or_else(|| "stat gave no permissions".to_owned())
}

fn parse(output: &[u8]) -> Option<Found> {
    let end = output.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&output[..end]).ok()?;
    let words: Vec<_> = head.strip_prefix("found ")?.split(' ').collect();
    let [mode, user, group] = words[..] else { return None };
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let owner = (user.to_owned(), group.to_owned());
    Some(Found { content: output[end + 1..].to_vec(), mode, owner })
}

/// The command that writes a file, of this checksum, from its standard input.
pub(super) fn write(file: &File, sum: &str) -> Command {
    let owner = format!("{}:{}", file.owner.0, file.owner.1);
    let mode = format!("{:04o}", file.mode);
    Command::script(WRITE, [file.path.clone(), sum.to_owned(), mode, owner])
}

/// What came of [`write()`].
pub(super) fn written(output: &Output) -> Result<(), String> {
    if output.ok() { Ok(()) } else { Err(reason(output)) }
}

/// The command that succeeds if the file is there with this checksum; it sets mode and owner.
pub(super) fn same(path: &str, sum: &str, mode: u32) -> Command {
    Command::script(SAME, [path.to_owned(), sum.to_owned(), format!("{mode:04o}")])
}

/// Why it failed, in one line, with the remedy where there is one.
fn reason(output: &Output) -> String {
    let said = output.complaint();
    let remedies = [
        ("No space left on device", "the disk is full; free some space there and run this again"),
        ("Disk quota exceeded", "the disk quota is used up; raise it and run this again"),
        ("Read-only file system", "the file system is read-only; mount it writable"),
    ];
    let known = remedies.iter().find(|(text, _)| said.contains(text));
    match known {
        Some((_, remedy)) => (*remedy).to_owned(),
        None if said.is_empty() => format!("exit code {}", output.code),
        None => said,
    }
}

/// How long an upload of so many bytes may take.
pub(super) fn patience(len: u64) -> Duration {
    PATIENCE + Duration::from_secs(len / SLOWEST)
}

/// SHA-256, in hexadecimal.
pub(super) fn checksum(content: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, content).as_ref())
}

/// SHA-256 and length of a file of this machine.
pub(super) async fn checksum_of(path: &Path) -> io::Result<(String, u64)> {
    let path = path.to_owned();
    let sum = move || {
        let mut file = std::fs::File::open(path)?;
        let (mut context, mut len) = (Context::new(&SHA256), 0);
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                return Ok((hex(context.finish().as_ref()), len));
            }
            context.update(&chunk[..count]);
            len += count as u64;
        }
    };
    tokio::task::spawn_blocking(sum).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn what_is_read_has_its_permissions_before_it() {
        let found_it = found(&output(0, "found 640 root adm\nfound 1\n", "")).unwrap().unwrap();
        assert_eq!((found_it.mode, found_it.content), (0o640, b"found 1\n".to_vec()));
        assert_eq!(found_it.owner, ("root".to_owned(), "adm".to_owned()));
        assert_eq!(found(&output(0, "none\n", "")), Ok(None));
        let error = found(&output(1, "found 755 root root\n", "cat: /etc: Is a directory\n"));
        assert_eq!(error, Err("cat: /etc: Is a directory".to_owned()));
    }

    #[test]
    fn a_full_disk_is_told_with_its_remedy() {
        let full = output(1, "", "cat: write error: No space left on device\n");
        assert!(written(&full).unwrap_err().starts_with("the disk is full; "));
        assert_eq!(written(&output(1, "", "")), Err("exit code 1".to_owned()));
    }

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(checksum(b""), empty);
    }
}
