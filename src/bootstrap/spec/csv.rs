//! Hosts as a table (RFC 4180): a first row of names, then one row a host.

use std::collections::BTreeMap;

use crate::config::{Fault, Faults, Place, quoted, suggestion};

/// The columns that a table can have.
const COLUMNS: [&str; 6] = ["name", "address", "roles", "zone", "labels", "taints"];

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    line: usize,
    /// By the names of their columns; empty ones are left out.
    cells: BTreeMap<&'static str, Cell>,
}

/// What stands between two commas.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    text: String,
    column: usize,
}

impl Row {
    /// What is in a column.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        self.cells.get(column).map(|cell| cell.text.as_str())
    }

    /// Where that stands, or else the row.
    pub(super) fn place(&self, column: &str) -> Place {
        let column = self.cells.get(column).map_or(1, |cell| cell.column);
        Place::Position { line: self.line, column }
    }

    /// The items of a column that holds a list: `;` stands between them.
    pub(super) fn list(&self, column: &str) -> Vec<String> {
        let items = self.text(column).into_iter().flat_map(|text| text.split(';'));
        items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// Reads a table. Blank rows, and those that begin with `#`, are passed over.
pub(super) fn read(text: &str, faults: &mut Faults) -> Vec<Row> {
    let mut lines = text.lines().zip(1..).filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let hint = "write `name,address,roles,zone,labels,taints` as the first row";
    let Some((header, line)) = lines.next() else {
        let fault = Fault::new(Place::Position { line: 1, column: 1 }, "the table has no rows");
        faults.push(fault.hint(hint));
        return Vec::new();
    };
    let Some(columns) = columns(&cells(header, line, faults), line, faults) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (text, line) in lines {
        let cells = cells(text, line, faults);
        if let Some(cell) = cells.get(columns.len()) {
            let message = format!("the row has {} cells, the first {}", cells.len(), columns.len());
            let place = Place::Position { line, column: cell.column };
            faults.push(Fault::new(place, message).hint("put a text with commas in quotes"));
        }
        let named = columns.iter().zip(cells).filter(|(_, cell)| !cell.text.is_empty());
        let cells =
            named.filter_map(|(column, cell)| column.map(|column| (column, cell))).collect();
        rows.push(Row { line, cells });
    }
    rows
}

/// The names of the columns; an unknown one is told and passed over. None if they are no names.
fn columns(cells: &[Cell], line: usize, faults: &mut Faults) -> Option<Vec<Option<&'static str>>> {
    let mut columns = Vec::new();
    for cell in cells {
        let column = COLUMNS.into_iter().find(|name| *name == cell.text);
        let place = Place::Position { line, column: cell.column };
        if column.is_none() {
            let message = format!("unknown column {}", quoted(&cell.text));
            faults.push(Fault::new(place, message).hint(suggestion(&cell.text, &COLUMNS)));
        } else if columns.contains(&column) {
            let message = format!("{} is given twice", quoted(&cell.text));
            faults.push(Fault::new(place, message).hint("keep one of them"));
        }
        columns.push(column);
    }
    let place = Place::Position { line, column: 1 };
    let mut complete = true;
    for needed in ["name", "address"] {
        if !columns.contains(&Some(needed)) {
            let fault = Fault::new(place, format!("the table has no column `{needed}`"));
            faults.push(fault.hint("name the columns in the first row: name,address,roles"));
            complete = false;
        }
    }
    complete.then_some(columns)
}

/// The cells of a line, without blanks around them and without their quotes.
fn cells(line: &str, number: usize, faults: &mut Faults) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut rest = line.chars().zip(1..).peekable();
    loop {
        while rest.next_if(|(c, _)| *c == ' ' || *c == '\t').is_some() {}
        let column = rest.peek().map_or(line.chars().count().max(1), |(_, column)| *column);
        let mut text = String::new();
        let quote = rest.next_if(|(c, _)| *c == '"').is_some();
        let mut open = quote;
        while let Some((c, _)) = rest.next_if(|(c, _)| open || *c != ',') {
            match c {
                '"' if open && rest.next_if(|(c, _)| *c == '"').is_some() => text.push('"'),
                '"' if open => open = false,
                c => text.push(c),
            }
        }
        if open {
            let place = Place::Position { line: number, column };
            let hint = "end it with `\"`; a cell cannot go on in the next line";
            faults.push(Fault::new(place, "a quote is not closed").hint(hint));
        }
        cells.push(Cell { text: text.trim().to_owned(), column });
        if rest.next().is_none() {
            return cells;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> (Vec<Row>, Vec<String>) {
        let mut faults = Faults::new("w.csv", text);
        (read(text, &mut faults), faults.lines())
    }

    #[test]
    fn rows_are_read_by_the_names_of_their_columns() {
        let text = "# workers\naddress, name ,labels\n\n10.0.0.1,w1,\"a=\"\"b\"\";c=1,2\"\n10.0.0.2 , w2\n";
        let (rows, faults) = table(text);
        assert_eq!(faults, [""; 0]);
        assert_eq!(rows[0].text("name"), Some("w1"));
        assert_eq!(rows[0].list("labels"), ["a=\"b\"", "c=1,2"]);
        assert_eq!(rows[0].place("name"), Place::Position { line: 4, column: 10 });
        assert_eq!(rows[1].text("address"), Some("10.0.0.2"));
        assert_eq!(rows[1].place("name"), Place::Position { line: 5, column: 12 });
        assert_eq!(rows[1].text("labels"), None);
        assert_eq!(rows[1].place("labels"), Place::Position { line: 5, column: 1 });
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        assert_eq!(
            table("name,adress,zone,name\nw1,10.0.0.1,a,b,c\n\"w2,10\n").1,
            [
                "w.csv:1:1: the table has no column `address` (name the columns in the first row: name,address,roles)",
                "w.csv:1:6: unknown column `adress` (did you mean `address`?)",
                "w.csv:1:18: `name` is given twice (keep one of them)",
            ]
        );
        assert_eq!(
            table("name,address\nw1,10.0.0.1,a\n\"w2,10\n").1,
            [
                "w.csv:2:13: the row has 3 cells, the first 2 (put a text with commas in quotes)",
                "w.csv:3:1: a quote is not closed (end it with `\"`; a cell cannot go on in the next line)",
            ]
        );
        assert_eq!(
            table("# nothing\n").1,
            [
                "w.csv:1:1: the table has no rows (write `name,address,roles,zone,labels,taints` as the first row)"
            ]
        );
    }
}
