#!/bin/bash
# A gigabyte of messages that nobody has consumed, in a three-node cluster: what each node keeps in memory while it comes in and goes out.
#
#   bench/queue_memory.sh                    1 GiB of 4 KiB messages, 12 partitions, all published before the first is consumed
#   bench/queue_memory.sh --gib 4 --bytes 65536 --partitions 1
#
# The largest resident set of each node since its start (VmHWM) is printed after the whole run, with the messages per second that
# came out again; must: under 256 MiB for 1 GiB of backlog, whatever the messages' size.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

gib=1 bytes=4096 partitions=12 limit=256
while [ $# -gt 0 ]; do
    case "$1" in
    --gib) gib=$2 ;;
    --bytes) bytes=$2 ;;
    --partitions) partitions=$2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/queue_memory.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/queue_memory.sh --help)"
done
messages=$((gib * 1024 * 1024 * 1024 / bytes))
batch=$((262144 / bytes))
batch=$((batch < 1 ? 1 : batch > 64 ? 64 : batch))

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$1/status"; }
now_mib() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }

bench_need_synaxis
bench_begin
sx_start
say "publishing $messages messages of $bytes bytes, then consuming them"
"$bin" bench queue consume --json --nodes "$sx_nodes" --fill "$messages" --bytes "$bytes" --batch "$batch" --partitions "$partitions" \
    --consumers 3 --count 256 --timeout 60s >"$work/out.json" || die "the load failed"
rate=$(python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["messages_per_s"]))' "$work/out.json")
worst=0
printf '{"gib":%s,"bytes":%s,"partitions":%s,"messages_per_s":%s,"nodes":[' "$gib" "$bytes" "$partitions" "$rate" >"$results/queue_memory.json"
for n in 1 2 3; do
    peak=$(peak_mib "${sx_pid[n]}")
    [ "$peak" -le $worst ] || worst=$peak
    printf '%s{"peak_mib":%s,"rss_mib":%s}' "$([ $n = 1 ] || echo ,)" "$peak" "$(now_mib "${sx_pid[n]}")" >>"$results/queue_memory.json"
    printf 'n%s: at most %s MiB, now %s MiB\n' $n "$peak" "$(now_mib "${sx_pid[n]}")"
done
printf ']}\n' >>"$results/queue_memory.json"
printf '%s messages/s came out\n' "$rate"
[ $worst -lt $limit ] && echo "must (under $limit MiB): met" || echo "must (under $limit MiB): NOT MET"
sx_stop
