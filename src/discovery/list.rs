//! `discovery.file`: a list of addresses that somebody else keeps up to date.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Own;
use super::found::{Origin, Sane, Server, sane, zone};
use super::roster::Roster;
use crate::watch::{LOOK_EVERY, Stamp, Watch, has_end};

/// More is no list of at most 64 servers.
const LARGEST: u64 = 64 * 1024;

/// How often a file that has not changed is noted to say so still.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// Follows the file until the future is dropped.
pub(super) async fn run(path: &Path, roster: Rc<Roster>, own: Own) {
    let mut taken = Stamp::of(path);
    let mut watch = Watch::new(taken);
    let mut good = take(path, &roster, &own);
    let mut confirmed = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let (stamp, now) = (Stamp::of(path), Instant::now());
        if watch.look(stamp, now, || has_end(path)) {
            (taken, good, confirmed) = (stamp, take(path, &roster, &own), now);
        } else if good && stamp == taken && now >= confirmed + CONFIRM_EVERY {
            // It says so still: what has been true for long is no old news.
            roster.confirm(Origin::File);
            confirmed = now;
        }
    }
}

/// Takes in what the file says; false when that is nothing to go by.
fn take(path: &Path, roster: &Roster, own: &Own) -> bool {
    match servers(path, &own.addresses()) {
        Ok(answer) => {
            let servers = own.others(Origin::File, answer);
            roster.found(Origin::File, servers, SystemTime::now());
            true
        }
        Err(problem) => {
            roster.note_problem(Origin::File, &problem);
            false
        }
    }
}

/// The servers that the file names now. `own` is where this proxy listens.
///
/// # Errors
/// It cannot be read or used, in words.
pub(super) fn servers(path: &Path, own: &[SocketAddr]) -> Result<Sane, String> {
    sane(read(path, LARGEST).and_then(|text| parse(&text))?, own, true)
}

/// Reads a small text file, and no pipe or device, which may never end.
pub(super) fn read(path: &Path, largest: u64) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if metadata.len() > largest {
        return Err(format!("it is larger than {largest} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// An item of a list in YAML: as in `backends`, or the address alone.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Address(String),
    Full(Full),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    address: String,
    zone: Option<String>,
    /// Allowed, so that a list of backends can be taken as it is.
    #[serde(rename = "name")]
    _name: Option<String>,
}

/// The servers that a file names: one HOST:PORT a line, or a list of backends in YAML.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(text: &str) -> Result<Vec<Server>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let blank = |line: &str| line.is_empty() || line.starts_with('#');
    let mut lines = text.lines().map(str::trim).filter(|line| !blank(line)).peekable();
    if lines.peek().is_some_and(|first| first.starts_with('-')) {
        let items: Vec<Item> = serde_saphyr::from_str(text).map_err(|error| {
            // The first line; a picture of the place follows.
            let error = error.to_string();
            format!("it is no list: {}", error.lines().next().unwrap_or_default())
        })?;
        return items.into_iter().map(Item::server).collect();
    }
    lines.map(|line| server(line, None)).collect()
}

impl Item {
    fn server(self) -> Result<Server, String> {
        match self {
            Self::Address(address) => server(&address, None),
            Self::Full(Full { address, zone, .. }) => server(&address, zone),
        }
    }
}

fn server(address: &str, in_zone: Option<String>) -> Result<Server, String> {
    let address = address.parse().map_err(|error| format!("{error}"))?;
    Ok(Server { address, zone: zone(in_zone) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Result<Vec<String>, String> {
        Ok(parse(text)?.iter().map(|server| server.address.to_string()).collect())
    }

    #[test]
    fn lines_and_yaml_are_understood() {
        let lines =
            "# the servers\n\n10.0.0.1:6443\r\n  cp2.example.com:6443 \n[2001:db8::1]:6443\n";
        assert_eq!(
            addresses(lines).unwrap(),
            ["10.0.0.1:6443", "cp2.example.com:6443", "[2001:db8::1]:6443"]
        );
        let yaml = "# list\n- 10.0.0.1:6443\n- { address: 10.0.0.2:6443, name: cp2, zone: b }\n";
        assert_eq!(addresses(yaml).unwrap(), ["10.0.0.1:6443", "10.0.0.2:6443"]);
        assert_eq!(parse(yaml).unwrap()[1].zone.as_deref(), Some("b"));
        assert!(addresses("").unwrap().is_empty());
        for bad in ["10.0.0.1", "10.0.0.1:0", "- {adress: a}", "- 7", "a:1 b:1", "<html>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        assert!(read(&path, 10).is_err());
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).as_deref(), Ok("0123456789"));
        assert!(read(&path, 9).is_err());
        assert!(read(folder.path(), 10).is_err());
        assert!(read(Path::new("/dev/zero"), 10).is_err());
    }
}
