#!/bin/bash
# Locks side by side on this machine: Synaxis (three nodes), etcd (three members), Redis (one, appendfsync always).
#
#   bench/locks.sh                  3 rounds of 10 s, alternating; prints the table, raw results in bench/results/
#   bench/locks.sh --rounds 5 --seconds 30
#   bench/locks.sh --only etcd,redis
#
# Acquire+release pairs of distinct locks, closed loop, at 64 and 256 connections; one connection; CPU of the servers from /proc.
# etcd gets what it is fastest with: its workers share three client connections (HTTP/2), one per member.
# Only the system that is measured runs. What the machine can do (fdatasync, loopback) is printed before and after: when the two
# differ by more than a fifth, the machine was not the same throughout and the ratios are worth little. docs/benchmarks.md explains.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

rounds=3 seconds=10 warmup=3 only=synaxis,etcd,redis
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --warmup) warmup=$2 ;;
    --only) only=$2 ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/locks.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/locks.sh --help)"
done

raw=$results/locks.jsonl

# record SYSTEM CONNECTIONS ROUND COMMAND...: one line of raw results
record() {
    local system=$1 connections=$2 round=$3 line
    shift 3
    line=$("$@" 2>>"$work/client.log") || die "$system at $connections connections: $(tail -2 "$work/client.log")"
    printf '{"system":"%s","connections":%s,"round":%s,"result":%s}\n' "$system" "$connections" "$round" "$line" >>"$raw"
    printf '%s' "$line" | python3 -c 'import json, sys
r = json.load(sys.stdin); a = r["acquire_us"]
print("  %-8s %4s connections  %8.0f pairs/s   acquire p50 %7.3f ms  p99 %7.3f ms   server CPU %6.1f us/op" % (
    sys.argv[1], sys.argv[2], r["pairs_per_s"], a["p50"] / 1e3, a["p99"] / 1e3, r["server_cpu_us_per_op"]))' "$system" "$connections" >&2
}

probe() {
    local line
    line=$("$work/probe" "$work") || die "the probe failed"
    printf '{"system":"machine","round":"%s","result":%s}\n' "$1" "$line" >>"$raw"
    say "machine ($1): $line"
}

round_synaxis() {
    local c
    sx_start
    for c in 64 256 1; do
        record synaxis $c "$1" "$bin" bench lock --json -q --nodes "$sx_nodes" -c $c -s "$seconds" --warmup "$warmup" --server-pids "$(sx_pids)"
    done
    sx_stop
}

round_etcd() {
    local c
    etcd_start
    for c in 64 256 1; do
        record etcd $c "$1" "$work/etcd_lock" -endpoints "$etcd_nodes" -connections $c -clients 3 -seconds "$seconds" \
            -warmup "$warmup" -server-pids "$(etcd_pids)"
    done
    etcd_stop
}

round_redis() {
    redis_start
    record redis 64 "$1" "$bin" bench lock --json -q --target redis --nodes "127.0.0.1:$redis_port" -c 64 -s "$seconds" --warmup "$warmup" \
        --server-pids "$redis_pid"
    redis_stop
}

bench_need_synaxis
bench_begin
bench_peers
bench_build_tools
rm -f "$raw"
probe before
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    for system in ${only//,/ }; do
        "round_$system" "$round"
    done
done
probe after
python3 bench/table.py "$raw"
