#!/usr/bin/env bash
# Runs every test, after installing what they need: bash tests/run.sh [cargo test arguments]
#
# On Debian and Ubuntu as root, missing packages are installed; elsewhere they are named, and the
# tests that need them say "skipped: why". With KUBEBUILDER_ASSETS=DIR (etcd, kube-apiserver and
# kubectl, as envtest has them) the tests with real kube-apiservers run too; with
# kube-controller-manager and kube-scheduler beside them, whole control planes are real.
set -euo pipefail
cd "$(dirname "$0")/.."

need() { # need PROGRAM PACKAGE
    command -v "$1" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2")
}
missing=()
need nginx nginx-light
need h2load nghttp2-client
need curl curl
need openssl openssl
need ss iproute2
need ip iproute2
need ethtool ethtool
need haproxy haproxy
need nft nftables
need prlimit util-linux
need musl-gcc musl-tools
need ctr containerd
need runc runc
need systemd-analyze systemd
need dpkg-deb dpkg
need debootstrap debootstrap
need systemd-nspawn systemd-container
need ssh openssh-client
need cc build-essential
need chromium chromium
need prometheus prometheus
need promtool prometheus
need prometheus-node-exporter prometheus-node-exporter
need sshd openssh-server
need sudo sudo
need etcd etcd-server
need etcdctl etcd-client
need setpriv util-linux
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing ${missing[*]}"
        apt-get update -qq
        # A service that starts on its own would take ports; the tests run their own.
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "not installed: ${missing[*]}; the tests that need them will be skipped" >&2
    fi
fi
export PATH=$PATH:/usr/sbin:/sbin

target=x86_64-unknown-linux-musl
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && command -v rustup >/dev/null; then
    rustup target add "$target" || true
fi
log=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$log"' EXIT
static=
if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    # Beside the tests' own build: at its end it keeps one processor busy for minutes.
    cargo build --locked --release --target "$target" >"$log/static" 2>&1 &
    static=$!
else
    echo "no Rust target $target: the memory test will be skipped" >&2
fi
cargo test --locked --no-run "$@"
if [ -n "$static" ]; then
    wait "$static" || { cat "$log/static" >&2; exit 1; }
fi
if [ $# -gt 0 ]; then
    cargo test --locked --no-fail-fast "$@"
    exit
fi

# Two lanes, because most tests wait most of the time: those that boot machines or pack and install
# things, and beside them all others. What fails beside the other lane is run once more by itself:
# a machine of two cores that boots five others is late at times, and what is wrong fails again.
machines=()
others=(--lib --bins --examples)
for file in tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in
        bootstrap_cluster | bootstrap_etcd | bootstrap_faults | backup* | machines | monitoring* | packages | restore* | systemd_machine)
            machines+=(--test "$name") ;;
        *) others+=(--test "$name") ;;
    esac
done
cargo test --locked --no-fail-fast "${machines[@]}" >"$log/machines" 2>&1 &
beside=$!
failed=0
cargo test --locked --no-fail-fast "${others[@]}" 2>&1 | tee "$log/others" || failed=1
wait "$beside" || failed=1
cat "$log/machines"
if [ "$failed" = 1 ]; then
    mapfile -t again < <(sed -n 's/^ *`\(--[^`]*\)`$/\1/p; s/^error: test failed, to rerun pass `\(--[^`]*\)`$/\1/p' "$log"/* | tr ' ' '\n')
    if [ ${#again[@]} -eq 0 ]; then
        echo "a lane broke off: see above" >&2
        exit 1
    fi
    echo "failed beside the others, once more alone: ${again[*]}"
    cargo test --locked --no-fail-fast "${again[@]}"
fi
cargo test --locked --doc
