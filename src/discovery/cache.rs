//! `discovery.cacheFile`: what was found, kept for a start at which no seed is reached.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Own;
use super::found::{Origin, Sane, Server, sane, zone};
use super::list;
use super::roster::Roster;

/// The `kind` of the file, by which a foreign one is told.
const KIND: &str = "apiproxy-endpoints";
const VERSION: u32 = 1;

/// 64 servers take less than a tenth of it.
const LARGEST: u64 = 256 * 1024;

/// How often it is written when nothing changes, so that its age says something.
const REWRITE: Duration = Duration::from_hours(1);

/// How often it is seen to whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    kind: String,
    version: u32,
    /// Seconds since 1970.
    written_at: u64,
    servers: Vec<Kept>,
    /// Of everything above; tells accidents, not intent.
    checksum: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    address: String,
    zone: Option<String>,
}

impl Document {
    fn sum(&self) -> String {
        let servers = self.servers.iter().flat_map(|kept| {
            [kept.address.as_str(), "\n", kept.zone.as_deref().unwrap_or_default(), "\n"]
        });
        let head = format!("{}\n{}\n{}\n", self.kind, self.version, self.written_at);
        // FNV-1a of 64 bits.
        let bytes = head.bytes().chain(servers.flat_map(str::bytes));
        let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{sum:016x}")
    }
}

/// The text of the file.
pub(super) fn render(servers: &[Server], now: SystemTime) -> String {
    let kept = |server: &Server| Kept {
        address: server.address.to_string(),
        zone: server.zone.as_deref().map(str::to_owned),
    };
    let mut document = Document {
        kind: KIND.to_owned(),
        version: VERSION,
        written_at: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        servers: servers.iter().map(kept).collect(),
        checksum: String::new(),
    };
    document.checksum = document.sum();
    // No map with odd keys and no number out of range is in it.
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}

/// What a cache says, and when it was written.
///
/// # Errors
/// It is torn, damaged, foreign or of another version.
pub(super) fn parse(text: &str) -> Result<(Vec<Server>, SystemTime), String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("it is damaged: {error}"))?;
    if value.get("kind").and_then(serde_json::Value::as_str) != Some(KIND) {
        return Err("it is not one of ours".to_owned());
    }
    if value.get("version").and_then(serde_json::Value::as_u64) != Some(u64::from(VERSION)) {
        return Err("it is of another version".to_owned());
    }
    let document: Document =
        serde_json::from_value(value).map_err(|error| format!("it is damaged: {error}"))?;
    if document.sum() != document.checksum {
        return Err("it is damaged: its checksum is wrong".to_owned());
    }
    let server = |kept: Kept| {
        let address = kept.address.parse().map_err(|error| format!("{error}"))?;
        Ok(Server { address, zone: zone(kept.zone) })
    };
    let servers = document.servers.into_iter().map(server).collect::<Result<_, String>>()?;
    let written = UNIX_EPOCH.checked_add(Duration::from_secs(document.written_at));
    Ok((servers, written.unwrap_or(UNIX_EPOCH)))
}

/// What an earlier run has kept, and when. `own` is where this proxy listens.
///
/// # Errors
/// It cannot be read or used, in words.
pub(super) fn read(path: &Path, own: &[SocketAddr]) -> Result<(Sane, SystemTime), String> {
    let (servers, written) = list::read(path, LARGEST).and_then(|text| parse(&text))?;
    Ok((sane(servers, own, true)?, written))
}

/// Takes in what an earlier run has kept. Without a usable file nothing is known, as at the first start.
pub(super) fn load(path: &Path, roster: &Roster, own: &Own) {
    let file = path.display();
    if !path.exists() {
        info!(%file, "there is no cache of servers yet");
        return;
    }
    match read(path, &own.addresses()) {
        Ok((answer, written)) => {
            let servers = own.others(Origin::Cache, answer);
            let age = SystemTime::now().duration_since(written).unwrap_or_default().as_secs();
            let age = humantime::format_duration(Duration::from_secs(age));
            info!(%file, %age, servers = servers.len(), "servers of the last run are tried too");
            roster.found(Origin::Cache, servers, written);
        }
        Err(problem) => {
            roster.note_problem(Origin::Cache, &problem);
            warn!(%file, problem, "the cache of servers is ignored");
        }
    }
}

/// Keeps the file up to date until the future is dropped.
pub(super) async fn run(path: &Path, roster: Rc<Roster>) {
    let mut written: Option<(Vec<Server>, SystemTime)> = None;
    let mut warned = false;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(servers) = roster.to_keep() else { continue };
        let now = SystemTime::now();
        let is_kept = written.as_ref().is_some_and(|(kept, at)| {
            let age = now.duration_since(*at).unwrap_or(REWRITE);
            *kept == servers && age < REWRITE
        });
        if is_kept {
            continue;
        }
        let result = write(path, &render(&servers, now));
        if let (Err(error), false) = (&result, warned) {
            warn!(file = %path.display(), %error, "the cache of servers cannot be written");
        }
        warned = result.is_err();
        // A failure is tried again at the next change, or in an hour.
        written = Some((servers, now));
    }
}

/// Replaces the file at a stroke: a crash leaves the old one or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<Server> {
        let server = |address: &str, zone: Option<&str>| Server {
            address: address.parse().unwrap(),
            zone: zone.map(Into::into),
        };
        vec![server("10.0.0.1:6443", Some("a")), server("cp2.example.com:6443", None)]
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let text = render(&servers(), now);
        assert_eq!(parse(&text).unwrap(), (servers(), now));
        for torn in 0..text.len() - 1 {
            assert!(parse(&text[..torn]).is_err(), "torn at {torn}");
        }
        // Any one byte that is another.
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(parse(&text).is_err(), "byte {at}: {text}");
            }
        }
        let other = text.replace("\"version\":1", "\"version\":2");
        assert_eq!(parse(&other).unwrap_err(), "it is of another version");
        assert_eq!(parse("{\"servers\":[]}").unwrap_err(), "it is not one of ours");
    }

    #[test]
    fn it_is_replaced_at_a_stroke() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.json");
        for text in ["one", "two"] {
            write(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
        assert!(write(&folder.path().join("none/cache.json"), "x").is_err());
    }
}
