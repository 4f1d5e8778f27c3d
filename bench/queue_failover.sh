#!/bin/bash
# The leader of a partition's group killed with -9 under load: time until the next publish to that partition is acknowledged.
#
#   bench/queue_failover.sh                   20 trials
#   bench/queue_failover.sh --trials 100
#
# Each trial: a closed loop of 16 connections over all nodes publishes to a topic of one partition; after a second the load generator kills the
# leader of the partition's group and takes the time until the first acknowledgement of a message that was sent a millisecond or more after
# the kill, so that nothing the dead leader had under way counts. Then the node is started again; the next trial begins when all nodes are up.
# Default settings. docs/benchmarks.md explains.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

trials=20
while [ $# -gt 0 ]; do
    case "$1" in
    --trials) trials=$2 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/queue_failover.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/queue_failover.sh --help)"
done
raw=$results/queue_failover.jsonl

# The group of the topic's one partition, that group's leader by number, and its term.
partition_leader() {
    local info groups
    info=$("$bin" queue info failover --json --nodes "$sx_nodes") || return
    groups=$("$bin" status --json --nodes "$sx_nodes" 2>/dev/null) || return
    python3 -c '
import json, sys
info, status = json.loads(sys.argv[1]), json.loads(sys.argv[2])
parts = next(v for v in info.values() if isinstance(v, list) and v and isinstance(v[0], dict) and "partition" in v[0])
group = next(g for g in status["groups"] if g["group"] == parts[0]["group"])
print(group["leader"][1:], group["term"])' "$info" "$groups" 2>/dev/null
}

all_up() { "$bin" status --nodes "$sx_nodes" --timeout 2s | grep -q '^OK'; }

# A new leader has a new term. When the term stayed, the leadership had just moved away from the node that was killed: again.
trial() {
    local leader term now attempt
    for attempt in $(seq 10); do
        wait_until 30 "all nodes" all_up
        load "$bin" bench queue publish --name failover --json -q --nodes "$sx_nodes" -c 16 -s 4 --warmup 0 --kill-from-stdin
        sleep 1
        read -r leader term <<<"$(partition_leader)"
        if [ -z "${sx_pid[${leader:-0}]:-}" ]; then # between two leaders at this moment
            exec 9>&-
            wait "$load_pid"
            continue
        fi
        strike "${sx_pid[leader]}"
        quit KILL "${sx_pid[leader]}"
        read -r _ now <<<"$(partition_leader)"
        sx_start_node "$leader"
        if [ "${now:-0}" -gt "$term" ]; then
            judge synaxis "$1"
            return
        fi
        say "  the leadership had moved before the kill: trial $1 is repeated ($attempt)"
    done
    die "trial $1: no leader of the partition could be killed"
}

bench_need_synaxis
bench_begin
rm -f "$raw"
touch "$raw"
sx_start
"$bin" queue create failover --partitions 1 --nodes "$sx_nodes" >/dev/null || die "the topic could not be made"
for n in $(seq "$trials"); do
    trial "$n"
done
sx_stop
python3 bench/queue_table.py "$raw"
