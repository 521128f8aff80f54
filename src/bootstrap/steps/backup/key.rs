//! The key of an etcd host, made there: it never leaves it.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{FOLDER, IDENTITY, KEY, USER};
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::spec::Host;
use crate::bootstrap::transport::Command;

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) host: Host,
}

/// What a key is called in `authorized_keys`.
pub(super) fn comment(host: &str) -> String {
    format!("{USER}@{host}")
}

/// The public key of a host, as `authorized_keys` has it without a comment; none if there is no pair.
pub(super) async fn public(cx: &Context, host: &str) -> Result<Option<String>, StepError> {
    const SCRIPT: &str = r#"if [ -s "$1" ] && [ -s "$1.pub" ]; then cat "$1.pub"; fi"#;
    let output = cx.run(host, &Command::script(SCRIPT, [IDENTITY])).await?;
    let text = output.text();
    let mut words = text.split_whitespace();
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    Ok(match (words.next(), words.next()) {
        (Some("ssh-ed25519"), Some(key)) if key.chars().all(base64) => {
            Some(format!("ssh-ed25519 {key}"))
        }
        _ => None,
    })
}

impl Step for Key {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, KEY)
    }

    fn title(&self) -> String {
        format!("make a key for copies of the backups of {}", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, "prepared")]
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            Ok(match public(cx, &self.host.name).await? {
                Some(_) => Check::Done,
                None => Check::Needed(Change::new(format!("there is no key at {IDENTITY}"))),
            })
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        // Made beside and renamed, the private one last: a pair is whole or not there.
        const SCRIPT: &str = r#"
# make a key for copies of backups
umask 022
mkdir -p "$(dirname "$1")"
umask 077
mkdir -p "$1"
rm -f "$2" "$2.pub" "$2.new" "$2.new.pub"
ssh-keygen -q -t ed25519 -N '' -C "$3" -f "$2.new"
mv "$2.new.pub" "$2.pub"
mv "$2.new" "$2"
"#;
        async move {
            let comment = comment(&self.host.name);
            let command = Command::script(SCRIPT, [FOLDER, IDENTITY, &comment]);
            cx.run(&self.host.name, &command).await.map(drop)
        }
        .boxed()
    }
}
