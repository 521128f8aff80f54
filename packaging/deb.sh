#!/usr/bin/env bash
# Builds the Debian package of the static binary: bash packaging/deb.sh [FOLDER]
#
# Installs cargo-deb when it is missing. The package lands in FOLDER (default: target/debian).
# APIPROXY_MUSL_BIN=FILE takes a static binary that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-target/debian}")
target=$(uname -m)-unknown-linux-musl

command -v cargo-deb >/dev/null || cargo install --locked --quiet cargo-deb
bin=${APIPROXY_MUSL_BIN:-}
if [ -z "$bin" ]; then
    cargo build --locked --release --target "$target"
    bin=${CARGO_TARGET_DIR:-target}/$target/release/apiproxy
fi
# cargo-deb takes the program from there; it is stripped already.
parts=target/deb
rm -rf "$parts"
mkdir -p "$parts/man" "$folder" "target/$target/release"
[ "$bin" -ef "target/$target/release/apiproxy" ] || cp "$bin" "target/$target/release/apiproxy"
"$bin" man --folder "$parts/man"
"$bin" completions bash >"$parts/apiproxy.bash"
"$bin" completions zsh >"$parts/_apiproxy"
"$bin" completions fish >"$parts/apiproxy.fish"
cargo deb --locked --no-build --no-strip --target "$target" --output "$folder/"
