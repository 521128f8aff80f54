//! A host that takes copies: a user that can do nothing but what the keys of the etcd hosts allow.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::key::{comment, public};
use super::{AUTHORIZED_KEYS, HOME, KEY, STORE, Shared, USER, command};
use crate::bootstrap::backup::fleet::COPIES;
use crate::bootstrap::engine::{Change, Check, Context, Step, StepError, StepId};
use crate::bootstrap::spec::Host;
use crate::bootstrap::steps::hosts::files::difference;
use crate::bootstrap::transport::{Command, File, Found};

/// The step.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
}

/// What was found.
struct Look {
    keys: File,
    found: Option<Found>,
    /// What is wrong with the user and the folders.
    fault: Option<String>,
    /// The first host that has no key yet.
    lacking: Option<StepId>,
}

impl Store {
    async fn look(&self, cx: &Context) -> Result<Look, StepError> {
        const SCRIPT: &str = r#"
entry=$(getent passwd "$1" || true)
[ -n "$entry" ] || { echo "there is no user $1"; exit; }
case $entry in *":$2:/bin/sh") ;; *) echo "the user $1 is another than ours"; exit ;; esac
for folder in "$2" "$2/.ssh"; do
    [ "$(stat -c '%a %U' "$folder" 2>/dev/null)" = '755 root' ] ||
        { echo "$folder is not as it should be"; exit; }
done
[ "$(stat -c '%a %U' "$3" 2>/dev/null)" = "700 $1" ] || echo "$3 is not as it should be"
"#;
        let name = &self.host.name;
        let fault = cx.run(name, &Command::script(SCRIPT, [USER, HOME, COPIES])).await?.text();
        let found = cx.host(name)?.read(AUTHORIZED_KEYS).await?;
        let before = found.as_ref().map(|found| String::from_utf8_lossy(&found.content));
        let (mut text, mut lacking) = (String::new(), None);
        for giver in self.shared.givers(&self.host) {
            let comment = comment(&giver.name);
            let key = match public(cx, &giver.name).await {
                Ok(Some(key)) => key,
                Ok(None) => {
                    lacking = lacking.or_else(|| Some(StepId::new(&giver.name, KEY)));
                    continue;
                }
                // A host that is away keeps the key that it has.
                Err(StepError::Transport(_) | StepError::Refused { .. }) => {
                    let mut lines = before.iter().flat_map(|text| text.lines());
                    match lines.rfind(|line| line.ends_with(&format!(" {comment}"))) {
                        Some(line) => match line.split_once("\" ") {
                            Some((_, key)) => key.trim_end_matches(&comment).trim_end().to_owned(),
                            None => continue,
                        },
                        None => continue,
                    }
                }
                Err(error) => return Err(error),
            };
            let command = command(&self.shared);
            let _ = writeln!(text, "restrict,command=\"{command}\" {key} {comment}");
        }
        let keys = File::new(AUTHORIZED_KEYS, text);
        let fault = Some(fault).filter(|fault| !fault.is_empty());
        Ok(Look { keys, found, fault, lacking })
    }
}

impl Step for Store {
    fn id(&self) -> StepId {
        StepId::new(&self.host.name, STORE)
    }

    fn title(&self) -> String {
        format!("have {} take copies of backups", self.host.name)
    }

    fn needs(&self) -> Vec<StepId> {
        vec![StepId::new(&self.host.name, "prepared")]
    }

    fn follows(&self) -> Vec<StepId> {
        self.shared.givers(&self.host).map(|giver| StepId::new(&giver.name, KEY)).collect()
    }

    fn check<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Check, StepError>> {
        async move {
            let Look { keys, found, fault, lacking } = self.look(cx).await?;
            let diffs: Vec<_> = difference(&keys, found.as_ref()).into_iter().collect();
            Ok(match (fault, lacking) {
                (Some(why), _) => Check::Needed(Change { why, diffs }),
                (None, Some(step)) => Check::After(step),
                (None, None) if diffs.is_empty() => Check::Done,
                (None, None) => {
                    let why = "the keys that may put copies there are others".to_owned();
                    Check::Needed(Change { why, diffs })
                }
            })
        }
        .boxed()
    }

    fn apply<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<(), StepError>> {
        // No password, and not locked either: sshd refuses locked users where it goes without PAM.
        const SCRIPT: &str = r#"
# make the user that takes copies of backups
if ! getent passwd "$1" >/dev/null; then
    useradd --system --user-group --home-dir "$2" --no-create-home --shell /bin/sh "$1"
fi
usermod --home "$2" --shell /bin/sh --password '*' "$1"
install -d -m 0755 -o root -g root "$2" "$2/.ssh"
install -d -m 0700 -o "$1" -g "$1" "$3"
"#;
        async move {
            let name = &self.host.name;
            let look = self.look(cx).await?;
            if look.fault.is_some() {
                cx.run(name, &Command::script(SCRIPT, [USER, HOME, COPIES])).await?;
            }
            cx.host(name)?.write(&look.keys).await?;
            Ok(())
        }
        .boxed()
    }
}
