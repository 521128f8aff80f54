//! How an artifact becomes programs of a host: unpacked beside, moved into place, marked.

use super::super::look::MARKS;
use super::super::shelf::{Shelf, waiting};
use crate::bootstrap::artifacts::Stored;
use crate::bootstrap::engine::{Context, StepError};
use crate::bootstrap::transport::Command;
use std::sync::Arc;
use std::time::Duration;

/// `$1` the file, `$2` what it is, `$3` its checksum, `$4` the folder of marks. Programs that run are
/// replaced, not written into; the mark comes last.
const SCRIPT: &str = r#"# unpack an artifact
into=$(mktemp -d "$4/incoming/unpack.XXXXXX")
trap 'rm -rf "$into"' EXIT
place() {
  folder=$1; shift
  mkdir -p "$folder"
  for file in "$@"; do
    [ -f "$file" ] || continue
    name=${file##*/}
    install -m 755 "$file" "$folder/.$name.new"
    sync "$folder/.$name.new" 2>/dev/null || sync
    mv -f "$folder/.$name.new" "$folder/$name"
  done
}
case "$2" in
  runc) mv "$1" "$into/runc" ;;
  *) tar -C "$into" --no-same-owner -xzf "$1" ;;
esac
case "$2" in
  runc) place /usr/local/sbin "$into/runc" ;;
  containerd) place /usr/local/bin "$into"/bin/* ;;
  cni-plugins) place /opt/cni/bin "$into"/* ;;
  crictl) place /usr/local/bin "$into/crictl" ;;
  etcd) place /usr/local/bin "$into"/*/etcdctl "$into"/*/etcdutl "$into"/*/etcd ;;
esac
printf '%s\n' "$3" >"$4/.$2.new"
mv "$4/.$2.new" "$4/$2"
rm -f "$1""#;

/// Brings an artifact to a host and unpacks it.
pub(super) async fn unpack(
    shelf: &Arc<Shelf>,
    cx: &Context,
    host: &str,
    name: &str,
    stored: &Stored,
) -> Result<(), StepError> {
    let path = waiting(stored);
    shelf.bring(cx, host, stored, &path, 0o600).await?;
    let arguments = [path.as_str(), name, &stored.sha256, MARKS];
    cx.run(host, &Command::script(SCRIPT, arguments).timeout(Duration::from_mins(5))).await?;
    Ok(())
}
