//! How one host stands with etcd, told by one command on it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::spec::Version;
use crate::bootstrap::transport::Command;

use super::control::with_etcdctl;
use super::members::{Members, Status};
use super::paths::{CLIENT_CERT, DATA, INITIAL, PENDING, SETTINGS, UNIT, UNIT_FILE, local_url};

/// Longer than three questions to an etcd that does not answer.
const PATIENCE: Duration = Duration::from_secs(40);

/// A host's answers are lines of `name=value`. An etcd that has told systemd that it is ready is asked
/// on its own host: how it is, whether a read that needs a quorum succeeds, and who the members are.
const SCRIPT: &str = r#"
set +e
unit=$1 unit_file=$2 settings=$3 initial=$4 pending=$5 data=$6 cert=$7 url=$8
encoded() { [ -f "$2" ] && printf '%s=%s\n' "$1" "$(base64 -w0 <"$2")"; }
printf 'program=%s\n' "$(command -v etcd)"
printf 'control=%s\n' "$(command -v etcdctl)"
printf 'version=%s\n' "$(etcd --version 2>/dev/null | sed -n 's/^etcd Version: *//p')"
encoded unit "$unit_file"
encoded settings "$settings"
[ -f "$initial" ] && echo initial=yes
[ -e "$pending" ] && echo pending=yes
[ -d "$data/member" ] && echo data=yes
[ -f "$cert" ] && echo certificates=yes
shown=$(systemctl show -p ActiveState -p UnitFileState -p NeedDaemonReload "$unit")
printf '%s\n' "$shown"
case $shown in *ActiveState=active*)
    if status=$(ctl --endpoints="$url" endpoint status -w json 2>/dev/null); then
        printf 'status=%s\n' "$status"
    fi
    if [ -n "$status" ] && ctl --endpoints="$url" endpoint health >/dev/null 2>&1; then
        ctl --endpoints="$url" member list -w json 2>/dev/null | sed 's/^/members=/'
    fi ;;
esac
exit 0
"#;

/// How a host stands.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Where the program is, if it is installed.
    pub program: Option<String>,
    /// The version of the program, if both it and etcdctl are installed.
    pub version: Option<Version>,
    /// The unit's file.
    pub unit: Option<String>,
    /// The member's settings.
    pub settings: Option<String>,
    /// Are the settings of its first start still there?
    pub initial: bool,
    /// Were settings written that the running member may not have read?
    pub pending: bool,
    /// Are there data of a member?
    pub data: bool,
    /// Has etcdctl a certificate to show?
    pub certificates: bool,
    /// Does the unit run, or is it about to?
    pub running: bool,
    /// Does it start with the host?
    pub enabled: bool,
    /// Has systemd an older unit in its memory than there is on disk?
    pub reload: bool,
    /// The members, if this one is part of a quorum.
    pub members: Option<Members>,
    /// What it says of itself, if it answers.
    pub status: Option<Status>,
}

impl Probe {
    /// Asks a host.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn of(cx: &Context, host: &str) -> Result<Self, StepError> {
        let local = local_url();
        let arguments = [UNIT, UNIT_FILE, SETTINGS, INITIAL, PENDING, DATA, CLIENT_CERT, &local];
        let command = Command::script(&with_etcdctl(SCRIPT), arguments).timeout(PATIENCE);
        Ok(Self::parse(&cx.run(host, &command).await?.text()))
    }

    /// Reads what the script printed.
    pub fn parse(text: &str) -> Self {
        let facts: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let fact = |name| facts.get(name).copied().unwrap_or_default();
        let file = |name| {
            let bytes = STANDARD.decode(facts.get(name)?).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let program = Some(fact("program")).filter(|path| path.starts_with('/'));
        let has_control = fact("control").starts_with('/');
        Self {
            program: program.map(str::to_owned),
            version: version(fact("version")).filter(|_| has_control),
            unit: file("unit"),
            settings: file("settings"),
            initial: fact("initial") == "yes",
            pending: fact("pending") == "yes",
            data: fact("data") == "yes",
            certificates: fact("certificates") == "yes",
            running: ["active", "activating"].contains(&fact("ActiveState")),
            enabled: fact("UnitFileState") == "enabled",
            reload: fact("NeedDaemonReload") == "yes",
            members: Members::parse(fact("members")).ok(),
            status: Status::parse(fact("status")).ok().and_then(|all| all.into_iter().next()),
        }
    }

    /// Was its member part of a cluster once? Then it has data, and nothing of its first start.
    pub fn was_member(&self) -> bool {
        self.data && !self.initial
    }
}

/// A version without what release candidates and distributions put behind it.
fn version(text: &str) -> Option<Version> {
    let numbers = text.split(['-', '+', '~']).next()?;
    numbers.parse().ok()
}
