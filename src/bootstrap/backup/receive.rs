//! The side of a host that keeps copies. Whoever has the key of an etcd host can put backups of its own
//! cluster there and see which there are: not read them, not replace an intact one, and not drive the
//! old ones out with new ones.

use std::io::BufRead;
use std::path::Path;
use std::time::SystemTime;

use super::depot::{Depot, DepotError};
use super::prune::Rules;
use super::wire::{Order, Reply, arrival_word, receive_label};

/// What a key allows.
#[derive(Clone, Debug)]
pub struct Permit<'a> {
    /// The only cluster whose backups are taken.
    pub cluster: &'a str,
    /// The folder of copies.
    pub folder: &'a Path,
    /// What is kept.
    pub rules: Rules,
}

/// Does what is asked; `command` is what ssh was given, `input` what comes after it.
pub fn receive(
    permit: &Permit<'_>,
    command: Option<&str>,
    input: &mut dyn BufRead,
    now: SystemTime,
) -> Reply {
    let result = match command.map(|text| (text, Order::parse(text))) {
        Some((_, Some(Order::Put))) => put(permit, input, now),
        Some((_, Some(Order::List))) => list(permit),
        Some((text, None)) => Err(format!("`{}` is not understood", text.escape_debug())),
        None => Err("this key is for backups alone".to_owned()),
    };
    result.unwrap_or_else(Reply::Refused)
}

fn text(error: &DepotError) -> String {
    error.to_string()
}

fn list(permit: &Permit<'_>) -> Result<Reply, String> {
    let all =
        Depot::open(permit.folder).and_then(|depot| depot.list()).map_err(|error| text(&error))?;
    Ok(Reply::List(all.into_iter().filter(|one| one.name.cluster == permit.cluster).collect()))
}

fn put(permit: &Permit<'_>, input: &mut dyn BufRead, now: SystemTime) -> Result<Reply, String> {
    let label = receive_label(input).map_err(|error| format!("no label came: {error}"))?;
    let name = &label.manifest.name;
    if name.cluster != permit.cluster {
        return Err(format!("{name} is of another cluster than {}", permit.cluster));
    }
    let depot = Depot::open(permit.folder).map_err(|error| text(&error))?;
    let _locked = depot.lock().map_err(|error| text(&error))?;
    let mut bundle = input;
    let arrival = depot.put(&label, &mut bundle).map_err(|error| text(&error))?;
    let gone = depot.prune(permit.cluster, permit.rules, now).map_err(|error| text(&error))?;
    let pruned = gone.iter().map(ToString::to_string).collect();
    Ok(Reply::Put { arrival: arrival_word(arrival).to_owned(), pruned })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::bundle::Summed;
    use super::super::manifest::made::label;
    use super::super::wire::send_label;
    use super::*;

    fn message(day: u64, bytes: &[u8]) -> Vec<u8> {
        let mut summed = Summed::new(bytes);
        std::io::copy(&mut summed, &mut std::io::sink()).unwrap();
        let label = label(day * 86_400, bytes.len() as u64, &summed.sum());
        let mut message = Vec::new();
        send_label(&mut message, &label).unwrap();
        message.extend(bytes);
        message
    }

    #[test]
    fn a_key_can_put_and_list_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules { keep: 1, at_least: 60 };
        let permit = Permit { cluster: "prod", folder: folder.path(), rules };
        let now = SystemTime::now();
        let ask = |permit: &Permit<'_>, command, message: &[u8], now| {
            receive(permit, command, &mut &*message, now)
        };
        let put = |day, bytes: &[u8], now| ask(&permit, Some("put"), &message(day, bytes), now);
        let done = |arrival: &str, pruned: &[&str]| Reply::Put {
            arrival: arrival.to_owned(),
            pruned: pruned.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(put(1, b"one", now), done("new", &[]));
        assert_eq!(put(1, b"one", now), done("known", &[]));
        assert_eq!(put(2, b"two", now), done("new", &[]), "too new to drive another out");
        let Reply::Refused(why) = put(2, b"2", now) else { panic!("an intact one was replaced") };
        assert!(why.contains("it is intact"), "{why}");
        let Reply::List(all) = ask(&permit, Some("list"), b"", now) else { panic!("no list") };
        assert_eq!(all.len(), 2);
        let later = now + Duration::from_mins(2);
        assert_eq!(
            put(3, b"three", later),
            done("new", &["prod-19700103T000000Z-r7", "prod-19700102T000000Z-r7"])
        );

        let refused = |reply| match reply {
            Reply::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let other = Permit { cluster: "test", ..permit.clone() };
        let why = refused(ask(&other, Some("put"), &message(4, b"four"), now));
        assert_eq!(why, "prod-19700105T000000Z-r7 is of another cluster than test");
        assert_eq!(refused(ask(&permit, Some("sh -i"), b"", now)), "`sh -i` is not understood");
        assert_eq!(refused(ask(&permit, None, b"", now)), "this key is for backups alone");
        assert!(refused(ask(&permit, Some("put"), b"x\n", now)).contains("no label came"));
        let torn = message(5, b"five");
        let why = refused(ask(&permit, Some("put"), &torn[..torn.len() - 1], now));
        assert!(why.contains("did not arrive as it was sent"), "{why}");
    }
}
