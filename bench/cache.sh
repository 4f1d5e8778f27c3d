#!/bin/bash
# The cache on this machine: Synaxis (three nodes on loopback) beside Redis 7 (one server), and what coherence costs.
#
#   bench/cache.sh                       all parts, about four minutes; prints the table, raw results in bench/results/
#   bench/cache.sh get set               only these parts
#   bench/cache.sh --rounds 5 --seconds 4 through
#
#   get        GET of lines that the node has, 50 connections, against Redis without persistence
#   set        SET `back` on lines that the node owns, against Redis without persistence
#   through    SET `through`, durable on a majority of three nodes, against Redis with appendfsync always
#   share      SET `back` of a key that the two other nodes share: until both copies are gone; latency
#   miss       GET of a key that another node has modified and memory does not have yet; latency
#   memory     resident bytes of a line beyond its key and value, at a million lines
#   failover   the home of some keys is killed with -9, which had copies of its own: time to the next acknowledged write of one of its keys
#
# Rates: redis-benchmark for both sides, in alternation within each round, medians over rounds. docs/benchmarks.md explains each row.
set -u
cd "$(dirname "$0")/.." || exit 1
. bench/lib.sh

rounds=3 seconds=2 connections=50 keys=10000 bytes=32 samples=9000 lines=1000000 trials=5 parts=()
while [ $# -gt 0 ]; do
    case "$1" in
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0" && exit 0 ;;
    --rounds | --seconds | --connections | --keys | --bytes | --samples | --lines | --trials)
        [ $# -gt 1 ] || die "a value is missing (see bench/cache.sh --help)"
        declare "${1#--}=$2"
        shift
        ;;
    get | set | through | share | miss | memory | failover) parts+=("$1") ;;
    *) die "unknown argument '$1' (see bench/cache.sh --help)" ;;
    esac
    shift
done
[ ${#parts[@]} -gt 0 ] || parts=(get set through share miss memory failover)

raw=$results/cache.jsonl

probe() {
    local line
    line=$("$work/probe" "$work") || die "the probe failed"
    printf '{"system":"machine","round":"%s","result":%s}\n' "$1" "$line" >>"$raw"
    say "machine ($1): $line"
}

driver() { "$work/cache_driver" "$@" 2>>"$work/client.log" || die "cache_driver $*: $(tail -1 "$work/client.log")"; }
all_ports() { join "${sx_resp[1]}" "${sx_resp[2]}" "${sx_resp[3]}"; }

# stat NODE NAME: one number of CACHE.STATS
stat_of() { redis-cli -p "${sx_resp[$1]}" CACHE.STATS | grep -A1 -x "$2" | tail -1; }
sum_of() { echo $(($(stat_of 1 "$1") + $(stat_of 2 "$1") + $(stat_of 3 "$1"))); }
all_clean() { [ "$(sum_of dirty)" = 0 ] && [ "$(sum_of transient)" = 0 ]; }

# sx_cache SETTING...: a new cluster
sx_cache() {
    sx_env=("$@")
    sx_start
}

# --- Rates. redis-benchmark has no time limit: a short run sizes the measured one.

# rate_once COMMAND PORT PIPELINE N: the line of its CSV, columns test, rps, avg, min, p50, p95, p99 and max in ms
rate_once() {
    redis-benchmark -p "$2" -c "$connections" -P "$3" -n "$4" -r "$keys" -d "$bytes" -t "$1" --csv 2>>"$work/client.log" | tail -1
}

# record_rate LOAD SYSTEM ROUND COMMAND PORT PIPELINE PID
record_rate() {
    local n before after csv
    n=$(rate_once "$4" "$5" "$6" 20000 | awk -F'"' -v s="$seconds" '{ print int($4 * s) }')
    [ "${n:-0}" -gt 0 ] || die "redis-benchmark failed: $(tail -1 "$work/client.log")"
    driver -ports "$5" -n "$keys" read >/dev/null # a lease that nobody needed while the other side was measured is over
    before=$(process_ticks "$7")
    csv=$(rate_once "$4" "$5" "$6" "$n")
    after=$(process_ticks "$7")
    printf '%s' "$csv" | python3 -c '
import csv, json, sys
load, system, round_, pipeline, n, ticks, hz = sys.argv[1:]
row = [float(x) for x in list(csv.reader(sys.stdin))[-1][1:]]
cpu = int(ticks) * 1e6 / float(hz) / int(n)
print(json.dumps({"system": system, "load": load, "pipeline": int(pipeline), "round": int(round_), "result": {
    "per_s": row[0], "p50_us": round(row[3] * 1000), "p99_us": round(row[5] * 1000), "server_cpu_us": round(cpu, 3)}}))
print(f"  {load:8} P={pipeline:3} {system:8} {row[0]:9.0f}/s   p50 {row[3]:7.3f} ms  p99 {row[5]:7.3f} ms   server CPU {cpu:6.2f} us",
      file=sys.stderr)' "$1" "$2" "$3" "$6" "$n" $((after - before)) "$(getconf CLK_TCK)" >>"$raw" || die "$1, $2: no result"
}

# rates LOAD COMMAND PIPELINE...: node 1 and Redis in alternation
rates() {
    local load=$1 command=$2 round pipeline
    shift 2
    for round in $(seq "$rounds"); do
        for pipeline in "$@"; do
            record_rate "$load" synaxis "$round" "$command" "${sx_resp[1]}" "$pipeline" "${sx_pid[1]}"
            record_rate "$load" redis "$round" "$command" "$redis_port" "$pipeline" "$redis_pid"
        done
    done
}

# Both sides have every key; on node 1 it is a line that nobody else has.
fill_both() {
    driver -ports "${sx_resp[1]}" -n "$keys" -bytes "$bytes" fill >/dev/null
    driver -ports "$redis_port" -n "$keys" -bytes "$bytes" fill >/dev/null
    driver -ports "${sx_resp[1]}" -n "$keys" read >/dev/null
}

part_get() {
    redis_start memory
    sx_cache
    fill_both
    rates get get 1 16 50
    sx_stop
    redis_stop
}

part_set() {
    redis_start memory
    sx_cache CACHE_WRITE_POLICY=back
    fill_both
    rates set set 1 16
    sx_stop
    redis_stop
}

part_through() {
    redis_start
    sx_cache
    fill_both
    rates through set 1 16
    sx_stop
    redis_stop
}

# --- Latencies

# record_latency LOAD MODE COUNTER TIMES PAUSE_US FIRST N: and that it was what it says, by the nodes' own counts: COUNTER went up by at
# least TIMES per sample
record_latency() {
    local load=$1 mode=$2 counter=$3 times=$4 n=$7 before after line
    before=$(sum_of "$counter")
    line=$(driver -ports "$(all_ports)" -first "$6" -n "$n" -bytes "$bytes" -pause-us "$5" "$mode") || exit 1
    after=$(sum_of "$counter")
    [ $((after - before)) -ge $((n * times * 95 / 100)) ] || die "$load: only $((after - before)) $counter in $n samples"
    printf '{"system":"synaxis","load":"%s","round":1,"result":%s}\n' "$load" "$line" >>"$raw"
    printf '%s' "$line" | python3 -c 'import json, sys
a = json.load(sys.stdin)["latency_us"]
print("  %-10s p50 %6d us  p99 %6d us  p99.9 %6d us  max %6d us  (%d samples)" % (
    sys.argv[1], a["p50"], a["p99"], a["p999"], a["max"], a["count"]))' "$load" >&2
}

# latency MODE COUNTER TIMES: one command after the other, and the same with pauses, with keys of their own
latency() {
    local apart=$((samples / 3))
    sx_cache CACHE_WRITE_POLICY=back
    driver -ports "$(all_ports)" -n $((samples + apart)) -bytes "$bytes" fill >/dev/null
    wait_until 20 "the nodes to have flushed" all_clean
    record_latency "$1" "$@" 0 0 "$samples"
    record_latency "$1-apart" "$@" 3000 "$samples" "$apart"
    sx_stop
}

part_share() { latency share invalidated 2; }
part_miss() { latency miss downgraded 1; }

# --- Memory: node 1 writes every key, so that memory and the homes' directories know it; then node 2 reads each, and grows by its lines alone.

rss_bytes() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

part_memory() {
    local before after had have
    sx_cache CACHE_SIZE=1gb
    say "  filling $lines keys"
    driver -ports "${sx_resp[1]}" -n "$lines" -bytes "$bytes" fill >/dev/null
    driver -ports "${sx_resp[1]}" -n "$lines" read >/dev/null # so that the directories know every key
    driver -ports "${sx_resp[2]}" -first "$lines" -n 20000 -bytes "$bytes" fill >/dev/null # buffers
    before=$(rss_bytes "${sx_pid[2]}") had=$(stat_of 2 lines)
    driver -ports "${sx_resp[2]}" -n "$lines" read >/dev/null
    after=$(rss_bytes "${sx_pid[2]}") have=$(stat_of 2 lines)
    [ $((have - had)) -ge $((lines * 99 / 100)) ] || die "node 2 has only $((have - had)) lines more"
    printf '{"system":"synaxis","load":"memory","round":1,"result":{"lines":%s,"before_bytes":%s,"after_bytes":%s,"bytes_per_line":%s,"counted_per_line":%s}}\n' \
        $((have - had)) "$before" "$after" $(((after - before) / (have - had) - bytes - 16)) $(($(stat_of 2 bytes) / have - bytes - 16)) >>"$raw"
    tail -1 "$raw" >&2
    sx_stop
}

# --- Failover, as bench/failover.sh does it

all_up() { "$bin" status --nodes "$sx_nodes" --timeout 2s | grep -q '^OK'; }

# home_of NODE KEY: the number of the key's home as NODE sees it, and its epoch
home_of() {
    redis-cli -p "${sx_resp[$1]}" --json CACHE.STATE "$2" 2>/dev/null | python3 -c '
import json, sys
state = json.load(sys.stdin)
print(state["home"][1:], state["epoch"])' 2>/dev/null
}

# trial NUMBER: the home has a lease of the group, too, and the new home must wait for its end.
# A new home has a new epoch. When that stayed, the leadership had just moved away from the node that was killed: again.
trial() {
    local home epoch now others n attempt tag="{bench$1}"
    for attempt in $(seq 10); do
        wait_until 30 "all nodes" all_up
        read -r home epoch <<<"$(home_of 1 "$tag")"
        [ -n "${sx_pid[${home:-0}]:-}" ] || continue # between two homes at this moment
        others=()
        for n in 1 2 3; do
            [ "$n" = "$home" ] || others+=("$n")
        done
        load "$work/cache_driver" -ports "$(join "${sx_resp[others[0]]}" "${sx_resp[others[1]]}")" -keys "${tag}a,${tag}b" failover
        sleep 1
        redis-cli -p "${sx_resp[home]}" GET "${tag}a" >/dev/null
        if [ "$(home_of "${others[0]}" "$tag")" != "$home $epoch" ]; then
            exec 9>&-
            wait "$load_pid"
            continue
        fi
        strike "${sx_pid[home]}"
        quit KILL "${sx_pid[home]}"
        read -r _ now <<<"$(home_of "${others[0]}" "$tag")"
        sx_start_node "$home"
        if [ "${now:-0}" -gt "$epoch" ]; then
            judge synaxis "$1"
            return
        fi
        say "  the home had moved before the kill: trial $1 is repeated ($attempt)"
    done
    die "trial $1: no home could be killed"
}

part_failover() {
    local n
    sx_cache
    for n in $(seq "$trials"); do
        trial "$n"
    done
    sx_stop
}

bench_need_synaxis
bench_begin
bench_redis
gcc -O2 -pthread -o "$work/probe" bench/probe.c || die "bench/probe.c does not build"
gcc -O2 -D_GNU_SOURCE -Isrc -o "$work/cache_driver" bench/cache_driver.c src/utils/hist.c src/utils/assert.c || die "bench/cache_driver.c does not build"
rm -f "$raw"
probe before
for part in "${parts[@]}"; do
    say "$part"
    "part_$part"
done
probe after
python3 bench/cache_table.py "$raw"
