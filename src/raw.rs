//! The system calls that no crate wraps safely: all `unsafe` of the program.
#![expect(unsafe_code, reason = "no safe wrapper of these calls is to be had")]

use std::fs;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

/// `TCP_INFO` of a TCP socket; `None` when the kernel does not say.
pub fn tcp_info(socket: &impl AsRawFd) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: `info` is writable for `length` bytes and outlives the call; the descriptor is open
    // for as long as `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: all of `tcp_info` is integers, zeroed above, and the kernel wrote `length` bytes of it.
    Some(unsafe { info.assume_init() })
}

/// Bytes that a socket's send queue holds (`SIOCOUTQ`, tcp(7)); `None` when the kernel does not say.
pub fn unsent(socket: &impl AsRawFd) -> Option<libc::c_int> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes an int, which `bytes` is and which outlives it; the descriptor is open
    // for as long as `socket` is borrowed.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then_some(bytes)
}

/// Lets go of the pages of the program's code and constants that are mapped now: those that are used
/// again come back from the page cache. Reading flags and configuration, and building what serves, takes
/// over a MiB of code that is not run again, and the kernel maps 16 pages around each that is.
///
/// # Errors
/// `/proc/self/smaps` cannot be read, or the kernel refuses.
pub fn forget_code() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/smaps")?;
    for pages in unchanged(&maps, &program.to_string_lossy()) {
        let start = ptr::without_provenance_mut(pages.start);
        // SAFETY: the pages are those of a private mapping of the program's file that nobody can write
        // to and of which none has been written (no anonymous page is in it, as relocated constants
        // are), so that none differs from the file and each is read from it again when it is used:
        // nothing that the program can observe changes.
        if unsafe { libc::madvise(start, pages.len(), libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Where code and constants of a program are mapped that are as in its file, by `proc_pid_smaps(5)`.
fn unchanged(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (addresses, permissions) = (words.next()?, words.next()?);
        let path = words.nth(3)?.trim_start();
        let (start, end) = addresses.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let pages = address(start)?..address(end)?;
        (["r-xp", "r--p"].contains(&permissions) && path == program).then_some(pages)
    };
    let (mut found, mut current) = (Vec::new(), None);
    for line in maps.lines() {
        match line.split_once(':') {
            // The lines about a mapping come after it.
            Some(("Anonymous", size)) => {
                found.extend(current.take().filter(|_| size.trim() == "0 kB"));
            }
            Some((field, _)) if !field.contains(' ') => {}
            _ => current = range(line),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_programs_file_is_meant() {
        let maps = "\
7f00-8f00 r--p 00000000 fe:00 12                         /usr/bin/apiproxy
Rss:                   4 kB
Anonymous:             0 kB
8f00-af00 r-xp 00001000 fe:00 12                         /usr/bin/apiproxy
Anonymous:             0 kB
THPeligible:           0
af00-bf00 r--p 00003000 fe:00 12                         /usr/bin/apiproxy
Rss:                   8 kB
Anonymous:             4 kB
bf00-cf00 rw-p 00004000 fe:00 12                         /usr/bin/apiproxy
Anonymous:             0 kB
cf00-df00 r-xp 00001000 fe:00 13                         /usr/lib/libc.so.6
Anonymous:             0 kB
df00-ef00 rw-p 00000000 00:00 0
Anonymous:             0 kB
ef00-ff00 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
torn
";
        let found = unchanged(maps, "/usr/bin/apiproxy");
        assert_eq!(found, [0x7f00..0x8f00, 0x8f00..0xaf00]);
        assert!(unchanged(maps, "/usr/bin/other").is_empty());
    }

    #[test]
    fn the_program_goes_on_without_the_pages_of_its_code() {
        forget_code().unwrap();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let program = fs::read_link("/proc/self/exe").unwrap();
        assert!(!unchanged(&maps, &program.to_string_lossy()).is_empty());
    }
}
