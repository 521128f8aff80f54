//! Watches: what changes in a collection, told as it is seen.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::resources::Target;
use super::store::Store;

/// How often the store is looked at.
const PACE: Duration = Duration::from_millis(300);

/// How long a watch lasts unless the client says otherwise.
const LONGEST: Duration = Duration::from_mins(30);

/// Tells changes since the revision that the query names, until the client goes or its time is over.
pub(super) fn stream(
    store: &Store,
    target: &Target,
    query: &BTreeMap<String, String>,
    stream: &mut impl Write,
) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    stream.flush()?;
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok());
    let end = Instant::now() + seconds.map_or(LONGEST, Duration::from_secs);
    let since = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut known: Option<BTreeMap<String, Value>> = None;
    while Instant::now() < end {
        if let Ok((objects, _)) = store.selected(target, query) {
            let current: BTreeMap<_, _> =
                objects.into_iter().map(|object| (name(&object), object)).collect();
            for event in changes(known.as_ref(), &current, since) {
                let text = format!("{event}\n");
                write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
            }
            // What is no chunk would end the answer: an empty flush finds out who has gone.
            stream.flush()?;
            known = Some(current);
        }
        std::thread::sleep(PACE);
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

fn name(object: &Value) -> String {
    format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"])
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// At first everything newer than `since` is news; what was removed before is not known.
fn changes(
    known: Option<&BTreeMap<String, Value>>,
    current: &BTreeMap<String, Value>,
    since: u64,
) -> Vec<Value> {
    let event = |kind: &str, object: &Value| json!({ "type": kind, "object": object });
    let mut events = Vec::new();
    for (name, object) in current {
        match known.map(|known| known.get(name)) {
            None if revision(object) > since => {
                events.push(event(if since == 0 { "ADDED" } else { "MODIFIED" }, object));
            }
            Some(None) => events.push(event("ADDED", object)),
            Some(Some(old)) if old != object => events.push(event("MODIFIED", object)),
            _ => {}
        }
    }
    let gone = known.into_iter().flatten().filter(|(name, _)| !current.contains_key(*name));
    events.extend(gone.map(|(_, object)| event("DELETED", object)));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once() {
        let object = |revision: u64| json!({ "metadata": { "name": "a", "resourceVersion": revision.to_string() } });
        let one = |revision| BTreeMap::from([("a".to_owned(), object(revision))]);
        let kinds = |events: Vec<Value>| {
            events.iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kinds(changes(None, &one(5), 0)), ["ADDED"]);
        assert_eq!(kinds(changes(None, &one(5), 4)), ["MODIFIED"]);
        assert_eq!(kinds(changes(None, &one(5), 5)), [""; 0]);
        assert_eq!(kinds(changes(Some(&one(5)), &one(5), 0)), [""; 0]);
        assert_eq!(kinds(changes(Some(&one(5)), &one(6), 0)), ["MODIFIED"]);
        assert_eq!(kinds(changes(Some(&one(5)), &BTreeMap::new(), 0)), ["DELETED"]);
    }
}
