#!/bin/bash
# Fuzzes every byte door with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   tools/fuzz.sh [SECONDS] [TARGET...]    SECONDS for each target (60), all targets unless named
#
# Builds into build-fuzz/ with clang. New inputs that reach new code are kept in build-fuzz/corpus/TARGET and used the next time;
# an input that fails is left in build-fuzz/crashes/ and named: fix the fault, then copy the input to tests/fuzz/corpus/TARGET, where
# every build replays it. Exit code 1 when something was found.
set -u
cd "$(dirname "$0")/.." || exit 1
seconds=${1:-60}
shift
targets=("$@")
[[ $seconds =~ ^[0-9]+$ ]] || {
    sed -n '4s/^# *//p' "$0" >&2
    exit 2
}
[ ${#targets[@]} -gt 0 ] || targets=(cache_memory cache_msgs cache_ops http_requests json_bodies log_recovery peer_frames resp_commands resp_replies snapshot_load)

if [ ! -f build-fuzz/build.ninja ]; then
    CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false --buildtype=debugoptimized >/dev/null || exit 1
fi
ninja -C build-fuzz "${targets[@]/#/tests/fuzz/fuzz_}" || exit 1

found=0
for target in "${targets[@]}"; do
    mkdir -p "build-fuzz/corpus/$target" build-fuzz/crashes
    log=build-fuzz/corpus/$target.log
    # The longest that one input may take is part of the promise: 5 s under sanitizers, 1 GiB of memory.
    if build-fuzz/tests/fuzz/fuzz_"$target" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="build-fuzz/crashes/$target-" "build-fuzz/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
        echo "$target: nothing found in $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        found=1
        echo "$target: FOUND, see $log:"
        grep -E 'SUMMARY|Test unit written|runtime error|assert' "$log" | head -5
    fi
done
exit $found
