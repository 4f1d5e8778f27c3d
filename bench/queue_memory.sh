#!/bin/bash
# A gigabyte of messages that nobody has consumed, in a three-node cluster: what each node keeps in memory while it comes in and goes out.
#
#   bench/queue_memory.sh                    1 GiB of 4 KiB messages, 12 partitions, all published before the first is consumed
#   bench/queue_memory.sh --gib 4 --bytes 65536 --partitions 1
#   bench/queue_memory.sh --gib 10 --restart   kill -9 of all nodes behind the backlog instead of consuming it: time until they are ready again
#
# The largest resident set of each node since its start (VmHWM) is printed after the whole run, with the messages per second that
# came out again; must: under 256 MiB, whatever the backlog and the messages' size.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

gib=1 bytes=4096 partitions=12 limit=256 restart=no
while [ $# -gt 0 ]; do
    case "$1" in
    --gib) gib=$2 ;;
    --bytes) bytes=$2 ;;
    --partitions) partitions=$2 ;;
    --restart) restart=yes && shift && continue ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/queue_memory.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/queue_memory.sh --help)"
done
messages=$((gib * 1024 * 1024 * 1024 / bytes))
batch=$((262144 / bytes))
batch=$((batch < 1 ? 1 : batch > 64 ? 64 : batch))

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$1/status"; }
now_mib() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$1/status"; }

# Messages that were published to a topic, over its partitions.
backlog() {
    "$bin" queue info "$1" --json --nodes "$sx_nodes" 2>/dev/null |
        python3 -c 'import json, sys; print(sum(p["end"] for p in json.load(sys.stdin)["partition_list"]))' 2>/dev/null || echo 0
}

# Fills a topic, kills every node, and says how long they take to be ready and to deliver.
restart_behind_backlog() {
    local filler begun n
    "$bin" queue create kept --partitions "$partitions" --nodes "$sx_nodes" >/dev/null || die "the topic cannot be made"
    "$bin" bench queue consume --name kept --nodes "$sx_nodes" --fill "$messages" --bytes "$bytes" --batch "$batch" --consumers 1 --count 1 \
        --timeout 60s >/dev/null 2>&1 &
    filler=$!
    until [ "$(backlog kept)" -ge "$messages" ]; do
        kill -0 $filler 2>/dev/null || die "the load failed"
        sleep 1
    done
    kill -9 $filler && wait $filler 2>/dev/null
    for n in 1 2 3; do
        printf 'n%s: at most %s MiB while it was filled\n' $n "$(peak_mib "${sx_pid[n]}")"
    done
    du -sm "$work"/n[123] | awk '{ total += $1 } END { print total " MiB on the disks of the three nodes" }'
    for n in 1 2 3; do
        quit KILL "${sx_pid[n]}"
    done
    sync # the machine's page cache is not what is measured
    begun=$(date +%s%3N)
    for n in 1 2 3; do
        sx_start_node $n
    done
    for n in 1 2 3; do
        sx_wait_ready $n
    done
    printf '%s ms from the start of the killed nodes until all were ready\n' $(($(date +%s%3N) - begun))
    "$bin" queue consume kept --group after --count 1000 --nodes "$sx_nodes" | wc -l | awk '{ print $1 " messages consumed after it" }'
    printf '%s ms until those were consumed\n' $(($(date +%s%3N) - begun))
    for n in 1 2 3; do
        printf 'n%s: at most %s MiB since its restart\n' $n "$(peak_mib "${sx_pid[n]}")"
    done
}

bench_need_synaxis
bench_begin
sx_start
if [ $restart = yes ]; then
    say "publishing $messages messages of $bytes bytes, then killing and starting all nodes"
    restart_behind_backlog
    sx_stop
    exit 0
fi
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
