//! A host's name, the names it knows, its kernel's modules and parameters, and no swap.

use std::net::{IpAddr, Ipv4Addr};

use super::case::{Case, Found};
use super::files::diff;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::needs;
use crate::bootstrap::preflight::Module;
use crate::bootstrap::render::{self, host as kernel, paths};
use crate::bootstrap::spec::Role;
use crate::bootstrap::transport::{Command, File};

/// Does this host call the apiservers by the endpoint's name?
fn knows_endpoint(case: &Case<'_>) -> bool {
    let outside = [Role::External, Role::Monitoring];
    needs::is_node(case.host) || outside.iter().any(|role| case.host.roles.contains(role))
}

/// `/etc/hosts` as it should be; none if it is.
///
/// While a control plane joins, the endpoint is another control plane for it: that stands until it
/// has joined.
fn etc_hosts(case: &Case<'_>) -> Option<(String, String)> {
    if !knows_endpoint(case) {
        return None;
    }
    let old = case.look.files.get(paths::ETC_HOSTS).map_or(&[][..], |found| &found.content);
    let with = |endpoint| {
        let block = render::hosts_block(case.cluster, case.host, endpoint);
        render::replace_block(old, &block)
    };
    let wanted = with(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let joining = case.host.roles.contains(&Role::ControlPlane) && !case.look.facts.joined();
    let mut others = case.cluster.with_role(Role::ControlPlane);
    let fits = wanted == old || joining && others.any(|other| with(other.address) == old);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (!fits).then(|| (text(old), text(&wanted)))
}

/// Parameters that do not have their value now.
fn wrong_parameters(case: &Case<'_>) -> Vec<String> {
    let all = kernel::sysctl(case.cluster).into_iter();
    all.filter_map(|(name, wanted)| match case.look.facts.sysctls.get(name) {
        Some(value) if needs::holds(name, wanted, value) => None,
        Some(value) => Some(format!("{name} is {value}")),
        None => Some(format!("{name} is not there")),
    })
    .collect()
}

/// Modules that are not loaded.
fn missing_modules(case: &Case<'_>) -> Vec<&'static str> {
    let loaded = |name: &&str| case.look.facts.modules.get(*name) == Some(&Module::Loaded);
    kernel::modules(case.cluster).into_iter().filter(|name| !loaded(name)).collect()
}

pub(super) fn look(case: &Case<'_>) -> Found {
    let mut found = Found::default();
    let facts = &case.look.facts;
    if facts.hostname != case.host.name {
        found.because(format!("it calls itself {}", facts.hostname));
    }
    if let Some((old, new)) = etc_hosts(case) {
        found.because("/etc/hosts lacks our names");
        found.diffs.push(diff(paths::ETC_HOSTS, &old, &new));
    }
    if !needs::is_node(case.host) {
        return found;
    }
    found.file(case, &kernel::modules_file(case.cluster));
    found.file(case, &kernel::sysctl_file(case.cluster));
    let modules = missing_modules(case);
    if !modules.is_empty() {
        found.because(format!("modules are not loaded: {}", modules.join(", ")));
    }
    let parameters = wrong_parameters(case);
    if !parameters.is_empty() {
        found.because(parameters.join(", "));
    }
    if !needs::bears_swap(case.cluster, case.host) {
        if !facts.swap.is_empty() {
            found.because(format!("it swaps to {}", facts.swap.join(", ")));
        }
        if !case.look.fstab.is_empty() {
            found.because(format!("/etc/fstab swaps to {}", case.look.fstab.join(", ")));
        }
    }
    found
}

pub(super) async fn apply(case: &Case<'_>, cx: &Context) -> Result<(), StepError> {
    let name = &case.host.name;
    if case.look.facts.hostname != *name {
        if case.look.facts.joined() {
            return Err(StepError::Refused {
                reason: format!(
                    "{name} calls itself {:?} and has joined a cluster by that name",
                    case.look.facts.hostname
                ),
                remedy: "name it so in the file, or reset the host first".to_owned(),
            });
        }
        cx.run(name, &set_hostname(name)).await?;
    }
    if let Some((_, new)) = etc_hosts(case) {
        // The resolver of every program reads it: it stays readable.
        cx.host(name)?.write(&File::new(paths::ETC_HOSTS, new)).await?;
    }
    if !needs::is_node(case.host) {
        return Ok(());
    }
    for file in [kernel::modules_file(case.cluster), kernel::sysctl_file(case.cluster)] {
        if case.look.file(&file).is_some() {
            cx.host(name)?.write(&file).await?;
        }
    }
    if !missing_modules(case).is_empty() {
        cx.run(name, &load_modules(&kernel::modules(case.cluster))).await?;
    }
    // After the modules: some parameters come with them.
    cx.run(name, &set_parameters()).await?;
    let swaps = !case.look.facts.swap.is_empty() || !case.look.fstab.is_empty();
    if swaps && !needs::bears_swap(case.cluster, case.host) {
        cx.run(name, &swap_off()).await?;
    }
    Ok(())
}

/// Sets the name, now and for each start.
pub fn set_hostname(name: &str) -> Command {
    let script = "# set the hostname
if command -v hostnamectl >/dev/null && hostnamectl set-hostname \"$1\" 2>/dev/null; then :
else printf '%s\\n' \"$1\" >/etc/hostname; hostname \"$1\"; fi";
    Command::script(script, [name])
}

/// Loads modules now.
pub fn load_modules(modules: &[&str]) -> Command {
    // One at a time: what is built in must not keep the next from being loaded.
    let script = concat!(
        "# load kernel modules\n",
        include_str!("../../preflight/common.sh"),
        "set -e
for module in \"$@\"; do
  [ \"$(module \"$module\")\" = \"module $module loaded\" ] || modprobe \"$module\"
done"
    );
    Command::script(script, modules.iter().copied())
}

/// Sets the parameters of our file now. Limits that are higher already are left.
pub fn set_parameters() -> Command {
    let script = r#"# set kernel parameters
refused=
while read -r name _ value; do
  case "$name" in \#* | "") continue ;; esac
  file=/proc/sys/$(printf %s "$name" | tr . /)
  now=$(cat "$file" 2>/dev/null) || now=
  [ "$now" = "$value" ] && continue
  case "$name" in fs.inotify.*) if [ "${now:-0}" -ge "$value" ]; then continue; fi ;; esac
  { printf '%s\n' "$value" >"$file"; } 2>/dev/null || refused="$refused $name"
done <"$1"
[ -z "$refused" ] || { echo "the kernel does not take$refused" >&2; exit 1; }"#;
    Command::script(script, [paths::SYSCTL])
}

/// Switches swapping off, now and for each start. Lines of `/etc/fstab` become comments.
pub fn swap_off() -> Command {
    let script = r#"# switch swapping off
swapoff -a
line='^\s*[^#[:space:]]\S*\s+\S+\s+swap\s'
if [ -f /etc/fstab ] && grep -Eq "$line" /etc/fstab; then
  cp -p /etc/fstab /etc/fstab.apiproxy
  sed -E "/$line/s/^/# by apiproxy bootstrap: /" /etc/fstab >/etc/fstab.new
  chmod --reference=/etc/fstab /etc/fstab.new
  sync /etc/fstab.new
  mv /etc/fstab.new /etc/fstab
fi
if command -v systemctl >/dev/null; then
  for unit in $(systemctl list-units --type=swap --no-legend --plain 2>/dev/null | cut -d' ' -f1); do
    systemctl mask --now --quiet -- $unit || :
  done
fi"#;
    Command::script(script, [""; 0])
}
