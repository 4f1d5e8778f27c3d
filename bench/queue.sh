#!/bin/bash
# Queues side by side on this machine: Synaxis, NATS JetStream (R3 stream, file storage) and RabbitMQ (quorum queue), three nodes each, and
# Redis streams (one server, appendfsync always).
#
#   bench/queue.sh                  3 rounds of 8 s, alternating; prints the table, raw results in bench/results/
#   bench/queue.sh --rounds 5 --seconds 20
#   bench/queue.sh --only nats,redis
#
# 128-byte payloads. Publish: acknowledged when durable, 64 connections with one message each; then many in flight. Consume: a filled queue,
# one consumer, every message acknowledged. Latency: publish to deliver at 1000 messages a second, open loop, one consumer.
# Only the system that is measured runs. What the machine can do (fdatasync, loopback) is printed before and after: when the two
# differ by more than a fifth, the machine was not the same throughout and the ratios are worth little. docs/benchmarks.md explains.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh
. bench/queue_lib.sh

rounds=3 seconds=8 warmup=2 fill=300000 partitions=1 only=synaxis,nats,redis,rabbit
while [ $# -gt 0 ]; do
    case "$1" in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --warmup) warmup=$2 ;;
    --fill) fill=$2 ;;
    --partitions) partitions=$2 ;;
    --only) only=$2 ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/queue.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/queue.sh --help)"
done

raw=$results/queue.jsonl

# record SYSTEM LOAD ROUND COMMAND...: one line of raw results
record() {
    local system=$1 load=$2 round=$3 line
    shift 3
    line=$("$@" 2>>"$work/client.log") || die "$system, $load: $(tail -2 "$work/client.log")"
    printf '{"system":"%s","load":"%s","round":%s,"result":%s}\n' "$system" "$load" "$round" "$line" >>"$raw"
    printf '%s' "$line" | python3 -c 'import json, sys
r = json.load(sys.stdin); a = r["latency_us"]
print("  %-8s %-12s %9.0f messages/s   p50 %7.3f ms  p99 %7.3f ms   server CPU %6.1f us/message" % (
    sys.argv[1], sys.argv[2], r["messages_per_s"], a["p50"] / 1e3, a["p99"] / 1e3, r["server_cpu_us_per_message"]))' "$system" "$load" >&2
}

probe() {
    local line
    line=$("$work/probe" "$work") || die "the probe failed"
    printf '{"system":"machine","round":"%s","result":%s}\n' "$1" "$line" >>"$raw"
    say "machine ($1): $line"
}

sx_bench() { "$bin" bench queue --json -q --nodes "$sx_nodes" --warmup "$warmup" --server-pids "$(sx_pids)" "$@"; }

round_synaxis() {
    sx_start
    record synaxis publish64 "$1" sx_bench publish -c 64 -s "$seconds" --partitions "$partitions"
    record synaxis batched "$1" sx_bench publish -c 4 -P 16 --batch 64 -s "$seconds" --partitions "$partitions"
    record synaxis pipelined "$1" sx_bench publish -c 4 -P 256 -s "$seconds" --partitions "$partitions"
    record synaxis pipe50x16 "$1" sx_bench publish -c 50 -P 16 -s "$seconds" --partitions "$partitions"
    record synaxis window64 "$1" sx_bench publish -c 1 -P 64 -s "$seconds" --partitions "$partitions"
    record synaxis consume "$1" sx_bench consume --fill "$fill" --count 500 --partitions "$partitions"
    record synaxis latency "$1" sx_bench latency -c 1 -P 64 --rate 1000 -s "$seconds" --partitions "$partitions"
    sx_stop
}

nats_bench() { "$work/nats_queue" -ports "$nats_ports" -warmup "$warmup" -server-pids "$(nats_pids)" "$@"; }

round_nats() {
    nats_start
    nats_setup
    record nats publish64 "$1" nats_bench -c 64 -window 1 -s "$seconds" publish
    nats_setup
    record nats async "$1" nats_bench -c 4 -window 256 -s "$seconds" publish
    nats_setup
    record nats at-leader "$1" nats_bench -n "$fill" -batch 500 consume
    nats_setup
    record nats consume "$1" nats_bench -n "$fill" -batch 500 -at-leader 0 consume
    nats_setup
    record nats latency "$1" nats_bench -rate 1000 -s "$seconds" latency
    nats_stop
}

# redis-benchmark has no time limit: first a short run to size the measured one.
redis_bench() {
    local text n=$1
    text=$(head -c 128 /dev/zero | tr '\0' x)
    redis-benchmark -p "$redis_port" -c "$2" -P "$3" -n "$n" --csv XADD bench '*' f "$text" 2>>"$work/client.log"
}

redis_record() {
    local load=$1 round=$2 c=$3 p=$4 n before after csv cpu
    csv=$(redis_bench 20000 "$c" "$p") || die "redis-benchmark failed"
    n=$(printf '%s' "$csv" | python3 -c 'import csv, sys; print(int(float(list(csv.reader(sys.stdin))[-1][1]) * float(sys.argv[1])))' "$seconds")
    redis-cli -p "$redis_port" del bench >/dev/null
    before=$(process_ticks "$redis_pid")
    csv=$(redis_bench "$n" "$c" "$p")
    after=$(process_ticks "$redis_pid")
    cpu=$(((after - before) * 1000000 / $(getconf CLK_TCK)))
    [ "$(redis-cli -p "$redis_port" xlen bench)" -ge "$n" ] || die "redis: the stream has fewer entries than were sent"
    record redis "$load" "$round" redis_json "$n" "$cpu" "$csv"
}

# redis_json N CPU_US CSV: the columns are test, rps, avg, min, p50, p95, p99 and max in ms
redis_json() {
    printf '%s' "$3" | python3 -c '
import csv, json, sys
n, cpu = int(sys.argv[1]), int(sys.argv[2])
row = [float(x) for x in list(csv.reader(sys.stdin))[-1][1:]]
us = [round(x * 1000) for x in row[1:]]
print(json.dumps({"mode": "publish", "messages": n, "seconds": round(n / row[0], 3), "messages_per_s": row[0], "errors": 0,
    "latency_us": {"count": n, "p50": us[2], "p99": us[4], "p999": 0, "max": us[5]}, "server_cpu_us_per_message": round(cpu / n, 3)}))' "$1" "$2"
}

round_redis() {
    redis_start
    redis_record pipe50x16 "$1" 50 16
    redis_record publish64 "$1" 64 1
    redis_stop
}

rabbit_bench() { "$work/amqp_queue" -ports "$rabbit_ports" -warmup "$warmup" -server-pids "$(rabbit_pids)" "$@"; }

round_rabbit() {
    rabbit_start
    record rabbit publish64 "$1" rabbit_bench -c 64 -window 1 -s "$seconds" publish
    rabbit_on_three_nodes || die "rabbitmq: the queue has not three members"
    record rabbit window64 "$1" rabbit_bench -c 1 -window 64 -s "$seconds" publish
    record rabbit consume "$1" rabbit_bench -n "$((fill / 4))" -batch 500 consume
    rabbit_stop
}

case ",$only," in *,synaxis,*) bench_need_synaxis ;; esac
bench_begin
bench_queue_peers
bench_queue_tools
rm -f "$raw"
probe before
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    for system in ${only//,/ }; do
        "round_$system" "$round"
    done
done
probe after
python3 bench/queue_table.py "$raw"
