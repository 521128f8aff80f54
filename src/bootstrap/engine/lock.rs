//! One `apply` at a time on a host: a lock on the host itself, held by a process there that dies with
//! the connection, so that none stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Context, PARALLEL, StepError};
use crate::bootstrap::transport::{Command, Output, Transport, TransportError};

/// Where it is, on every host.
pub const LOCK: &str = "/run/apiproxy/bootstrap.lock";

/// The exit code of [`HOLD`] when somebody else has it.
const TAKEN: i32 = 75;

/// Longer than any run.
const LONG: Duration = Duration::from_hours(24 * 30);

/// Where secrets lie on a host for the time of a command: a file system in memory, root's alone. Who has the
/// lock of the host takes it away at the end, and what a run that was killed left at the beginning.
pub const SECRETS: &str = "/run/apiproxy-bootstrap";

/// Takes the lock `$1` and holds it until it is killed. `$2` is a token, `$3` the owner, `$4` the
/// command. If somebody has it: what he wrote, and how many seconds ago. `$5` is the folder of secrets. It
/// waits by reading what never comes, not with a child that would have the lock too.
const HOLD: &str = r#"
mkdir -p -- "${1%/*}"
umask 077
exec 9<>"$1"
if ! flock -n 9; then
    { read -r token; read -r pid; read -r since; read -r owner; read -r command; } < "$1" || :
    printf '%s\n' "${owner:-somebody}" "${command:-?}" $(($(date +%s) - ${since:-$(date +%s)}))
    exit 75
fi
rm -rf -- "$5"
trap 'rm -rf -- "$5"; exit 143' HUP INT TERM
printf '%s\n' "$2" $$ "$(date +%s)" "$3" "$4" > "$1"
rm -f -- "$1.wait"
mkfifo -- "$1.wait"
exec 8<>"$1.wait"
rm -f -- "$1.wait"
while :; do read -r line <&8 || :; done
"#;

/// Waits until the lock `$1` bears the token `$2`.
const SEEN: &str = r#"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    if [ -e "$1" ] && read -r token < "$1" && [ "$token" = "$2" ]; then exit 0; fi
    sleep 0.1
done
exit 1
"#;

/// Ends whoever holds the lock `$1`: the process that it names, if that has it open.
const BREAK: &str = r#"
[ -e "$1" ] || exit 0
{ read -r token; read -r pid; } < "$1" || exit 0
case $(readlink "/proc/$pid/fd/9") in
"$1") kill -KILL "$pid" ;;
esac
for i in 1 2 3 4 5 6 7 8 9 10; do
    if flock -n "$1" true; then exit 0; fi
    sleep 0.1
done
echo 'somebody still holds it' >&2
exit 1
"#;

/// Until then what the other run does there has been killed: it looks four times a second whether it
/// still has the lock, and its commands have a second to end.
const BROKEN_WITHIN: Duration = Duration::from_secs(2);

/// Who takes the lock.
#[derive(Clone, Debug)]
pub struct Owner {
    /// `user@machine pid`.
    pub name: String,
    /// What he runs.
    pub command: String,
}

impl Owner {
    /// This process.
    pub fn here(command: &str) -> Self {
        let user =
            ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let user = user.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
        let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = format!("{user}@{machine} {}", std::process::id());
        Self { name, command: command.to_owned() }
    }
}

/// Locks on hosts. They are given back when this is dropped.
#[derive(Debug)]
pub struct Locks {
    held: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    task: JoinHandle<()>,
    /// How it was lost, once it was.
    lost: Arc<Mutex<Option<String>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Locks {
    /// Takes the locks of these hosts, all or none; `break_it` ends whoever holds one.
    ///
    /// # Errors
    /// The first host's whose lock somebody holds: with his name, what he runs and since when.
    pub async fn take(
        cx: &Context,
        hosts: &BTreeSet<String>,
        owner: &Owner,
        break_it: bool,
    ) -> Result<Self, StepError> {
        Self::take_at([LOCK, SECRETS], cx, hosts, owner, break_it).await
    }

    /// Takes those of more hosts too, of which some may be out of reach.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub async fn add(
        &mut self,
        cx: &Context,
        hosts: &BTreeSet<String>,
        owner: &Owner,
        break_it: bool,
    ) -> Result<(), StepError> {
        let there = hosts.iter().filter(|host| cx.hosts.contains_key(*host));
        let each = there.map(async |host| {
            Self::take(cx, &BTreeSet::from([host.clone()]), owner, break_it).await
        });
        // Side by side: of the dead ones none waits for another.
        for taken in join_all(each).await {
            match taken {
                Ok(more) => self.held.extend(more.held),
                Err(StepError::Transport(
                    TransportError::Unreachable { .. } | TransportError::Lost { .. },
                )) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn take_at(
        [path, secrets]: [&str; 2],
        cx: &Context,
        hosts: &BTreeSet<String>,
        owner: &Owner,
        break_it: bool,
    ) -> Result<Self, StepError> {
        let of_hosts = hosts.iter().map(|host| async move {
            let lock = async {
                if break_it {
                    cx.run(host, &Command::script(BREAK, [path])).await?;
                    tokio::time::sleep(BROKEN_WITHIN).await;
                }
                hold([path, secrets], cx.host(host)?, owner).await
            };
            (host, lock.await)
        });
        let mut taken = stream::iter(of_hosts).buffer_unordered(PARALLEL);
        let mut held = BTreeMap::new();
        let mut refused = None;
        while let Some((host, result)) = taken.next().await {
            match result {
                Ok(lock) => {
                    held.insert(host.clone(), lock);
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(Self { held }),
        }
    }

    /// Why a host must not be touched any more: its lock was lost.
    pub fn lost(&self, host: &str) -> Option<StepError> {
        let held = self.held.get(host)?;
        let reason = held.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let remedy = "run this again when nobody else works on it".to_owned();
        Some(StepError::Refused { reason, remedy })
    }
}

/// Takes the lock of one host.
async fn hold(
    [path, secrets]: [&str; 2],
    host: &Arc<dyn Transport>,
    owner: &Owner,
) -> Result<Held, StepError> {
    let token = format!("{:032x}", fastrand::u128(..));
    let words = [path, &token, &owner.name, &owner.command, secrets].map(str::to_owned);
    let (tell, mut told) = oneshot::channel();
    let lost = Arc::new(Mutex::new(None));
    let task = tokio::spawn(keep(Arc::clone(host), words, tell, Arc::clone(&lost)));
    let held = Held { task, lost };
    let seen = Command::script(SEEN, [path, &token]);
    // The holder says nothing while it holds: its mark in the lock does.
    tokio::select! {
        early = &mut told => Err(match early {
            Ok(Ok(output)) => refusal(host.host(), &output),
            Ok(Err(error)) => error.into(),
            Err(_) => unlocked(host.host(), "nobody holds it"),
        }),
        seen = host.run(&seen) => match seen? {
            output if output.ok() => Ok(held),
            output => Err(unlocked(host.host(), &output.complaint())),
        },
    }
}

/// Holds the lock until it is lost or this is dropped; tells how it ended.
async fn keep(
    host: Arc<dyn Transport>,
    words: [String; 5],
    tell: oneshot::Sender<Result<Output, TransportError>>,
    lost: Arc<Mutex<Option<String>>>,
) {
    let result = host.run(&Command::script(HOLD, words).timeout(LONG)).await;
    let name = host.host();
    let why = match &result {
        Ok(_) => format!("the lock of {name} was broken by somebody else"),
        Err(error) => format!("the lock of {name} was lost: {error}"),
    };
    *lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    // Nobody asks any more once the lock was taken.
    let _ = tell.send(result);
}

fn refusal(host: &str, output: &Output) -> StepError {
    if output.code != TAKEN {
        return unlocked(host, &output.complaint());
    }
    let text = output.text();
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or("?");
    let (owner, command) = (line().to_owned(), line().to_owned());
    let age = line().parse().map_or_else(
        |_| "some time".to_owned(),
        |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    );
    StepError::Refused {
        reason: format!("{host} is locked by {owner}, who runs `{command}` since {age}"),
        remedy: "wait for its end, or give --break-lock if nobody does that any more".to_owned(),
    }
}

fn unlocked(host: &str, why: &str) -> StepError {
    let remedy = format!("see {LOCK} there");
    StepError::Refused { reason: format!("{host} cannot be locked: {why}"), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::engine::Hosts;
    use crate::bootstrap::engine::fake::hosts;
    use crate::bootstrap::transport::Local;
    use crate::bootstrap::transport::recording::{Answer, When};

    struct Site {
        _folder: tempfile::TempDir,
        path: String,
        secrets: String,
        cx: Context,
        hosts: BTreeSet<String>,
    }

    /// Real locks, on this machine; the folder above is made by the lock.
    fn site() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apiproxy/lock").display().to_string();
        let secrets = folder.path().join("secrets").display().to_string();
        let local: Arc<dyn Transport> = Arc::new(Local::as_we_are("cp1"));
        let cx = Context::new(Hosts::from([("cp1".to_owned(), local)]));
        Site { _folder: folder, path, secrets, cx, hosts: BTreeSet::from(["cp1".to_owned()]) }
    }

    impl Site {
        async fn take(&self, owner: &str, break_it: bool) -> Result<Locks, StepError> {
            let owner = Owner { name: owner.to_owned(), command: "apply".to_owned() };
            Locks::take_at([&self.path, &self.secrets], &self.cx, &self.hosts, &owner, break_it)
                .await
        }
    }

    #[tokio::test]
    async fn the_second_is_refused_and_told_who_has_it() {
        let site = site();
        let first = site.take("ann@desk 1", false).await.unwrap();
        let error = site.take("bob@desk 2", false).await.unwrap_err().to_string();
        let start = "cp1 is locked by ann@desk 1, who runs `apply` since ";
        assert!(error.starts_with(start) && error.contains("--break-lock"), "{error}");
        assert_eq!(first.lost("cp1"), None);
        drop(first);
        // It is free as soon as its holder is dead.
        for _ in 0..100 {
            if site.take("bob@desk 2", false).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the lock stayed behind");
    }

    /// Waits until something is so on this machine.
    async fn soon(is_so: impl Fn() -> bool) -> bool {
        for _ in 0..100 {
            if is_so() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    #[tokio::test]
    async fn secrets_of_a_run_that_was_killed_go_with_its_lock_or_with_the_next() {
        let site = site();
        let folder = std::path::Path::new(&site.secrets);
        let leave = || {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("kubeadm.yaml"), "token").unwrap();
        };
        // What was left by a run whose lock-holder could do nothing any more.
        leave();
        let first = site.take("ann@desk 1", false).await.unwrap();
        assert!(!folder.exists());
        // What this run leaves when it is killed: its lock is given up, by whatever means.
        leave();
        drop(first);
        assert!(soon(|| !folder.exists()).await, "the secret stayed behind");
        // The lock is free then, and nobody is left who holds it.
        let mut second = site.take("bob@desk 2", false).await;
        for _ in 0..100 {
            if second.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            second = site.take("bob@desk 2", false).await;
        }
        second.unwrap();
    }

    #[tokio::test]
    async fn a_broken_lock_is_noticed_by_who_had_it() {
        let site = site();
        let first = site.take("ann@desk 1", false).await.unwrap();
        let second = site.take("bob@desk 2", true).await.unwrap();
        for _ in 0..100 {
            if first.lost("cp1").is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let lost = first.lost("cp1").unwrap().to_string();
        assert!(lost.starts_with("the lock of cp1 was broken by somebody else; "), "{lost}");
        assert_eq!(second.lost("cp1"), None);
        // Breaking a lock that nobody has is no fault.
        drop((first, second));
        site.take("cat@desk 3", true).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn dead_hosts_are_waited_for_side_by_side() {
        let names = ["a", "b", "c"];
        let (machines, cx, _) = hosts(&names);
        for machine in &machines {
            let lost = TransportError::Lost { host: "x".to_owned(), reason: "gone".to_owned() };
            machine.on(When::any(), Answer::error(lost).after(Duration::from_secs(10)));
        }
        let owner = Owner { name: "ann@desk 1".to_owned(), command: "apply".to_owned() };
        let mut locks = Locks::take(&cx, &BTreeSet::new(), &owner, false).await.unwrap();
        let began = tokio::time::Instant::now();
        locks.add(&cx, &names.map(str::to_owned).into(), &owner, false).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }
}
