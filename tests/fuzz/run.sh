#!/bin/bash
# Every fuzz target for so many seconds (60): clang's libFuzzer with address and undefined behaviour sanitizers.
# What was found is kept in build-fuzz/corpus; a failing input is named, and makes this fail.
set -euo pipefail
seconds=${1:-60}
case $seconds in *[!0-9]* | '') echo "fuzz: '$seconds' is not a number of seconds" >&2; exit 2 ;; esac
cd "$(dirname "$0")/../.."
dir=build-fuzz
if ! [ -f $dir/build.ninja ]; then
    CC=clang meson setup $dir -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args=-fsanitize=fuzzer-no-link >&2
fi
targets=()
for source in tests/fuzz/*_fuzz.c; do targets+=("tests/fuzz/$(basename "$source" .c)"); done
ninja -C $dir "${targets[@]}" >&2

# Golden bytes are what the frame target begins with.
mkdir -p $dir/corpus/frame $dir/corpus/text $dir/failures
/usr/bin/python3 - $dir/corpus/frame <<'END'
import os, sys
for name in ("messages", "frames"):
    for line in open("tests/vectors/%s.hex" % name, encoding="ascii"):
        key, value = line.split(" ", 1)
        with open(os.path.join(sys.argv[1], "%s-%s" % (name, key)), "wb") as f:
            f.write(bytes.fromhex(value))
END

failed=0
for target in "${targets[@]}"; do
    name=$(basename "$target" _fuzz)
    corpus=("$dir/corpus/$name")
    mkdir -p "${corpus[0]}"
    if [ -d "tests/fuzz/corpus/$name" ]; then corpus+=("tests/fuzz/corpus/$name"); fi
    echo "fuzz $name for $seconds s" >&2
    if UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$dir/$target" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 -artifact_prefix="$dir/failures/$name-" \
        "${corpus[@]}" >"$dir/$name.log" 2>&1; then
        echo "ok      $name  $(sed -n 's/^stat::number_of_executed_units: */runs /p' "$dir/$name.log")"
    else
        tail -n 30 "$dir/$name.log" >&2
        echo "failed  $name  ($dir/$name.log, input in $dir/failures)"
        failed=1
    fi
done
exit $failed
