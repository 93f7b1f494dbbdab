#!/bin/bash
# Builds the fuzz targets with clang and runs them all, for SECONDS in total (60). New inputs gather in
# build-fuzz/corpus; one that breaks something stays in build-fuzz, with the command that runs it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "usage: tests/fuzz/run.sh [SECONDS]" >&2; exit 2; }
mapfile -t targets < <(sed -n "s/^  '\([a-z]*\)': .*/\1/p" tests/fuzz/meson.build)
if [ ! -f build-fuzz/build.ninja ]; then
    CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 \
        "-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=undefined" >/dev/null
fi
ninja -C build-fuzz "${targets[@]/#/tests/fuzz/fuzz_}" >build-fuzz/build.log || { cat build-fuzz/build.log >&2; exit 1; }
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1
failed=0
for t in "${targets[@]}"; do
    mkdir -p "build-fuzz/corpus/$t"
    if build-fuzz/tests/fuzz/fuzz_"$t" -max_total_time="$each" -timeout=10 -rss_limit_mb=1024 -max_len=16384 \
        -artifact_prefix="build-fuzz/$t-" -print_final_stats=1 "build-fuzz/corpus/$t" "tests/fuzz/corpus/$t" \
        >"build-fuzz/$t.log" 2>&1; then
        echo "$t: $(sed -n 's/^stat::number_of_executed_units: *//p' "build-fuzz/$t.log") runs, nothing found"
    else
        failed=1
        tail -n 30 "build-fuzz/$t.log" >&2
        found=$(sed -n 's/.*Test unit written to //p' "build-fuzz/$t.log")
        echo "$t: FAILED; again with: build-fuzz/tests/fuzz/fuzz_$t $found" >&2
    fi
done
exit $failed
