#!/bin/bash
# Leader killed with -9 under load, time until the next grant that any client gets: Synaxis, and etcd beside it.
#
#   bench/failover.sh                        100 trials of Synaxis, 10 of etcd; about ten minutes
#   bench/failover.sh --trials 20 --etcd 0
#
# Each trial: a closed loop of 16 connections over all nodes runs; after a second the leader of the locks' group dies; from the
# clients' grants the longest silence that ends after the kill is taken, counted from the kill. Then the node is started again and
# the next trial begins when all nodes are up. Default settings throughout. docs/benchmarks.md explains.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

trials=100 etcd_trials=10
while [ $# -gt 0 ]; do
    case "$1" in
    --trials) trials=$2 ;;
    --etcd) etcd_trials=$2 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/failover.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/failover.sh --help)"
done
raw=$results/failover.jsonl

# judge SYSTEM TRIAL KILL_UNIX_US: reads the load's result
judge() {
    python3 -c '
import json, sys
system, trial, killed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
result = json.load(open(sys.argv[4]))
# The first silence that ends after the kill; none: the grants never paused for longer than the threshold of 10 ms.
ends = [(b - killed) / 1e3 for a, b in result["gaps_unix_us"] if b > killed]
ms = ends[0] if ends else 10.0
print(json.dumps({"system": system, "trial": trial, "result": {"ms": round(ms, 1), "errors": result["errors"]}}))
print(f"  {system} trial {trial}: {ms:.0f} ms", file=sys.stderr)' "$1" "$2" "$3" "$work/load.json" >>"$raw"
}

all_up() { "$bin" status --nodes "$sx_nodes" --timeout 2s | grep -q '^OK'; }

trial_synaxis() {
    local leader load killed
    wait_until 30 "all nodes" all_up
    "$bin" bench lock --json -q --nodes "$sx_nodes" -c 16 -s 3 --warmup 0 --gaps 10 >"$work/load.json" 2>>"$work/client.log" &
    load=$!
    pids+=("$load")
    sleep 1
    leader=$(sx_leader) && [ -n "$leader" ] || die "nobody leads"
    killed=${EPOCHREALTIME/[.,]/}
    kill -KILL "${sx_pid[leader]}"
    wait "$load" || die "the load failed: $(tail -2 "$work/client.log")"
    quit KILL "${sx_pid[leader]}"
    judge synaxis "$1" "$killed"
    sx_start_node "$leader"
}

trial_etcd() {
    local leader load killed
    "$work/etcd_lock" -endpoints "$etcd_nodes" -connections 16 -seconds 8 -warmup 0 -gaps 10 >"$work/load.json" 2>>"$work/client.log" &
    load=$!
    pids+=("$load")
    sleep 2
    leader=$(etcd_leader) && [ -n "$leader" ] || die "nobody leads etcd"
    killed=${EPOCHREALTIME/[.,]/}
    kill -KILL "${etcd_pid[leader]}"
    wait "$load" || die "the load failed: $(tail -2 "$work/client.log")"
    quit KILL "${etcd_pid[leader]}"
    judge etcd "$1" "$killed"
    etcd_start_member "$leader" existing
    wait_until 30 "etcd e$leader" etcd_ready "$leader"
}

bench_need_synaxis
bench_begin
rm -f "$raw"
touch "$raw"
if [ "$trials" -gt 0 ]; then
    sx_start
    for trial in $(seq "$trials"); do
        trial_synaxis "$trial"
    done
    sx_stop
fi
if [ "$etcd_trials" -gt 0 ]; then
    bench_peers
    bench_build_tools
    etcd_start
    for trial in $(seq "$etcd_trials"); do
        trial_etcd "$trial"
    done
    etcd_stop
fi
python3 bench/table.py "$raw" | grep -e figure -e '^---' -e killed
