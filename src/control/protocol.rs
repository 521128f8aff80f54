//! What is said over the control socket: one JSON document a line, with the protocol's version.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sockets::Role;
use crate::admin::{History, Status};
use crate::model::State;

/// The version of the protocol that is spoken. It changes when an older program would misunderstand.
pub const VERSION: u32 = 1;

/// Who follows the events hears something this often at least, if only that there are none: so it can
/// tell a quiet proxy from one that is stuck.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);

/// What the running proxy is asked. Unknown requests and fields are refused: a command that is half
/// understood is worse than none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// What it sees.
    Status {},
    /// What has happened.
    Events {
        /// Only what is newer than the event with this number.
        #[serde(default)]
        after: u64,
        /// And what happens from now on: an answer each time, and an empty one when it has been quiet
        /// for two seconds, until either side hangs up.
        #[serde(default)]
        follow: bool,
    },
    /// Take a backend out: no new clients, and those that it has leave at quiet moments.
    Drain {
        /// Its name.
        backend: String,
        /// Also when no other backend is ready.
        #[serde(default)]
        force: bool,
    },
    /// Put a backend back.
    Undrain {
        /// Its name.
        backend: String,
    },
    /// Read the configuration again.
    Reload {},
    /// Pass the listening sockets on to the process that asks.
    Handover {
        /// The generation of that process, if it has one.
        #[serde(default)]
        generation: Option<u32>,
    },
    /// The process that has got the sockets serves on them; on the connection they came through.
    Ready {},
}

/// What the running proxy answers. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// What it sees.
    Status(Box<Status>),
    /// What has happened, the oldest first. An event that repeats comes again with a new number and
    /// its count.
    Events(History),
    /// The backend is drained.
    Drained {
        /// Its name.
        backend: String,
        /// False: it was before.
        changed: bool,
        /// Connections that it carries now.
        connections: usize,
        /// Other backends that are ready.
        others: usize,
        /// Seconds within which its connections leave: `connections.drainTimeout`.
        within_seconds: u64,
    },
    /// The backend takes part again.
    Undrained {
        /// Its name.
        backend: String,
        /// False: it did before.
        changed: bool,
        /// The state of its health.
        state: State,
        /// Why it is in that state.
        reason: String,
    },
    /// The configuration in force is what the file says now.
    Reloaded {
        /// What has changed, in words.
        outcome: String,
    },
    /// The sockets come with the first byte of this line.
    Offered {
        /// What each of them is for.
        sockets: Vec<Role>,
        /// The names of the backends that are drained.
        drained: Vec<String>,
        /// Is a backend ready?
        usable: bool,
        /// The clusters with a ready backend, where there are several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        usable_clusters: Vec<String>,
    },
    /// The process drains: it accepts no more.
    Released {},
    /// It was not done.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error("{message}{}", hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default())]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The kind of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The request cannot be read.
    Malformed,
    /// This program does not know this version of the protocol, or this request.
    Unsupported,
    /// The process that asks has another user id.
    Forbidden,
    /// There is no such backend.
    UnknownBackend,
    /// No other backend is ready.
    LastBackend,
    /// The new configuration is not in force.
    NotReloaded,
    /// A process of a newer generation serves.
    NewerGeneration,
    /// It cannot be done at this time.
    Busy,
    /// A code of a newer program.
    #[serde(other)]
    Other,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked<'a> {
    version: u32,
    request: &'a Request,
}

/// An answer with who gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The version of the protocol.
    pub version: u32,
    /// The version of the program.
    pub program: String,
    /// Its process.
    pub pid: u32,
    /// The answer.
    pub answer: Answer,
}

impl Request {
    /// Does it change anything?
    pub(super) fn acts(&self) -> bool {
        !matches!(self, Self::Status {} | Self::Events { .. })
    }

    /// The request as a line.
    pub fn encode(&self) -> Vec<u8> {
        line(&Asked { version: VERSION, request: self })
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// It is no request, or one of another version: the refusal to send back.
    pub fn decode(line: &[u8]) -> Result<Self, Refusal> {
        let malformed = |detail: String| {
            Refusal::new(Code::Malformed, format!("this is no request: {detail}"))
                .hint("use `apiproxy drain`, `undrain`, `reload` or `status --events`")
        };
        let document: Value =
            serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(mut fields) = document else {
            return Err(malformed("it is not an object".to_owned()));
        };
        let version = fields.remove("version");
        let program = env!("CARGO_PKG_VERSION");
        match version.as_ref().and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(Refusal::new(
                    Code::Unsupported,
                    format!("apiproxy {program} speaks version {VERSION} of the control protocol, not {version}"),
                )
                .hint("use the program of the same version"));
            }
            None => return Err(malformed("it has no `version`".to_owned())),
        }
        let request = fields.remove("request");
        if let Some(other) = fields.keys().next() {
            return Err(malformed(format!("unknown field {other:?}")));
        }
        let request = request.ok_or_else(|| malformed("it has no `request`".to_owned()))?;
        serde_json::from_value(request).map_err(|error| {
            let message = format!("apiproxy {program} does not know this request: {error}");
            Refusal::new(Code::Unsupported, message).hint("use the program of the same version")
        })
    }
}

impl Reply {
    /// An answer of this process.
    pub fn new(answer: Answer) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, program, pid: std::process::id(), answer }
    }

    /// The answer as a line.
    pub fn encode(&self) -> Vec<u8> {
        line(self)
    }

    /// Reads a line, without its end.
    ///
    /// # Errors
    /// It is no answer.
    pub fn decode(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

/// JSON holds no line break outside of its own layout, and this has none.
fn line(document: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists only: nothing that JSON cannot say.
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Code {
        Request::decode(text.as_bytes()).unwrap_err().code
    }

    #[test]
    fn requests_survive_the_line() {
        let drain = Request::Drain { backend: "cp\n\"2".to_owned(), force: true };
        let events = Request::Events { after: u64::MAX, follow: true };
        let undrain = Request::Undrain { backend: String::new() };
        for request in [drain, Request::Status {}, undrain, events] {
            let line = request.encode();
            let (end, text) = line.split_last().unwrap();
            assert_eq!(*end, b'\n');
            assert!(!text.contains(&b'\n'));
            assert_eq!(Request::decode(text), Ok(request));
        }
        let short = br#"{"version":1,"request":{"drain":{"backend":"cp2"}}}"#;
        let drain = Request::Drain { backend: "cp2".to_owned(), force: false };
        assert_eq!(Request::decode(short), Ok(drain));
        let short = br#"{"version":1,"request":{"events":{}}}"#;
        assert_eq!(Request::decode(short), Ok(Request::Events { after: 0, follow: false }));
    }

    #[test]
    fn what_is_not_understood_whole_is_refused() {
        for text in ["", "1", "[]", "{", "{\"request\":{\"status\":{}}}", "\u{feff}{}", "\0"] {
            assert_eq!(refused(text), Code::Malformed, "{text}");
        }
        assert_eq!(refused(r#"{"version":1,"request":{"status":{}},"more":1}"#), Code::Malformed);
        for text in [
            r#"{"version":2,"request":{"status":{}}}"#,
            r#"{"version":1,"request":{"explode":{}}}"#,
            r#"{"version":1,"request":{"status":{"more":1}}}"#,
            r#"{"version":1,"request":{"drain":{"backend":"cp2","forse":true}}}"#,
            r#"{"version":1,"request":{"drain":{"backend":2}}}"#,
            r#"{"version":1,"request":{"events":{"after":-1}}}"#,
            r#"{"version":1,"request":{"events":{"follow":1}}}"#,
        ] {
            assert_eq!(refused(text), Code::Unsupported, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&deep), Code::Malformed);
    }

    #[test]
    fn answers_of_newer_programs_are_read() {
        let text = r#"{"version":1,"program":"9.0","pid":7,"new":1,
            "answer":{"refused":{"code":"brandNew","message":"no","hint":null,"x":1}}}"#;
        let reply = Reply::decode(text.as_bytes()).unwrap();
        let Answer::Refused(refusal) = reply.answer else { panic!("{reply:?}") };
        assert_eq!((refusal.code, refusal.to_string()), (Code::Other, "no".to_owned()));
    }
}
