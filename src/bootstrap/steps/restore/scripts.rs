//! What is run on hosts in a restore. Each may be killed anywhere and run again.

/// `$1` the file of the restore under way, `$2` its number, `$3` its folder, `$4` etcd's unit, `$5` its
/// data, `$6` the mark in them.
pub(super) const LOOK: &str = r#"
set +e
grep -qF "\"$2\"" "$1" 2>/dev/null && echo current=yes
printf 'etcd=%s\n' "$(systemctl show -p ActiveState --value "$4" 2>/dev/null)"
[ -d "$5/member" ] && echo data=yes
[ "$(cat "$5/member/$6" 2>/dev/null)" = "$2" ] && echo mark=yes
count() { n=0; for p in apiserver controller-manager scheduler; do [ -e "$1/kube-$p.yaml" ] && n=$((n + 1)); done; echo $n; }
printf 'manifests=%s\n' "$(count /etc/kubernetes/manifests)"
printf 'aside=%s\n' "$(count "$3/manifests")"
[ -s /etc/kubernetes/kubelet.conf ] && echo kubelet=yes
printf 'done=%s\n' "$(ls "$3/done" 2>/dev/null | tr '\n' ' ')"
exit 0
"#;

/// `$1` the restore's folder, `$2` the apiserver's port. With `$3` the certificates for etcd go aside.
pub(super) const HALT: &str = r#"
# stop the programs of the control plane
umask 077
mkdir -p "$1/manifests" "$1/done" "$1/etcd-client"
for program in apiserver controller-manager scheduler; do
    file=/etc/kubernetes/manifests/kube-$program.yaml
    if [ -e "$file" ]; then mv -f "$file" "$1/manifests/"; fi
done
if [ "$3" = anew ] && [ ! -e "$1/done/halted" ]; then
    for file in pki/etcd/ca.crt pki/apiserver-etcd-client.crt pki/apiserver-etcd-client.key; do
        if [ -e "/etc/kubernetes/$file" ]; then mv -f "/etc/kubernetes/$file" "$1/etcd-client/"; fi
    done
fi
listens() { grep -qiE ": [0-9A-F]+:$(printf %04X "$1") [0-9A-F]+:0000 0A" /proc/net/tcp /proc/net/tcp6 2>/dev/null; }
tries=0
while listens "$2" || listens 10257 || listens 10259; do
    tries=$((tries + 1))
    if [ $tries -gt 180 ]; then
        echo 'its programs still run after 3 min; does kubelet run there? see crictl ps' >&2
        exit 1
    fi
    sleep 1
done
: >"$1/done/halted"
"#;

/// With `ctl`. `$1` the restore's folder, `$2` its number, `$3` etcd's unit, `$4` its data, `$5` the mark
/// in them, `$6` `source` if the data are wanted, `$7` `leaves` if it is to stay stopped, `$8` `anew` if
/// its certificates go aside, `$9` the settings of a first start, `${10}` the folder of certificates,
/// `${11}` the member's own URL.
pub(super) const STOP: &str = r#"
# stop etcd and move its data aside
umask 077
mkdir -p "$1/done"
own=$(cat "$4/member/$5" 2>/dev/null || true)
if [ "$6" = source ] && [ ! -e "$1/source.db" ]; then
    rm -f "$1/source.part"
    if ! ctl --endpoints="${11}" snapshot save "$1/source.part" >/dev/null 2>&1; then
        rm -f "$1/source.part"*
        systemctl stop "$3" 2>/dev/null || true
        cp "$4/member/snap/db" "$1/source.part"
    fi
    sync "$1/source.part"
    mv "$1/source.part" "$1/source.db"
fi
systemctl stop "$3" 2>/dev/null || true
rm -f "$9"
if [ "$7" = leaves ]; then
    systemctl disable "$3" 2>/dev/null || true
    systemctl disable --now apiproxy-etcd-backup.timer 2>/dev/null || true
fi
if [ -d "$4/member" ] && [ "$own" != "$2" ]; then
    to=$4/before-$2
    while [ -e "$to" ]; do to=$to-; done
    mv "$4/member" "$to"
    sync "$4"
fi
if [ "$8" = anew ] && [ ! -e "$1/done/stopped" ] && [ -d "${10}" ]; then
    if [ ! -e "$1/pki" ]; then mv "${10}" "$1/pki"; fi
fi
: >"$1/done/stopped"
"#;

/// With `ctl`. `$1` is the member's own URL.
pub(super) const HASHES: &str = r#"
ctl --endpoints="$1" --command-timeout=30s endpoint hashkv --cluster -w json
"#;

/// `$1` the restore's folder, `$2` where etcd is, `$3` the apiserver's port.
pub(super) const BACK: &str = r#"
# let the programs of the control plane run again
mkdir -p "$1/done"
file=$1/manifests/kube-apiserver.yaml
if [ -e "$file" ]; then
    sed -i -E "s#(--etcd-servers=)[^ \"']*#\1$2#" "$file"
fi
for program in apiserver controller-manager scheduler; do
    file=$1/manifests/kube-$program.yaml
    if [ -e "$file" ]; then
        cp -p "$file" "/etc/kubernetes/.kube-$program.restored"
        mv -fT "/etc/kubernetes/.kube-$program.restored" "/etc/kubernetes/manifests/kube-$program.yaml"
    fi
done
tries=0
until kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 5s --server "https://127.0.0.1:$3" \
    get --raw /readyz >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ $tries -gt 180 ]; then
        echo 'its kube-apiserver is not ready after 3 min; see crictl logs there' >&2
        exit 1
    fi
    sleep 1
done
: >"$1/done/back"
"#;

/// `$1` the restore's folder.
pub(super) const KUBELET: &str = r#"
# restart kubelet
if systemctl is-active --quiet kubelet; then systemctl restart kubelet; fi
mkdir -p "$1/done"
: >"$1/done/kubelet"
"#;

/// `$1` the restore's folder, `$2` what was done.
pub(super) const DONE: &str = r#"
mkdir -p "$1/done"
: >"$1/done/$2"
"#;

/// `$1` the file of the restore under way, `$2` its folder. What was moved aside stays.
pub(super) const CLOSE: &str = r#"
# the restore is over
if [ -e "$1" ]; then cp "$1" "$2/restore.json"; fi
rm -f "$2/snapshot.db" "$2/source.db" "$1"
sync "$2"
"#;
