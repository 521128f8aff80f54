//! How a backup goes to another host: the words that one says and the other understands.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

use super::depot::{Arrival, Stored};
use super::manifest::Label;

/// What a host that keeps copies is asked: the command that ssh hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take what comes: a label and its bundle.
    Put,
    /// Say what there is.
    List,
}

impl Order {
    /// As ssh is given it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::List => "list",
        }
    }

    /// The order of this text; nothing else is understood.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Put, Self::List].into_iter().find(|order| order.as_str() == text)
    }
}

/// The answer, one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// It was put: was it new, and what had to go for it.
    Put {
        /// New, known or healed.
        arrival: String,
        /// The names of those that went.
        pruned: Vec<String>,
    },
    /// What there is.
    List(Vec<Stored>),
    /// It was refused: why.
    Refused(String),
}

/// An arrival in a word.
pub(super) const fn arrival_word(arrival: Arrival) -> &'static str {
    match arrival {
        Arrival::New => "new",
        Arrival::Known => "known",
        Arrival::Healed => "healed",
    }
}

/// No label is longer.
const LABEL_LIMIT: u64 = 16 << 20;

/// Sends a label; the bundle follows.
///
/// # Errors
/// If it cannot be sent.
pub(super) fn send_label(out: &mut dyn Write, label: &Label) -> io::Result<()> {
    let json = serde_json::to_vec(label)?;
    out.write_all(&json)?;
    out.write_all(b"\n")
}

/// Receives a label; what follows is the bundle.
///
/// # Errors
/// If it does not come, or is none.
pub(super) fn receive_label(input: &mut dyn BufRead) -> io::Result<Label> {
    let mut json = Vec::new();
    input.take(LABEL_LIMIT).read_until(b'\n', &mut json)?;
    Label::parse(&json).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::made::label;
    use super::*;

    #[test]
    fn a_label_goes_before_its_bundle() {
        let sent = label(86_400, 3, &"a".repeat(64));
        let mut bytes = Vec::new();
        send_label(&mut bytes, &sent).unwrap();
        bytes.extend(b"one\ntwo");
        let mut input = bytes.as_slice();
        assert_eq!(receive_label(&mut input).unwrap(), sent);
        assert_eq!(input, b"one\ntwo");
        assert!(receive_label(&mut &b"{}\n"[..]).is_err());
        assert!(receive_label(&mut &b""[..]).is_err());
    }

    #[test]
    fn only_two_orders_are_understood() {
        assert_eq!(Order::parse("put"), Some(Order::Put));
        assert_eq!(Order::parse("list"), Some(Order::List));
        for text in ["", "put ", "put; sh", "rm", "scp -t /"] {
            assert_eq!(Order::parse(text), None, "{text}");
        }
    }
}
