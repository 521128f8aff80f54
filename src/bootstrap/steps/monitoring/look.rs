//! What a host has of monitoring, by one command.

use std::collections::{BTreeMap, BTreeSet};

use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::render::monitoring::{CERT, DEBIANS, FOLDER, INSTALLED, KEY, OURS, Program};
use crate::bootstrap::transport::Command;

/// The arguments are packages, units of ours, and units of Debian. The certificate is public; its key is
/// looked at, never read.
const SCRIPT: &str = r#"
for name in $1; do
    if dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok installed'; then
        echo "package $name"
    fi
done
for unit in $2; do
    [ -e "/etc/systemd/system/$unit" ] || continue
    echo "unit $unit"
    if systemctl is-enabled --quiet "$unit" && systemctl is-active --quiet "$unit"; then
        echo "runs $unit"
    fi
done
for unit in $3; do
    [ -e "/lib/systemd/system/$unit" ] || continue
    if systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit" 2>/dev/null; then
        echo "debian $unit"
    fi
done
[ -d "$4" ] || exit 0
echo "folder $4"
[ ! -e "$5" ] || sed 's/^/ours /' "$5"
for file in "$4"/rules/*; do [ ! -e "$file" ] || echo "rules ${file##*/}"; done
[ ! -e "$6" ] || echo "certificate $(base64 -w0 <"$6")"
[ ! -e "$7" ] || echo "key $(stat -c '%a %U' "$7")"
"#;

/// What a host has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    facts: BTreeMap<String, BTreeSet<String>>,
}

impl Look {
    pub(super) async fn at(cx: &Context, host: &str) -> Result<Self, StepError> {
        let packages = Program::ALL.map(Program::package).join(" ");
        let (ours, debians) = (OURS.join(" "), DEBIANS.join(" "));
        let arguments = [&packages, &ours, &debians, FOLDER, INSTALLED, CERT, KEY];
        let output = cx.run(host, &Command::script(SCRIPT, arguments)).await?;
        Ok(Self::read(&output.text()))
    }

    fn read(text: &str) -> Self {
        let mut look = Self::default();
        for (kind, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            look.facts.entry(kind.to_owned()).or_default().insert(value.to_owned());
        }
        look
    }

    /// All values of a kind.
    fn all(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.facts.get(kind).into_iter().flatten().map(String::as_str)
    }

    fn has(&self, kind: &str, value: &str) -> bool {
        self.facts.get(kind).is_some_and(|values| values.contains(value))
    }

    /// Is this program's package installed?
    pub(super) fn installed(&self, program: Program) -> bool {
        self.has("package", program.package())
    }

    /// Is there a unit of ours for it?
    pub(super) fn has_unit(&self, program: Program) -> bool {
        self.has("unit", program.unit())
    }

    /// Does that unit run, now and after a boot?
    pub(super) fn runs(&self, program: Program) -> bool {
        self.has("runs", program.unit())
    }

    /// Does Debian's unit run, or will it after a boot?
    pub(super) fn is_taken(&self, program: Program) -> bool {
        self.has("debian", &format!("{}.service", program.package()))
    }

    /// Is there any file of ours?
    pub(super) fn has_folder(&self) -> bool {
        self.facts.contains_key("folder")
    }

    /// The packages that we installed.
    pub(super) fn ours(&self) -> BTreeSet<String> {
        self.all("ours").map(str::to_owned).collect()
    }

    /// The files of rules.
    pub(super) fn rules(&self) -> impl Iterator<Item = &str> {
        self.all("rules")
    }

    /// The client certificate in PEM, if its key is there and only for those whom it is for.
    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        if !self.has("key", "600 prometheus") {
            return None;
        }
        let encoded = self.all("certificate").next()?;
        base64::engine::general_purpose::STANDARD.decode(encoded).ok()
    }
}
