//! A host goes out of the text and another takes its place.

use std::collections::BTreeSet;

use super::layout::{Item, Layout};
use super::scan::{flow_end, line_end, line_start};
use super::table::Table;
use super::{EditError, Edits};
use crate::bootstrap::spec::range::Pattern;
use crate::bootstrap::spec::{Host, Role, Taint, shape};
use crate::config::Faults;

/// The list of hosts that get a copy of each backup.
const COPY_TO: &str = "spec.etcd.backup.copyTo";
/// The host that holds drills.
const DRILL_HOST: &str = "spec.etcd.backup.drill.host";

/// An entry of `hosts`, and which of the hosts that it stands for is meant.
struct Entry {
    path: String,
    item: Item,
    name: Pattern,
    address: Pattern,
    place: usize,
    /// The names of its labels.
    labels: BTreeSet<String>,
}

/// Both texts, the file's and the table's, and what is to be changed in them.
pub(super) fn replace(
    layout: &Layout<'_>,
    table: Option<&Table<'_>>,
    (edits, rows): (&mut Edits, &mut Edits),
    old: &str,
    new: &Host,
) -> Result<(), EditError> {
    let mut faults = Faults::new("", layout.text);
    let raw: Option<shape::File> = layout.document.read(&mut faults);
    let spec = raw.and_then(|file| file.spec).unwrap_or_default();
    let hosts = spec.hosts.unwrap_or_default();
    let of_table = |name: &str| table.and_then(|table| table.find(name));
    match (find(layout, &hosts, old), of_table(old)) {
        (Some(gone), _) => take_out(layout, &gone, edits)?,
        (None, Some(gone)) => gone.take_out(rows)?,
        (None, None) => return Err(by_hand(old)),
    }
    match (find(layout, &hosts, &new.name), of_table(&new.name)) {
        (Some(comes), _) => put_in(layout, &comes, new, edits)?,
        (None, Some(comes)) => comes.put_in(new, rows)?,
        (None, None) => return Err(by_hand(&new.name)),
    }
    let backup = spec.etcd.and_then(|etcd| etcd.backup).unwrap_or_default();
    let copies: Vec<_> = backup.copy_to.unwrap_or_default().into_iter().flatten().collect();
    follow(layout, &copies, old, &new.name, edits);
    let drills = backup.drill.and_then(|drill| drill.host).filter(|host| host == old);
    if let Some(there) = drills.and_then(|_| layout.scalar(DRILL_HOST)) {
        edits.replace(there.clone(), layout.like(&there, &new.name));
    }
    Ok(())
}

fn by_hand(host: &str) -> EditError {
    EditError::by_hand(
        format!("{host} is written in a way that is not understood"),
        "change the file by hand: without the host that goes, and with its roles at the one that comes",
    )
}

fn find(layout: &Layout<'_>, hosts: &shape::List<shape::Host>, wanted: &str) -> Option<Entry> {
    hosts.iter().enumerate().find_map(|(index, raw)| {
        let raw = raw.as_ref()?;
        let pattern = |text: &Option<String>| text.as_deref()?.parse::<Pattern>().ok();
        let (name, address) = (pattern(&raw.name)?, pattern(&raw.address)?);
        let place = name.expand().iter().position(|name| name == wanted)?;
        let path = format!("spec.hosts[{index}]");
        let item = layout.item(&path)?;
        let labels = raw.labels.iter().flat_map(|labels| labels.keys().cloned()).collect();
        Some(Entry { path, item, name, address, place, labels })
    })
}

/// Takes the host out of its entry, or the entry out of the list when it stands for no other.
fn take_out(layout: &Layout<'_>, entry: &Entry, edits: &mut Edits) -> Result<(), EditError> {
    let (Some(name), Some(address)) =
        (entry.name.without(entry.place), entry.address.without(entry.place))
    else {
        edits.replace(entry.item.whole.clone(), "");
        return Ok(());
    };
    write(layout, entry, &name.to_string(), &address.to_string(), edits)
}

fn write(
    layout: &Layout<'_>,
    entry: &Entry,
    name: &str,
    address: &str,
    edits: &mut Edits,
) -> Result<(), EditError> {
    for (key, text) in [("name", name), ("address", address)] {
        let there = layout.scalar(&format!("{}.{key}", entry.path));
        let there = there.ok_or_else(|| by_hand(&entry.name.to_string()))?;
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        let quoted = layout.text[there.clone()].starts_with(['"', '\'']);
        let text = match (plain, quoted) {
            (true, _) | (_, true) => layout.like(&there, text),
            // A flow collection takes no brackets without quotes, and neither does a beginning.
            (false, false) => format!("\"{text}\""),
        };
        edits.replace(there, text);
    }
    Ok(())
}

/// Gives the host that comes what it comes with; one of a range gets an entry of its own.
fn put_in(
    layout: &Layout<'_>,
    entry: &Entry,
    new: &Host,
    edits: &mut Edits,
) -> Result<(), EditError> {
    if entry.name.count() == 1 {
        return furnish(layout, entry, new, edits);
    }
    let there = entry_roles(layout, entry);
    if there == role_words(new) {
        // It has the roles already, with the others of its range.
        return Ok(());
    }
    let mut own = Edits::default();
    write(layout, entry, &new.name, &new.address.to_string(), &mut own)?;
    furnish(layout, entry, new, &mut own)?;
    take_out(layout, entry, edits)?;
    layout.copy(&entry.item, &own, edits);
    Ok(())
}

pub(super) fn role_words(host: &Host) -> Vec<&'static str> {
    host.roles.iter().map(|role| role.as_str()).collect()
}

/// The roles of an entry as they are written, in the order of [`role_words`].
fn entry_roles(layout: &Layout<'_>, entry: &Entry) -> Vec<&'static str> {
    let scalar = |index: usize| layout.scalar(&format!("{}.roles[{index}]", entry.path));
    let written = (0..).map_while(scalar).map(|at| layout.text[at].trim_matches(['"', '\'']));
    let written: Vec<_> = written.collect();
    Role::ALL.map(Role::as_str).into_iter().filter(|role| written.contains(role)).collect()
}

fn furnish(
    layout: &Layout<'_>,
    entry: &Entry,
    new: &Host,
    edits: &mut Edits,
) -> Result<(), EditError> {
    if entry_roles(layout, entry) != role_words(new) {
        roles(layout, entry, &role_words(new), edits).ok_or_else(|| {
            let roles = role_words(new).join(", ");
            EditError::by_hand(
                format!("the roles of {} are written in a way that is not understood", new.name),
                format!("give it `roles: [{roles}]` by hand"),
            )
        })?;
    }
    let mut entries = Vec::new();
    let lacks = labels_beside(new, &entry.labels);
    let lacks: Vec<_> = lacks.map(|(name, value)| format!("{name}: \"{value}\"")).collect();
    if !lacks.is_empty() && entry.labels.is_empty() {
        entries.push(format!("labels: {{ {} }}", lacks.join(", ")));
    } else if !lacks.is_empty() {
        labels(layout, entry, &lacks, edits);
    }
    if !new.taints.is_empty() && !layout.document.has(&format!("{}.taints", entry.path)) {
        let taints = new.taints.iter().map(|taint| format!("\"{}\"", taint_word(taint)));
        entries.push(format!("taints: [{}]", taints.collect::<Vec<_>>().join(", ")));
    }
    let settings = new.overrides.entries().into_iter();
    let lacks = settings.filter(|(key, _)| !layout.document.has(&format!("{}.{key}", entry.path)));
    entries.extend(lacks.map(|(key, value)| format!("{key}: {value}")));
    layout.add(&entry.item, &entries, edits);
    Ok(())
}

/// The labels of a host beside those of these names.
pub(super) fn labels_beside<'h>(
    host: &'h Host,
    names: &'h BTreeSet<String>,
) -> impl Iterator<Item = (&'h String, &'h String)> {
    host.labels.iter().filter(|(name, _)| !names.contains(*name))
}

/// A taint as it is written in a file.
pub(super) fn taint_word(Taint { key, value, effect }: &Taint) -> String {
    if value.is_empty() { format!("{key}:{effect}") } else { format!("{key}={value}:{effect}") }
}

/// Writes other roles, in the form of those that are there.
fn roles(layout: &Layout<'_>, entry: &Entry, roles: &[&str], edits: &mut Edits) -> Option<()> {
    let path = format!("{}.roles", entry.path);
    let at = layout.collection(&path)?;
    if layout.text[at..].starts_with('[') {
        let end = flow_end(layout.text, at)?;
        edits.replace(at..end, format!("[{}]", roles.join(", ")));
        return Some(());
    }
    let last = (0..).map_while(|index| layout.scalar(&format!("{path}[{index}]"))).last()?;
    let indent = at - line_start(layout.text, at);
    let joint = format!("\n{}- ", " ".repeat(indent));
    edits.replace(at..last.end, format!("- {}", roles.join(&joint)));
    Some(())
}

/// Adds labels to those that are there, before the first.
fn labels(layout: &Layout<'_>, entry: &Entry, pairs: &[String], edits: &mut Edits) {
    let path = format!("{}.labels", entry.path);
    let Some(at) = layout.collection(&path) else { return };
    if layout.text[at..].starts_with('{') {
        edits.insert(at + 1, format!(" {},", pairs.join(", ")));
        return;
    }
    let indent = at - line_start(layout.text, at);
    let lines = pairs.iter().map(|pair| format!("{pair}\n{}", " ".repeat(indent)));
    edits.insert(at, lines.collect::<String>());
}

/// A copy of each backup that went to the one goes to the other.
fn follow(layout: &Layout<'_>, copies: &[String], old: &str, new: &str, edits: &mut Edits) {
    let Some(index) = copies.iter().position(|name| name == old) else { return };
    let Some(there) = layout.scalar(&format!("{COPY_TO}[{index}]")) else { return };
    if !copies.iter().any(|name| name == new) {
        edits.replace(there.clone(), layout.like(&there, new));
        return;
    }
    let before = layout.text[..there.start].trim_end();
    if before.ends_with('-') {
        let start = line_start(layout.text, before.len() - 1);
        let end = line_end(layout.text, there.end);
        edits.replace(start..(end + 1).min(layout.text.len()), "");
    } else {
        edits.replace(layout.with_comma(&there), "");
    }
}
