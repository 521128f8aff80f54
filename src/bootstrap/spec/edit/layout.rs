//! The parts of a cluster file as places in its text.

use std::ops::Range;

use super::Edits;
use super::scan::{block_end, flow_end, line_end, line_start, next_sign, scalar_end};
use crate::config::{Document, Place};

/// A text and what the parser says of its places.
pub(super) struct Layout<'a> {
    pub(super) text: &'a str,
    pub(super) document: &'a Document,
}

/// A mapping that is an item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// The mapping itself.
    pub(super) content: Range<usize>,
    /// All that goes with it: its lines in a block list, its comma in a flow list.
    pub(super) whole: Range<usize>,
    /// Is it `{ .. }`?
    flow: bool,
    /// Is the list `[ .. ]`?
    in_flow: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn new(text: &'a str, document: &'a Document) -> Self {
        Self { text, document }
    }

    /// The place that the parser gives for a path, if there is something.
    fn at(&self, path: &str) -> Option<usize> {
        if !self.document.has(path) {
            return None;
        }
        self.offset(self.document.place(path))
    }

    fn offset(&self, place: Place) -> Option<usize> {
        let Place::Position { line, column } = place else { return None };
        let line = self
            .text
            .split_inclusive('\n')
            .scan(0, |at, line| {
                let start = *at;
                *at += line.len();
                Some((start, line))
            })
            .nth(line - 1)?;
        let (start, line) = line;
        let inside = line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at);
        Some(start + inside)
    }

    /// Where a list or mapping begins. One with a key has the key's place.
    pub(super) fn collection(&self, path: &str) -> Option<usize> {
        let at = self.at(path)?;
        if path.ends_with(']') {
            return Some(at);
        }
        let quoted = matches!(self.text.as_bytes().get(at), Some(b'"' | b'\''));
        let after = if quoted { scalar_end(self.text, at, true) } else { at };
        let colon = after + self.text[after..].find(':')?;
        next_sign(self.text, colon + 1)
    }

    fn begins_flow(&self, at: usize) -> bool {
        matches!(self.text.as_bytes().get(at), Some(b'{' | b'['))
    }

    /// Is the value at this path inside of a flow collection?
    fn in_flow(&self, path: &str) -> bool {
        let ends = path.char_indices().filter(|(at, sign)| *at > 0 && matches!(sign, '.' | '['));
        let mut above = ends.map(|(at, _)| &path[..at]);
        next_sign(self.text, 0).is_some_and(|at| self.begins_flow(at))
            || above.any(|path| self.collection(path).is_some_and(|at| self.begins_flow(at)))
    }

    /// A scalar, with its quotes.
    pub(super) fn scalar(&self, path: &str) -> Option<Range<usize>> {
        let at = self.at(path)?;
        let end = scalar_end(self.text, at, self.in_flow(path));
        (end > at).then_some(at..end)
    }

    /// A text quoted as the scalar that was here.
    pub(super) fn like(&self, there: &Range<usize>, text: &str) -> String {
        match self.text.as_bytes().get(there.start) {
            Some(b'"') => format!("\"{text}\""),
            Some(b'\'') => format!("'{text}'"),
            _ => text.to_owned(),
        }
    }

    /// An item of a list that is a mapping.
    pub(super) fn item(&self, path: &str) -> Option<Item> {
        let at = self.at(path)?;
        let flow = self.begins_flow(at);
        let before = self.text[..at].trim_end();
        if !before.ends_with('-') {
            let content = at..flow_end(self.text, at)?;
            return Some(Item { whole: self.with_comma(&content), content, flow, in_flow: true });
        }
        let dash = before.len() - 1;
        let start = line_start(self.text, dash);
        let column = dash - start;
        let end = if flow { flow_end(self.text, at)? } else { block_end(self.text, at, column) };
        let last = line_end(self.text, end);
        let whole = start..(last + 1).min(self.text.len());
        Some(Item { content: at..end, whole, flow, in_flow: false })
    }

    /// An item of a flow list with the comma behind it, or before it if it is the last.
    pub(super) fn with_comma(&self, content: &Range<usize>) -> Range<usize> {
        let bytes = self.text.as_bytes();
        if let Some(comma) = next_sign(self.text, content.end).filter(|at| bytes[*at] == b',') {
            let after = &self.text[comma + 1..];
            let blanks = after.len() - after.trim_start_matches(' ').len();
            return content.start..comma + 1 + blanks;
        }
        let before = self.text[..content.start].trim_end();
        let start = if before.ends_with(',') { before.len() - 1 } else { content.start };
        start..content.end
    }

    /// Adds keys to the mapping of an item.
    pub(super) fn add(&self, item: &Item, entries: &[String], edits: &mut Edits) {
        if entries.is_empty() {
            return;
        }
        if item.flow {
            let inner = self.text[..item.content.end - 1].trim_end();
            let joint = if inner.ends_with(['{', ',']) { " " } else { ", " };
            edits.insert(inner.len(), format!("{joint}{}", entries.join(", ")));
            return;
        }
        let start = line_start(self.text, item.content.start);
        let indent = self.text[start..item.content.start].chars().count();
        let lines = entries.iter().map(|entry| format!("\n{}{entry}", " ".repeat(indent)));
        edits.insert(item.content.end, lines.collect::<String>());
    }

    /// Puts a copy of an item, changed, behind it.
    pub(super) fn copy(&self, item: &Item, changes: &Edits, edits: &mut Edits) {
        if item.in_flow {
            let copy = changes.of(self.text, item.content.clone());
            edits.insert(item.content.end, format!(", {copy}"));
            return;
        }
        let copy = changes.of(self.text, item.whole.clone());
        let joint = if self.text[..item.whole.end].ends_with('\n') { "" } else { "\n" };
        edits.insert(item.whole.end, format!("{joint}{copy}"));
    }
}
