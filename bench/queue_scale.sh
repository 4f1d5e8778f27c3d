#!/bin/bash
# Does the queue keep its throughput as partitions and groups grow, and what does it cost when nothing happens?
#
#   bench/queue_scale.sh                      partitions 1, 6, 60, 600 with the default GROUPS; GROUPS 1, 3, 6, 24 with 60 partitions
#   bench/queue_scale.sh --seconds 15 --idle 60
#   bench/queue_scale.sh --only idle
#
# Each row of the first two tables publishes 128-byte messages, 64 connections with 4 in flight each, and then consumes and acknowledges a filled topic;
# the cluster is new for each row. The last part makes 1,000 partitions in 10 topics, publishes one message to each topic, waits until
# nothing moves, and reads the nodes' processor time over --idle seconds.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh
. bench/queue_lib.sh

seconds=6 warmup=2 fill=300000 idle=30 only=partitions,groups,idle
while [ $# -gt 0 ]; do
    case "$1" in
    --seconds) seconds=$2 ;;
    --warmup) warmup=$2 ;;
    --fill) fill=$2 ;;
    --idle) idle=$2 ;;
    --only) only=$2 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0" && exit 0 ;;
    *) die "unknown argument '$1' (see bench/queue_scale.sh --help)" ;;
    esac
    shift 2 || die "a value is missing (see bench/queue_scale.sh --help)"
done
raw=$results/queue_scale.jsonl

# row KIND VALUE PARTITIONS LOAD ARGUMENT...
row() {
    local kind=$1 value=$2 partitions=$3 load=$4 line
    shift 4
    line=$("$bin" bench queue "$load" --json -q --nodes "$sx_nodes" --server-pids "$(sx_pids)" --partitions "$partitions" --timeout 30s "$@" \
        2>>"$work/client.log") || die "$kind $value, $load: $(tail -2 "$work/client.log")"
    printf '{"kind":"%s","value":%s,"load":"%s","result":%s}\n' "$kind" "$value" "$load" "$line" >>"$raw"
    say "  $kind $value, $load: $(printf '%s' "$line" | python3 -c 'import json, sys; print(round(json.load(sys.stdin)["messages_per_s"]))') messages/s"
}

both() {
    sx_start
    row "$1" "$2" "$3" publish -c 64 -P 4 -s "$seconds" --warmup "$warmup"
    row "$1" "$2" "$3" consume --fill "$fill" --count 256
    sx_stop
}

nodes_ticks() {
    local n sum=0
    for n in 1 2 3; do
        sum="$sum $(process_ticks "${sx_pid[n]}")"
    done
    echo "${sum#0 }"
}

measure_idle() {
    local t before after
    sx_start
    for t in $(seq 10); do
        "$bin" queue create "idle-$t" --partitions 100 --nodes "$sx_nodes" --timeout 30s >/dev/null || die "idle-$t could not be made"
        "$bin" queue publish "idle-$t" x --nodes "$sx_nodes" --timeout 30s >/dev/null || die "nothing could be published to idle-$t"
    done
    sleep 10 # what the new partitions have to do is done
    before=$(nodes_ticks)
    sleep "$idle"
    after=$(nodes_ticks)
    sx_stop
    python3 -c 'import json, os, sys
seconds, before, after = int(sys.argv[1]), sys.argv[2].split(), sys.argv[3].split()
percent = [round((int(b) - int(a)) * 100 / os.sysconf("SC_CLK_TCK") / seconds, 2) for a, b in zip(before, after)]
print(json.dumps({"kind": "idle", "value": 1000, "load": "none", "result": {"cpu_percent": percent}}))' "$idle" "$before" "$after" >>"$raw"
}

bench_need_synaxis
bench_begin
rm -f "$raw"
touch "$raw"
for part in ${only//,/ }; do
    case $part in
    partitions)
        sx_env=()
        for n in 1 6 60 600; do
            both partitions "$n" "$n"
        done
        ;;
    groups)
        for n in 1 3 6 24; do
            sx_env=("GROUPS=$n")
            both groups "$n" 60
        done
        sx_env=()
        ;;
    idle) measure_idle ;;
    *) die "--only: want partitions, groups, idle" ;;
    esac
done
python3 - "$raw" <<'EOF'
import json
import sys

rows = [json.loads(line) for line in open(sys.argv[1], encoding='utf-8')]
for kind in ('partitions', 'groups'):
    for load in ('publish', 'consume'):
        found = [(r['value'], r['result']['messages_per_s']) for r in rows if r['kind'] == kind and r['load'] == load]
        if found:
            top, low = max(v for _, v in found), min(v for _, v in found)
            cells = '  '.join(f'{n}: {v:,.0f}' for n, v in found)
            print(f'{load}, messages/s by {kind}:  {cells}   spread {100 * (1 - low / top):.0f} % '
                  f'({"must met" if low >= 0.7 * top else "NOT MET"}: within 30 %)')
for r in rows:
    if r['kind'] == 'idle':
        cpu = r['result']['cpu_percent']
        print(f'idle with 1,000 partitions, % of a core: {cpu} ({"must met" if max(cpu) < 1 else "NOT MET"}: under 1 % a node)')
EOF
