#!/bin/bash
# Ten minutes of steady load: is memory flat?
#
#   bench/soak.sh                   10 minutes at 2000 pairs a second
#   bench/soak.sh --minutes 3 --rate 500
#
# Open loop, 64 connections, 100 locks per lane, so that names come and go. The resident set of each node is read every five seconds.
# Between two snapshots the log in memory grows, a saw of about three minutes at 2000 pairs a second: peaks are compared, that of the
# last third of the run with that of the third before it. Flat: no node's peak grew by more than 5 % and 8 MiB.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

minutes=10 rate=2000
while [ $# -gt 0 ]; do
    case "$1" in
    --minutes) minutes=$2 ;;
    --rate) rate=$2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/soak.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/soak.sh --help)"
done

bench_need_synaxis
bench_begin
sx_start
"$bin" bench lock --json --nodes "$sx_nodes" -c 64 --resources 100 --rate "$rate" -s $((minutes * 60)) --warmup 5 \
    --server-pids "$(sx_pids)" >"$work/load.json" 2>>"$work/client.log" &
load=$!
pids+=("$load")
samples=$results/soak.tsv
: >"$samples"
while kill -0 "$load" 2>/dev/null; do
    for n in 1 2 3; do
        awk -v at=$SECONDS -v node=n$n '/^VmRSS/ { print at "\t" node "\t" $2 }' "/proc/${sx_pid[n]}/status" >>"$samples" || die "n$n has ended"
    done
    sleep 5
done
wait "$load" || die "the load failed: $(tail -2 "$work/client.log")"
cp "$work/load.json" "$results/soak.json"
python3 - "$samples" "$work/load.json" <<'PY'
import json
import sys

rows = [line.split('\t') for line in open(sys.argv[1], encoding='utf-8')]
result = json.load(open(sys.argv[2], encoding='utf-8'))
print('%.0f pairs/s, acquire p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.1f ms, errors %s' % (
    result['pairs_per_s'], *(result['acquire_us'][p] / 1e3 for p in ('p50', 'p99', 'p999', 'max')), result['errors']))
flat = True
for node in ('n1', 'n2', 'n3'):
    kib = [int(k) for _, n, k in rows if n == node]
    third = max(1, len(kib) // 3)
    early, late = max(kib[-2 * third:-third]), max(kib[-third:])
    flat = flat and late - early <= max(early * 0.05, 8192)
    print(f'{node}: {early / 1024:.1f} MiB at most in the second third, {late / 1024:.1f} MiB in the last')
print('memory is flat' if flat else 'memory GROWS')
sys.exit(not flat)
PY
status=$?
sx_stop
exit $status
