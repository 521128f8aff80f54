#!/usr/bin/env bash
# Fuzzes every target: bash fuzz/run.sh [SECONDS EACH]
#
# The corpus grows in fuzz/corpus/, from fuzz/seeds/; what makes a target fail is left in
# fuzz/artifacts/. To see it again: cargo +nightly fuzz run TARGET FILE
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: the fuzz targets need the nightly toolchain: rustup toolchain install nightly"
    exit 0
fi
cargo +nightly fuzz --version >/dev/null 2>&1 || cargo +nightly install --locked --quiet cargo-fuzz
cargo +nightly fuzz build --sanitizer none
failed=()
for target in $(cargo +nightly fuzz list); do
    mkdir -p "fuzz/corpus/$target"
    log=fuzz/corpus/$target.log
    # Longer inputs find nothing more, and a target that takes 10 s for one of them hangs.
    if cargo +nightly fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 >"$log" 2>&1; then
        echo "fuzz target $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions in $seconds s"
    else
        cat "$log"
        failed+=("$target")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed fuzz targets: ${failed[*]}" >&2
    exit 1
fi
