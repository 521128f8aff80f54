//! The certificates that are on a host, read by one command; keys are looked at, never read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::pki::{Certificate, Profile};
use crate::bootstrap::transport::Command;

use super::certificates::Place;

const SCRIPT: &str = r#"
set +e
encoded() { [ -f "$2" ] && printf '%s=%s\n' "$1" "$(base64 -w0 <"$2")"; }
encoded ca "$1"
shift
n=0
while [ $# -ge 2 ]; do
    encoded "cert$n" "$1"
    [ -f "$2" ] && printf 'key%s=%s\n' "$n" "$(stat -c '%a %U' "$2")"
    n=$((n + 1))
    shift 2
done
exit 0
"#;

/// A certificate that should be on a host, and its key.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) profile: Profile,
    pub(super) cert: &'static str,
    pub(super) key: &'static str,
}

/// What is there, in the order of the items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The authority's certificate.
    pub(super) authority: Option<Certificate>,
    /// Each certificate that can be read.
    pub(super) certificates: Vec<Option<Certificate>>,
    /// Each key's permissions in octal, and its owner.
    pub(super) keys: Vec<Option<(String, String)>>,
}

impl Found {
    pub(super) async fn of(cx: &Context, host: &str, place: &Place) -> Result<Self, StepError> {
        let items = place.items.iter().flat_map(|item| [item.cert, item.key]);
        let command = Command::script(SCRIPT, std::iter::once(place.ca).chain(items));
        Ok(Self::parse(&cx.run(host, &command).await?.text(), place.items.len()))
    }

    pub(super) fn parse(text: &str, count: usize) -> Self {
        let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let certificate = |name: &str| {
            let bytes = STANDARD.decode(facts.get(name)?).ok()?;
            Certificate::from_pem(&String::from_utf8_lossy(&bytes)).ok()
        };
        let key = |number: usize| {
            let (mode, owner) = facts.get(format!("key{number}").as_str())?.split_once(' ')?;
            Some((mode.to_owned(), owner.to_owned()))
        };
        Self {
            authority: certificate("ca"),
            certificates: (0..count).map(|number| certificate(&format!("cert{number}"))).collect(),
            keys: (0..count).map(key).collect(),
        }
    }
}
