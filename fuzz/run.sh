#!/usr/bin/env bash
# Fuzzes every target, two at a time: bash fuzz/run.sh [SECONDS EACH | --build]
#
# The corpus grows in fuzz/corpus/, from fuzz/seeds/; what makes a target fail is left in
# fuzz/artifacts/. To see it again: cargo +nightly fuzz run TARGET FILE
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: the fuzz targets need the nightly toolchain: rustup toolchain install nightly"
    exit 0
fi
cargo +nightly fuzz --version >/dev/null 2>&1 || cargo +nightly install --locked --quiet cargo-fuzz
cargo +nightly fuzz build --sanitizer none
if [ "$seconds" = --build ]; then
    exit 0
fi
# Run by themselves: `cargo fuzz run` would wait for the other one at cargo's lock.
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
export programs=${CARGO_TARGET_DIR:-fuzz/target}/$host/release seconds

fuzz() { # fuzz TARGET
    local corpus=fuzz/corpus/$1 log=fuzz/corpus/$1.log
    mkdir -p "$corpus" "fuzz/artifacts/$1"
    # Longer inputs find nothing more, and a target that takes 10 s for one of them hangs.
    if "$programs/$1" "-artifact_prefix=fuzz/artifacts/$1/" "$corpus" "fuzz/seeds/$1" \
        -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
        local executions
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        if [ -z "$executions" ]; then
            echo "fuzz target $1 does not say how often it ran; see $log" >&2
            return 1
        fi
        echo "fuzz target $1: $executions executions in $seconds s"
    else
        cat "$log"
        echo "failed fuzz target: $1" >&2
        return 1
    fi
}
export -f fuzz
# xargs fails when one of them does, after all have run.
cargo +nightly fuzz list | xargs -P 2 -I TARGET bash -euo pipefail -c 'fuzz TARGET'
