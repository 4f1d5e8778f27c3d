#!/bin/bash
# Leader killed with -9 under load, time until the next grant that any client gets: Synaxis, and etcd beside it.
#
#   bench/failover.sh                        100 trials of Synaxis, 10 of etcd; about ten minutes
#   bench/failover.sh --trials 20 --etcd 0
#
# Each trial: a closed loop of 16 connections over all nodes; after a second the load generator kills the leader of the locks' group
# and takes the time until the first grant of a request that was sent a millisecond or more after the kill, so that nothing the dead
# leader had under way counts (etcd's clients give a request up after 500 ms and send it anew: its followers sit on
# what they forwarded to a dead leader for seven seconds). Then the node is started again; the next trial begins when all nodes are up. Default settings.
# docs/benchmarks.md explains.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

trials=100 etcd_trials=10
while [ $# -gt 0 ]; do
    case "$1" in
    --trials) trials=$2 ;;
    --etcd) etcd_trials=$2 ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/failover.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/failover.sh --help)"
done
raw=$results/failover.jsonl

all_up() { "$bin" status --nodes "$sx_nodes" --timeout 2s | grep -q '^OK'; }

# A new leader has a new term. When the term stayed, the leadership had just moved away from the node that was killed: again.
trial_synaxis() {
    local leader term now
    while :; do
        wait_until 30 "all nodes" all_up
        load "$bin" bench lock --json -q --nodes "$sx_nodes" -c 16 --resources 1000 -s 3 --warmup 0 --kill-from-stdin
        sleep 1
        read -r leader term <<<"$(sx_leader)"
        if [ -z "${sx_pid[${leader:-0}]:-}" ]; then # between two leaders at this moment
            exec 9>&-
            wait "$load_pid"
            continue
        fi
        strike "${sx_pid[leader]}"
        quit KILL "${sx_pid[leader]}"
        read -r _ now <<<"$(sx_leader)"
        sx_start_node "$leader"
        [ "${now:-0}" -le "$term" ] || break
        say "  the leadership had moved before the kill: the trial is repeated"
    done
    judge synaxis "$1"
}

trial_etcd() {
    local leader
    load "$work/etcd_lock" -endpoints "$etcd_nodes" -connections 16 -seconds 8 -warmup 0 -timeout 500ms -kill-from-stdin
    sleep 2
    leader=$(etcd_leader)
    [ -n "$leader" ] || die "nobody leads etcd"
    strike "${etcd_pid[leader]}"
    quit KILL "${etcd_pid[leader]}"
    judge etcd "$1"
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
