//! What is run on hosts in a restore. Each may be killed anywhere and run again.

/// The script, with `wait_until SECONDS COMPLAINT COMMAND..` before it: that fails when the command has not
/// been well within so many seconds.
pub(super) fn waiting(script: &str) -> String {
    format!("{WAIT}{script}")
}

const WAIT: &str = r#"
wait_until() {
    limit=$1 complaint=$2
    shift 2
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        if [ $tries -gt "$limit" ]; then
            echo "$complaint" >&2
            exit 1
        fi
        sleep 1
    done
}
"#;

/// Does etcd of a static pod run? It may be about to start again and listen nowhere yet. The brackets keep
/// grep from finding itself.
const POD_RUNS: &str = r"
pod_runs() { grep -qzxs -e '--data-dir=/var/lib/etc[d]' /proc/[0-9]*/cmdline; }
";

/// `given_up FILE FOLDER` prints the number of the restore in whose place this one is: the file is that of the
/// restore under way, the folder this one's. `data_of DATA FILE FOLDER` prints the database that a member
/// had before any restore that is not over touched it.
const DATA_OF: &str = r#"
given_up() {
    if [ -s "$2/instead-of" ]; then cat "$2/instead-of"; return; fi
    old=$(sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1)
    [ "$old" = "${2##*/}" ] || echo "$old"
}
data_of() {
    old=$(given_up "$2" "$3")
    if [ -n "$old" ] && [ -e "$1/before-$old/snap/db" ]; then echo "$1/before-$old/snap/db"; return; fi
    if [ -e "$1/member/snap/db" ]; then echo "$1/member/snap/db"; return; fi
    echo "there are no data of a member in $1" >&2
    return 1
}
"#;

/// The same for [`STOP_POD`] and [`LOOK`].
pub(super) fn with_pod(script: &str) -> String {
    waiting(&format!("{POD_RUNS}{DATA_OF}{script}"))
}

/// For [`STOP`] and [`SIZE`].
pub(super) fn with_data(script: &str) -> String {
    format!("{DATA_OF}{script}")
}

/// Prints how many bytes the database has that is restored: `$1` the copy of it, `$2` the folder of its data,
/// `$3` the file of the restore under way, `$4` the folder of this one.
pub(super) const SIZE: &str = r#"
if [ -e "$1" ]; then stat -c %s "$1"; exit; fi
file=$(data_of "$2" "$3" "$4")
stat -c %s "$file"
"#;

/// Prints how many bytes a reset carries to another file system, since the data `$1` have one of their own.
pub(super) const CARRIED: &str = r#"
if [ -d "$1" ] && [ "$(stat -c %d "$1")" != "$(stat -c %d "${1%/*}")" ]; then
    du -sb "$1" | cut -f 1
else
    echo 0
fi
"#;

/// `$1` the file of the restore under way, `$2` its number, `$3` its folder, `$4` etcd's unit, `$5` its
/// data, `$6` the mark in them.
pub(super) const LOOK: &str = r#"
set +e
if grep -qF "\"$2\"" "$1" 2>/dev/null; then echo current=yes; elif [ -e "$1" ]; then echo other=yes; fi
printf 'etcd=%s\n' "$(systemctl show -p ActiveState --value "$4" 2>/dev/null)"
if [ -e /etc/kubernetes/manifests/etcd.yaml ] || pod_runs; then echo pod=yes; fi
[ -d "$5/member" ] && echo data=yes
[ "$(cat "$5/member/$6" 2>/dev/null)" = "$2" ] && echo mark=yes
count() { n=0; for p in apiserver controller-manager scheduler; do [ -e "$1/kube-$p.yaml" ] && n=$((n + 1)); done; echo $n; }
printf 'manifests=%s\n' "$(count /etc/kubernetes/manifests)"
old=$(sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1)
aside=$(count "$3/manifests")
if [ "$aside" = 0 ] && [ -n "$old" ]; then aside=$(count "${3%/*}/$old/manifests"); fi
printf 'aside=%s\n' "$aside"
[ -s /etc/kubernetes/kubelet.conf ] && echo kubelet=yes
printf 'done=%s\n' "$(ls "$3/done" 2>/dev/null | tr '\n' ' ')"
exit 0
"#;

/// Another restore was under way here, and gives way to this one: what it moved aside is taken over. `$1`
/// the file of the restore under way, `$2` the folder of all, `$3` the number of the one that begins, `$4` the
/// folder of etcd's data.
pub(super) const TAKE_OVER: &str = r#"
# take over what another restore moved aside
old=$(sed -n 's/^ *"id": *"\([^"]*\)".*/\1/p' "$1" 2>/dev/null | head -n 1)
if [ -z "$old" ] || [ "$old" = "$3" ] || [ ! -d "$2/$old" ]; then exit 0; fi
umask 077
mkdir -p "$2/$3/manifests"
for file in "$2/$old"/manifests/*.yaml; do
    name=${file##*/}
    if [ -e "$file" ] && [ ! -e "/etc/kubernetes/manifests/$name" ] && [ ! -e "$2/$3/manifests/$name" ]; then
        cp -p "$file" "$2/$3/manifests/.$name"
        mv "$2/$3/manifests/.$name" "$2/$3/manifests/$name"
    fi
done
if [ -e "$2/$old/source.db" ] && [ ! -e "$2/$3/source.db" ]; then ln "$2/$old/source.db" "$2/$3/source.db"; fi
rm -rf "$2/$old/snapshot.db" "$4/restoring-$old"
echo "$old" >"$2/$3/instead-of"
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
silent() { ! { listens "$1" || listens 10257 || listens 10259; }; }
wait_until 180 'its programs still run after 3 min; does kubelet run there? see crictl ps' silent "$2"
: >"$1/done/halted"
"#;

/// With `ctl` and [`with_data`]. `$1` the restore's folder, `$2` its number, `$3` etcd's unit, `$4` its data, `$5` the mark
/// in them, `$6` `source` if the data are wanted, `$7` `leaves` if it is to stay stopped, `$8` `anew` if
/// its certificates go aside, `$9` the settings of a first start, `${10}` the folder of certificates,
/// `${11}` the member's own URL, `${12}` the file of the restore under way.
pub(super) const STOP: &str = r#"
# stop etcd and move its data aside
umask 077
mkdir -p "$1/done"
own=$(cat "$4/member/$5" 2>/dev/null || true)
if [ "$6" = source ] && [ ! -e "$1/source.db" ]; then
    rm -f "$1/source.part"
    file=$(data_of "$4" "${12}" "$1")
    if [ "$file" != "$4/member/snap/db" ] || ! ctl --endpoints="${11}" endpoint status >/dev/null 2>&1 ||
        ! ctl --command-timeout=15m --endpoints="${11}" snapshot save "$1/source.part" >/dev/null 2>&1; then
        rm -f "$1/source.part"*
        systemctl stop "$3" 2>/dev/null || true
        cp "$file" "$1/source.part"
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

/// The same of a static pod. `$1` the restore's folder, `$2` its number, `$3` the data, `$4` the mark in
/// them, `$5` `source` if the data are wanted, `$6` `leaves` if the host is no control plane any more, `$7` the
/// file of the restore under way.
pub(super) const STOP_POD: &str = r#"
# stop etcd and move its data aside
umask 077
mkdir -p "$1/done" "$1/manifests"
own=$(cat "$3/member/$4" 2>/dev/null || true)
if [ "$5" = source ] && [ ! -e "$1/source.db" ]; then
    rm -f "$1/source.part"
    file=$(data_of "$3" "$7" "$1")
    pki=/etc/kubernetes/pki/etcd
    ctl() {
        ETCDCTL_API=3 etcdctl --dial-timeout=2s --endpoints=https://127.0.0.1:2379 --cacert=$pki/ca.crt \
            --cert=$pki/healthcheck-client.crt --key=$pki/healthcheck-client.key "$@" >/dev/null 2>&1
    }
    if [ "$file" = "$3/member/snap/db" ] && ctl --command-timeout=3s endpoint status; then
        ctl --command-timeout=15m snapshot save "$1/source.part" || rm -f "$1/source.part"*
    fi
fi
file=/etc/kubernetes/manifests/etcd.yaml
if [ -e "$file" ] && [ "$own" != "$2" ]; then mv -f "$file" "$1/manifests/"; fi
if [ "$own" != "$2" ]; then
    gone() { ! pod_runs; }
    wait_until 120 'its etcd still runs after 2 min; does kubelet run there? see crictl ps' gone
fi
if [ "$5" = source ] && [ ! -e "$1/source.db" ]; then
    [ -e "$1/source.part" ] || cp "$file" "$1/source.part"
    sync "$1/source.part"
    mv "$1/source.part" "$1/source.db"
fi
if [ "$6" = leaves ]; then
    systemctl disable --now apiproxy-etcd-backup.timer 2>/dev/null || true
    systemctl disable --now kubelet 2>/dev/null || true
fi
if [ -d "$3/member" ] && [ "$own" != "$2" ]; then
    to=$3/before-$2
    while [ -e "$to" ]; do to=$to-; done
    mv "$3/member" "$to"
    sync "$3"
fi
: >"$1/done/stopped"
"#;

/// Prints the image of the etcd that runs here, or did, or will: `$1` the restore's folder, `$2` the version
/// of Kubernetes, `$3` the registry of its images. containerd fetches it if it has not got it.
pub(super) const IMAGE: &str = r#"
image=
for file in /etc/kubernetes/manifests/etcd.yaml "$1/manifests/etcd.yaml"; do
    [ -n "$image" ] || [ ! -e "$file" ] ||
        image=$(grep -oE '"?image"?: *"?[^", ]+' "$file" | head -n 1 | sed -E 's/.*: *"?//')
done
[ -n "$image" ] || image=$(kubeadm config images list --kubernetes-version "$2" --image-repository "$3" 2>/dev/null | grep '/etcd:' || true)
[ -n "$image" ] || exit 0
if [ -z "$(ctr -n k8s.io images ls -q "name==$image" 2>/dev/null)" ]; then
    timeout 300 ctr -n k8s.io images pull "$image" >/dev/null 2>&1 || true
fi
echo "$image"
"#;

/// Puts the manifest of etcd back for a cluster of one. `$1` the restore's folder, `$2` the member and its URL.
/// Prints whether there is one.
pub(super) const FIRST: &str = r#"
# start etcd as the only member
file=$1/manifests/etcd.yaml
[ -e "$file" ] || exit 0
sed -i -E "s#(--initial-cluster=)[^ \"']*#\1$2#; s#(--initial-cluster-state=)[a-z]+#\1new#" "$file"
cp -p "$file" /etc/kubernetes/.etcd.restored
mv -fT /etc/kubernetes/.etcd.restored /etc/kubernetes/manifests/etcd.yaml
echo there
"#;

/// Registers a Node that the restored data do not have as that of a control plane. `$1` the Node, `$2` the
/// apiserver's port, `$3...` its taints, if there are any.
pub(super) const MARK_NODE: &str = r#"
# mark the Node as a control plane
admin="kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 5s --server https://127.0.0.1:$2"
known() { $admin get node "$1" >/dev/null 2>&1; }
wait_until 120 'its Node is not registered after 2 min; see journalctl -u kubelet there' known "$1"
if ! $admin get node "$1" --output 'jsonpath={.metadata.labels}' | grep -q node-role.kubernetes.io/control-plane; then
    $admin label node "$1" node-role.kubernetes.io/control-plane= --overwrite
    node=$1
    shift 2
    for taint; do $admin taint node "$node" "$taint=:NoSchedule" --overwrite; done
fi
"#;

/// Keeps what kubeadm's reset would take, and data that are in the way of a member that joins. `$1` the
/// restore's folder, `$2` the folder of etcd's data.
pub(super) const KEEP: &str = r#"
# keep what a reset would take
umask 077
if [ ! -e "$1/kubernetes" ]; then
    rm -rf "$1/kubernetes.part"
    if [ -e /etc/kubernetes ]; then
        cp -a /etc/kubernetes "$1/kubernetes.part"
        mv "$1/kubernetes.part" "$1/kubernetes"
    fi
fi
for old in "$2"/before-* "$2/member"; do
    [ -e "$old" ] || continue
    to=$2-$(basename "$old")
    while [ -e "$to" ]; do to=$to-; done
    mv "$old" "$to"
done
"#;

/// With `ctl`. `$1` is the member's own URL.
pub(super) const HASHES: &str = r#"
ctl --endpoints="$1" --command-timeout=30s endpoint hashkv --cluster -w json
"#;

/// `$1` the restore's folder, `$2` where etcd is if that has changed, `$3` the apiserver's port.
pub(super) const BACK: &str = r#"
# let the programs of the control plane run again
mkdir -p "$1/done"
file=$1/manifests/kube-apiserver.yaml
if [ -e "$file" ] && [ -n "$2" ]; then
    sed -i -E "s#(--etcd-servers=)[^ \"']*#\1$2#" "$file"
fi
for program in apiserver controller-manager scheduler; do
    file=$1/manifests/kube-$program.yaml
    if [ -e "$file" ]; then
        cp -p "$file" "/etc/kubernetes/.kube-$program.restored"
        mv -fT "/etc/kubernetes/.kube-$program.restored" "/etc/kubernetes/manifests/kube-$program.yaml"
    fi
done
ready() {
    kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 5s --server "https://127.0.0.1:$1" \
        get --raw /readyz >/dev/null 2>&1
}
wait_until 180 'its kube-apiserver is not ready after 3 min; see crictl logs there' ready "$3"
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
if [ -e "$1" ] && [ -d "$2" ]; then cp "$1" "$2/restore.json"; fi
rm -f "$2/snapshot.db" "$2/source.db" "$1"
sync "${1%/*}"
"#;
