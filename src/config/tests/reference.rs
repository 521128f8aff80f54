//! The reference says what the code does.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::config::{KeyDoc, accepted_keys, reference, reference_markdown, shape};

const NAME: &str = "clusters[].name";

#[test]
fn every_key_is_documented() {
    let found = accepted_keys::<shape::Proxy>();
    // A cluster of a list has the keys that the only one has, and a name.
    let (of_clusters, found): (BTreeSet<_>, BTreeSet<_>) =
        found.into_iter().partition(|key| key.starts_with("clusters[]") && key != NAME);
    let of_one = ["apiVersion", "kind", "admin", "hardening", "threads", "log", "clusters"];
    let of_one =
        found.iter().filter(|key| !of_one.contains(&key.split(['.', '[']).next().unwrap()));
    assert_eq!(of_clusters, of_one.map(|key| format!("clusters[].{key}")).collect());
    let documented: BTreeSet<_> = reference().iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(documented.len(), reference().len());
    assert_eq!(documented, found);
}

/// A file that sets one key and what else is needed.
fn file_with(path: &str, value: &str) -> String {
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let backends = "backends: [address: 'a:1']\n";
    let tcp = "healthCheck: {type: tcp}\n";
    match section {
        "" => format!("{HEAD}{backends}{tcp}{key}: {value}\n"),
        "healthCheck" => format!("{HEAD}{backends}healthCheck: {{type: tcp, {key}: {value}}}\n"),
        section => format!("{HEAD}{backends}{tcp}{section}: {{{key}: {value}}}\n"),
    }
}

fn accepts(path: &str, value: &str) -> bool {
    parse(&file_with(path, value)).is_ok()
}

#[test]
fn documented_ranges_are_those_in_force() {
    let mut checked = 0;
    for KeyDoc { path, values, .. } in reference() {
        let Some((low, high)) = values.split_once(" to ") else {
            continue;
        };
        if let (Ok(low), Ok(high)) = (low.parse::<u64>(), high.parse::<u64>()) {
            assert!(accepts(path, &low.to_string()) && accepts(path, &high.to_string()), "{path}");
            assert!(!accepts(path, &(low - 1).to_string()), "{path}");
            assert!(!accepts(path, &(high + 1).to_string()), "{path}");
            checked += 1;
        } else if let Ok(low) = humantime::parse_duration(low) {
            assert!(accepts(path, &format!("{}ns", low.as_nanos())), "{path}");
            if let Some(less) = low.checked_sub(Duration::from_nanos(1)) {
                assert!(!accepts(path, &format!("{}ns", less.as_nanos())), "{path}");
            }
            if let Ok(high) = humantime::parse_duration(high) {
                assert!(accepts(path, &format!("{}ns", high.as_nanos())), "{path}");
                assert!(!accepts(path, &format!("{}ns", high.as_nanos() + 1)), "{path}");
            }
            checked += 1;
        }
    }
    assert_eq!(checked, 15);
}

/// Writing the documented default changes nothing.
#[test]
fn documented_defaults_are_those_in_force() {
    let folder = certificates();
    let head = format!("{HEAD}backends: [address: 'a:1']\n");
    for KeyDoc { path, default, .. } in reference() {
        if default.is_empty() || *path == "healthCheck.tls.caFile" {
            continue;
        }
        let value = if *path == "listen" {
            default.split(", ").map(|a| format!("'{a}'")).collect::<Vec<_>>().join(", ")
        } else {
            (*default).to_owned()
        };
        let value = if *path == "listen" { format!("[{value}]") } else { value };
        let set = path.rsplit('.').fold(value, |inner, key| format!("{{{key}: {inner}}}"));
        let set = set.strip_prefix('{').and_then(|s| s.strip_suffix('}')).unwrap();
        let overrides = Overrides { ca_file: Some(path_of(&folder)), ..Overrides::default() };
        let mut with = parse_in(folder.path(), &format!("{head}{set}\n"), &overrides).expect(path);
        with.clusters[0].listen.iter_mut().for_each(|listen| listen.optional = true);
        assert_eq!(with, parse_in(folder.path(), &head, &overrides).unwrap(), "{path}");
    }
    let ca = reference().iter().find(|key| key.path == "healthCheck.tls.caFile").unwrap();
    assert_eq!(ca.default, crate::config::DEFAULT_CA_FILE);
}

fn path_of(folder: &TempDir) -> PathBuf {
    path(folder, "ca.crt")
}

#[test]
fn the_table_has_a_row_a_key() {
    let table = reference_markdown();
    assert_eq!(table.lines().count(), reference().len() + 2);
    assert!(table.lines().all(|line| line.matches('|').count() == 5), "{table}");
    assert!(table.contains("| `healthCheck.interval` | `10s` | 100ms to 1h | "));
}
