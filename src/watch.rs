//! Tells when a file that others write has changed and can be trusted.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// How often the file is looked at. Looking again and again, unlike a notification, works through
/// every chain of links, mount and file system, and needs none of the kernel's few watches.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A changed file is read when it has been left alone for so long: whoever writes it in place does not
/// pause longer.
pub const SETTLED: Duration = Duration::from_secs(1);

/// The same when the last line has no end, as in the middle of writing.
const SETTLED_WITHOUT_END: Duration = Duration::from_secs(10);

/// What changes whenever a file is written, replaced, or removed: also behind links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// That of a file as it is now.
    pub fn of(path: &Path) -> Self {
        let stamp =
            |meta: Metadata| (meta.dev(), meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec());
        // A pipe has nothing to say a second time.
        Self(std::fs::metadata(path).ok().filter(Metadata::is_file).map(stamp))
    }
}

/// Tells when a changed file is to be read. Pure: stamps and the clock come in as arguments.
#[derive(Debug)]
pub struct Watch {
    /// As it was last read.
    known: Stamp,
    /// As it is since.
    changing: Option<(Stamp, Instant)>,
}

impl Watch {
    /// A watch over a file that was last read when it was like this.
    pub fn new(known: Stamp) -> Self {
        Self { known, changing: None }
    }

    /// The file has been read for another reason, when it was like this.
    pub fn note(&mut self, stamp: Stamp) {
        (self.known, self.changing) = (stamp, None);
    }

    /// Is it time to read the file? `has_end` says whether its last line ends.
    pub fn look(&mut self, stamp: Stamp, now: Instant, has_end: impl FnOnce() -> bool) -> bool {
        match self.changing {
            _ if stamp == self.known => {
                self.changing = None;
                false
            }
            Some((seen, since)) if seen == stamp => {
                let quiet = now.saturating_duration_since(since);
                let settled = quiet >= SETTLED_WITHOUT_END
                    || (quiet >= SETTLED && (stamp.0.is_none() || has_end()));
                if settled {
                    (self.known, self.changing) = (stamp, None);
                }
                settled
            }
            _ => {
                self.changing = Some((stamp, now));
                false
            }
        }
    }
}

/// Does the last line of a file have its end?
pub fn has_end(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let mut last = [0];
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)
    });
    read.is_ok() && last == *b"\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64) -> Stamp {
        Stamp(Some((1, 1, number, 0, 0)))
    }

    #[test]
    fn a_file_is_read_once_it_is_left_alone() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut watch = Watch { known: stamp(1), changing: None };
        let mut look =
            |number, milliseconds, has_end| watch.look(stamp(number), at(milliseconds), || has_end);
        assert!(!look(1, 0, true));
        assert!(!look(2, 500, true), "it has just changed");
        assert!(!look(3, 1000, true), "it is being written");
        assert!(!look(3, 1500, true));
        assert!(look(3, 2000, true), "it has settled");
        assert!(!look(3, 9000, true), "it has been read");
        assert!(!look(4, 10_000, false));
        assert!(!look(4, 15_000, false), "its last line has no end");
        assert!(look(4, 20_000, false), "nobody goes on");
        assert!(!look(5, 21_000, true));
        assert!(!look(4, 21_500, true), "it is again as it was read");
    }

    #[test]
    fn only_regular_files_change() {
        assert_eq!(Stamp::of(Path::new("/dev/null")), Stamp::default());
        assert_eq!(Stamp::of(Path::new("/none")), Stamp::default());
        let file = tempfile::NamedTempFile::new().unwrap();
        let before = Stamp::of(file.path());
        assert_ne!(before, Stamp::default());
        std::fs::write(file.path(), "x").unwrap();
        assert_ne!(Stamp::of(file.path()), before);
    }

    #[test]
    fn a_file_that_is_gone_is_told() {
        let start = Instant::now();
        let mut watch = Watch { known: stamp(1), changing: None };
        assert!(!watch.look(Stamp(None), start, || false));
        assert!(watch.look(Stamp(None), start + SETTLED, || false));
        assert!(!watch.look(Stamp(None), start + SETTLED * 9, || false));
    }
}
