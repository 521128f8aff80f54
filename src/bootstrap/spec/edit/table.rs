//! The same in the table of hosts: rows that are not meant stay as they are.

use std::collections::BTreeMap;
use std::ops::Range;

use super::hosts::{labels_beside, role_words, taint_word};
use super::{EditError, Edits};
use crate::bootstrap::spec::Host;
use crate::bootstrap::spec::range::Pattern;

/// A table with a first row of names.
pub(super) struct Table<'a> {
    text: &'a str,
    columns: Vec<String>,
    rows: Vec<Row>,
}

/// A row and the hosts that it stands for.
struct Row {
    /// With the line's end.
    line: Range<usize>,
    /// With their quotes, without the blanks around them.
    cells: Vec<Range<usize>>,
}

/// A host in the table.
pub(super) struct Found<'t> {
    table: &'t Table<'t>,
    row: &'t Row,
    name: Pattern,
    address: Pattern,
    place: usize,
}

impl<'a> Table<'a> {
    /// A table that was read without a fault.
    pub(super) fn new(text: &'a str) -> Self {
        let lines = text.split_inclusive('\n').scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some((start, line))
        });
        let meant = lines.filter(|(_, line)| {
            let line = line.trim().trim_start_matches('\u{feff}');
            !line.is_empty() && !line.starts_with('#')
        });
        let mut rows = meant.map(|(start, line)| {
            let mark = line.len() - line.trim_start_matches('\u{feff}').len();
            let cells = cells(&line[mark..]).into_iter();
            let cells = cells.map(|cell| cell.start + start + mark..cell.end + start + mark);
            Row { line: start..start + line.len(), cells: cells.collect() }
        });
        let columns = rows.next().map(|row| row.cells.into_iter().map(|cell| plain(&text[cell])));
        let columns = columns.into_iter().flatten().collect();
        Self { text, columns, rows: rows.collect() }
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    fn cell(&self, row: &Row, name: &str) -> Option<String> {
        let cell = row.cells.get(self.column(name)?)?;
        Some(plain(&self.text[cell.clone()])).filter(|text| !text.is_empty())
    }

    /// The host of this name.
    pub(super) fn find(&'a self, wanted: &str) -> Option<Found<'a>> {
        self.rows.iter().find_map(|row| {
            let pattern = |name| self.cell(row, name)?.parse::<Pattern>().ok();
            let (name, address) = (pattern("name")?, pattern("address")?);
            let place = name.expand().iter().position(|name| name == wanted)?;
            Some(Found { table: self, row, name, address, place })
        })
    }
}

impl Found<'_> {
    /// Takes the host out of its row, or the row out when it stands for no other.
    pub(super) fn take_out(&self, edits: &mut Edits) -> Result<(), EditError> {
        let left = self.name.without(self.place).zip(self.address.without(self.place));
        let Some((name, address)) = left else {
            edits.replace(self.row.line.clone(), "");
            return Ok(());
        };
        self.set(&[("name", name.to_string()), ("address", address.to_string())], edits)
    }

    /// Gives the host that comes what it comes with; one of a range gets a row of its own.
    pub(super) fn put_in(&self, new: &Host, edits: &mut Edits) -> Result<(), EditError> {
        let list = |name| {
            let text = self.table.cell(self.row, name).unwrap_or_default();
            let items: Vec<_> = text.split(';').map(|item| item.trim().to_owned()).collect();
            items.into_iter().filter(|item| !item.is_empty()).collect::<Vec<_>>()
        };
        if let Some((key, value)) = new.overrides.entries().into_iter().next() {
            return Err(EditError::by_hand(
                format!(
                    "the table of hosts has no column for `{key}`, which {} takes over",
                    new.name
                ),
                format!("write {} into the file's `hosts`, with `{key}: {value}`", new.name),
            ));
        }
        let (there, wanted) = (list("roles"), role_words(new));
        let mut cells = Vec::new();
        if there.len() != wanted.len() || !wanted.iter().all(|role| there.iter().any(|t| t == role))
        {
            cells.push(("roles", wanted.join(";")));
        } else if self.name.count() > 1 {
            return Ok(());
        }
        let labels = list("labels");
        let names = labels.iter().filter_map(|label| label.split_once('='));
        let names = names.map(|(name, _)| name.trim().to_owned()).collect();
        let lacks = labels_beside(new, &names).map(|(name, value)| format!("{name}={value}"));
        let all: Vec<_> = labels.iter().cloned().chain(lacks).collect();
        if all.len() > labels.len() {
            cells.push(("labels", all.join(";")));
        }
        if list("taints").is_empty() && !new.taints.is_empty() {
            let taints: Vec<_> = new.taints.iter().map(taint_word).collect();
            cells.push(("taints", taints.join(";")));
        }
        if self.name.count() == 1 {
            return self.set(&cells, edits);
        }
        cells.push(("name", new.name.clone()));
        cells.push(("address", new.address.to_string()));
        let mut own = Edits::default();
        self.set(&cells, &mut own)?;
        self.take_out(edits)?;
        let line = self.row.line.clone();
        let copy = own.of(self.table.text, line.clone());
        let joint = if self.table.text[..line.end].ends_with('\n') { "" } else { "\n" };
        edits.insert(line.end, format!("{joint}{copy}"));
        Ok(())
    }

    /// Writes cells by the names of their columns.
    fn set(&self, new: &[(&str, String)], edits: &mut Edits) -> Result<(), EditError> {
        let mut beyond = BTreeMap::new();
        for (name, text) in new {
            let column = self.table.column(name).ok_or_else(|| {
                let remedy = format!("add it with `{text}` for {}", self.name);
                EditError::by_hand(format!("the table of hosts has no column `{name}`"), remedy)
            })?;
            match self.row.cells.get(column) {
                Some(cell) => edits.replace(cell.clone(), quoted(text)),
                None => _ = beyond.insert(column, quoted(text)),
            }
        }
        if let Some((last, _)) = beyond.last_key_value() {
            let line = &self.table.text[self.row.line.clone()];
            let end = self.row.line.start + line.trim_end_matches(['\r', '\n']).len();
            let cell = |column| format!(",{}", beyond.get(&column).cloned().unwrap_or_default());
            edits.insert(end, (self.row.cells.len()..=*last).map(cell).collect::<String>());
        }
        Ok(())
    }
}

/// The cells of a line (RFC 4180), with their quotes, without the blanks around them.
fn cells(line: &str) -> Vec<Range<usize>> {
    let line = line.trim_end_matches(['\r', '\n']);
    let (mut cells, mut start, mut quoted) = (Vec::new(), 0, false);
    let mut cell = |range: Range<usize>| {
        let text = &line[range.clone()];
        let begin = range.start + (text.len() - text.trim_start().len());
        cells.push(begin.min(range.end)..begin.max(range.start + text.trim_end().len()));
    };
    for (at, sign) in line.char_indices() {
        match sign {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                cell(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    cell(start..line.len());
    cells
}

fn plain(cell: &str) -> String {
    match cell.strip_prefix('"').and_then(|cell| cell.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => cell.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_told_apart_with_their_quotes() {
        let line = " a ,\"w[1,3]\" , ,\"say \"\"x\"\"\",\r\n";
        let found: Vec<_> = cells(line).into_iter().map(|cell| &line[cell]).collect();
        assert_eq!(found, ["a", "\"w[1,3]\"", "", "\"say \"\"x\"\"\"", ""]);
        assert_eq!((plain(found[1]), plain(found[3])), ("w[1,3]".into(), "say \"x\"".into()));
        assert_eq!((quoted("w[1,3]").as_str(), quoted("w3").as_str()), ("\"w[1,3]\"", "w3"));
    }
}
