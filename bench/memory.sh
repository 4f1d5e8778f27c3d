#!/bin/bash
# A million held locks in a three-node cluster: resident memory per lock and node, beyond the lock's name.
#
#   bench/memory.sh              1,000,000 locks
#   bench/memory.sh --locks 100000
#
# The resident set of each node is read after a warm-up load (buffers, log, tables in use) and again with all locks held; the
# difference, divided by the number of locks, less the 21 bytes of each name, is printed.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

locks=1000000
while [ $# -gt 0 ]; do
    case "$1" in
    --locks) locks=$2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/memory.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/memory.sh --help)"
done
name_bytes=21

rss_bytes() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

bench_need_synaxis
bench_begin
sx_start
say "warm-up"
"$bin" bench lock -q --nodes "$sx_nodes" -c 64 -P 16 -s 5 --warmup 0 >/dev/null || die "the warm-up failed"
for n in 1 2 3; do before[n]=$(rss_bytes "${sx_pid[n]}"); done
say "taking $locks locks"
"$bin" bench lock --nodes "$sx_nodes" -c 64 -P 16 --hold "$locks" --ttl 24h --json >"$work/hold.json" || die "not all locks were taken"
sleep 2
worst=0
printf '{"locks":%s,"nodes":[' "$locks" >"$results/memory.json"
for n in 1 2 3; do
    after=$(rss_bytes "${sx_pid[n]}")
    per=$(((after - before[n]) / locks - name_bytes))
    [ $per -le $worst ] || worst=$per
    printf '%s{"before_bytes":%s,"after_bytes":%s,"bytes_per_lock":%s}' "$([ $n = 1 ] || echo ,)" "${before[n]}" "$after" $per >>"$results/memory.json"
    printf 'n%s: %s MiB before, %s MiB after, %s bytes per held lock beyond its name\n' $n $((before[n] >> 20)) $((after >> 20)) $per
done
printf ']}\n' >>"$results/memory.json"
held=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["acquired"])' "$work/hold.json")
[ "$held" = "$locks" ] || die "only $held of $locks locks were taken"
[ $worst -lt 300 ] && echo "must (under 300 bytes): met" || echo "must (under 300 bytes): NOT MET"
sx_stop
