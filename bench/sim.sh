#!/bin/bash
# How many simulated clusters a minute: three nodes, 30 simulated seconds each, faults on, on one core.
#
#   bench/sim.sh                 100 seeds
#   bench/sim.sh --seeds 500
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

seeds=100
while [ $# -gt 0 ]; do
    case "$1" in
    --seeds) seeds=$2 ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/sim.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/sim.sh --help)"
done

bench_need_synaxis
bench_begin
from=${EPOCHREALTIME/[.,]/}
taskset -c 0 "$bin" sim --seeds "1..$seeds" --nodes 3 --seconds 30 --quiet >"$work/sim.log" 2>&1 || die "the simulator failed: $(tail -3 "$work/sim.log")"
to=${EPOCHREALTIME/[.,]/}
python3 -c '
import sys
seeds, seconds = int(sys.argv[1]), int(sys.argv[2]) / 1e6
rate = seeds * 60 / seconds
print(f"{seeds} seeds in {seconds:.1f} s: {rate:.0f} a minute; must (500): " + ("met" if rate >= 500 else "NOT MET") + ", aim (1500): " + ("met" if rate >= 1500 else "not met"))' "$seeds" $((to - from))
