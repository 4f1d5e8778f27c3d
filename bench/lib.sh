# Shared by the scripts of bench/: a scratch directory, peers, clusters on loopback, and an end that leaves nothing behind.
# Sourced, with bash, from the top of the tree. Everything started is in $pids and dies with the script (trap).
# shellcheck shell=bash

bin=${SYNAXIS:-build/synaxis}
results=${BENCH_RESULTS:-bench/results}
pids=()
work=

say() { printf '%s\n' "$*" >&2; }
die() {
    say "bench: $*"
    exit 1
}

bench_end() {
    local pid
    trap '' INT TERM
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null
    done
    sleep 0.2 # until their files are closed
    [ -z "$work" ] || [ -n "${BENCH_KEEP:-}" ] || rm -rf "$work"
}

# The data of all systems goes under one directory, on one disk: BENCH_TMP, else /var/tmp (never a tmpfs, which cannot flush).
bench_begin() {
    local kind
    work=$(mktemp -d "${BENCH_TMP:-/var/tmp}/synaxis-bench.XXXXXX") || die "no scratch directory"
    trap bench_end EXIT
    trap 'exit 130' INT TERM HUP
    kind=$(stat -f -c %T "$work")
    [ "$kind" != tmpfs ] || die "$work is a tmpfs: nothing is durable there; set BENCH_TMP to a directory on a disk"
    mkdir -p "$results"
}

bench_peers() { bench_install etcd-server redis-server golang-go golang-etcd-server-dev gcc libc6-dev python3 curl; }

# Installs packages from Debian without letting servers among them start as services.
bench_install() {
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "bench: installing ${missing[*]}"
    local root=()
    [ "$(id -u)" = 0 ] || root=(sudo --)
    "${root[@]}" apt-get update -q >/dev/null
    # policy-rc.d 101: Debian's way to install a server without starting it
    local had_policy=no
    [ -e /usr/sbin/policy-rc.d ] && had_policy=yes
    [ $had_policy = yes ] || printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    [ $had_policy = yes ] || "${root[@]}" chmod +x /usr/sbin/policy-rc.d
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1
    local status=$?
    [ $had_policy = yes ] || "${root[@]}" rm -f /usr/sbin/policy-rc.d
    [ $status = 0 ] || die "apt-get install failed: $(tail -3 "$work/apt.log")"
}

bench_build_tools() {
    gcc -O2 -pthread -o "$work/probe" bench/probe.c || die "bench/probe.c does not build"
    say "bench: building the etcd driver"
    GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$work/gocache" go build -o "$work/etcd_lock" bench/etcd_lock.go ||
        die "bench/etcd_lock.go does not build"
}

bench_need_synaxis() {
    [ -x "$bin" ] || die "$bin is missing: meson setup build && ninja -C build, or set SYNAXIS"
}

port_is_open() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

next_port=$((20000 + RANDOM % 8000))
# Sets $port; not by output, since a subshell would not remember next_port.
free_port() {
    next_port=$((next_port + 1))
    while port_is_open $next_port; do
        next_port=$((next_port + 1))
    done
    port=$next_port
}

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "waited too long for $what"
        sleep 0.05
    done
}

# launch LOG COMMAND...: sets $pid
launch() {
    local log=$1
    shift
    "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    disown "$pid" # a node that is killed on purpose is not news for the shell
    pids+=("$pid")
}

# Ends a process that launch started and forgets it: quit SIGNAL PID
quit() {
    local kept=() one deadline=$((SECONDS + 10))
    kill "-$1" "$2" 2>/dev/null
    while kill -0 "$2" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        sleep 0.02
    done
    kill -KILL "$2" 2>/dev/null
    for one in "${pids[@]}"; do
        [ "$one" = "$2" ] || kept+=("$one")
    done
    pids=("${kept[@]}")
}

join() {
    local IFS=,
    echo "$*"
}

# --- Synaxis: three nodes. Arrays sx_resp, sx_peer, sx_http, sx_pid by node number 1..3; sx_env: more settings, NAME=value each.
sx_env=()

sx_ports() {
    local n
    for n in 1 2 3; do
        free_port && sx_resp[n]=$port
        free_port && sx_peer[n]=$port
        free_port && sx_http[n]=$port
    done
    sx_members="n1@127.0.0.1:${sx_peer[1]},n2@127.0.0.1:${sx_peer[2]},n3@127.0.0.1:${sx_peer[3]}"
    sx_nodes="127.0.0.1:${sx_resp[1]},127.0.0.1:${sx_resp[2]},127.0.0.1:${sx_resp[3]}"
}

sx_start_node() {
    launch "$work/n$1.log" env "${sx_env[@]}" NODE_ID="n$1" CLUSTER_NODES="$sx_members" RESP_PORT="${sx_resp[$1]}" PEER_PORT="${sx_peer[$1]}" \
        NODE_PORT="${sx_http[$1]}" DATA_DIR="$work/n$1" "$bin" server
    sx_pid[$1]=$pid
}

# A node is ready when it answers and every group has a leader.
sx_wait_ready() { wait_until 30 "node n$1 (see $work/n$1.log)" "$bin" status --timeout 2s --nodes "127.0.0.1:${sx_resp[$1]}"; }

sx_start() {
    local n
    sx_ports
    rm -rf "$work"/n[123]
    for n in 1 2 3; do
        sx_start_node $n
    done
    for n in 1 2 3; do
        sx_wait_ready $n
    done
}

sx_stop() {
    local n
    for n in 1 2 3; do
        quit TERM "${sx_pid[n]}"
    done
}

sx_pids() { join "${sx_pid[1]}" "${sx_pid[2]}" "${sx_pid[3]}"; }

# The number of the node that leads the group of untagged locks, group 0, and its term.
sx_leader() {
    "$bin" status --json --nodes "$sx_nodes" 2>/dev/null | python3 -c '
import json, sys
group = json.load(sys.stdin)["groups"][0]
print(group["leader"][1:], group["term"])'
}

# --- etcd: three members with its defaults. Arrays etcd_client, etcd_peer, etcd_pid.

etcd_start_member() {
    launch "$work/etcd$1.log" etcd --name "e$1" --data-dir "$work/e$1" --log-outputs stderr \
        --listen-client-urls "http://127.0.0.1:${etcd_client[$1]}" --advertise-client-urls "http://127.0.0.1:${etcd_client[$1]}" \
        --listen-peer-urls "http://127.0.0.1:${etcd_peer[$1]}" --initial-advertise-peer-urls "http://127.0.0.1:${etcd_peer[$1]}" \
        --initial-cluster "$etcd_members" --initial-cluster-state "$2"
    etcd_pid[$1]=$pid
}

etcd_ready() { curl -sf --max-time 1 "http://127.0.0.1:${etcd_client[$1]}/health" | grep -q true; }

etcd_start() {
    local n
    for n in 1 2 3; do
        free_port && etcd_client[n]=$port
        free_port && etcd_peer[n]=$port
    done
    etcd_members="e1=http://127.0.0.1:${etcd_peer[1]},e2=http://127.0.0.1:${etcd_peer[2]},e3=http://127.0.0.1:${etcd_peer[3]}"
    etcd_nodes="127.0.0.1:${etcd_client[1]},127.0.0.1:${etcd_client[2]},127.0.0.1:${etcd_client[3]}"
    rm -rf "$work"/e[123]
    for n in 1 2 3; do
        etcd_start_member $n new
    done
    for n in 1 2 3; do
        wait_until 30 "etcd e$n (see $work/etcd$n.log)" etcd_ready $n
    done
}

etcd_stop() {
    local n
    for n in 1 2 3; do
        quit TERM "${etcd_pid[n]}"
    done
}

etcd_pids() { join "${etcd_pid[1]}" "${etcd_pid[2]}" "${etcd_pid[3]}"; }

etcd_leader() {
    local n
    for n in 1 2 3; do
        if curl -sf --max-time 1 "http://127.0.0.1:${etcd_client[n]}/metrics" | grep -q '^etcd_server_is_leader 1'; then
            echo $n
            return
        fi
    done
}

# --- Redis: one, every write flushed before its answer; or nothing ever (redis_start memory).
redis_server=redis-server

# The server's program: its package's, or that of redis-tools, which is the same under another name.
bench_redis() {
    bench_install redis-tools gcc libc6-dev python3 curl
    if ! command -v redis-server >/dev/null && [ -x /usr/bin/redis-check-rdb ]; then
        redis_server=$work/redis-server
        ln -s /usr/bin/redis-check-rdb "$redis_server"
    fi
}

redis_start() {
    local how=(--appendonly yes --appendfsync always)
    [ "${1:-}" != memory ] || how=(--appendonly no)
    free_port
    redis_port=$port
    rm -rf "$work/redis"
    mkdir -p "$work/redis"
    launch "$work/redis.log" "$redis_server" --port "$redis_port" --bind 127.0.0.1 --dir "$work/redis" "${how[@]}" --save "" --daemonize no
    redis_pid=$pid
    wait_until 10 "redis" port_is_open "$redis_port"
}

redis_stop() { quit TERM "$redis_pid"; }

# --- A load that kills a server by order, for the failover scripts, which set where the rows go.
raw=

# judge SYSTEM TRIAL: reads the load's result from $work/load.json and appends a row to $raw
judge() {
    python3 -c '
import json, sys
system, trial = sys.argv[1], int(sys.argv[2])
result = json.load(open(sys.argv[3]))
if not result["killed"] or not result["failover_us"]:
    sys.exit(f"{system} trial {trial}: nothing succeeded after the kill within the load: {result}")
ms = result["failover_us"] / 1e3
print(json.dumps({"system": system, "trial": trial, "result": {"ms": round(ms, 1), "errors": result["errors"]}}))
print(f"  {system} trial {trial}: {ms:.0f} ms", file=sys.stderr)' "$1" "$2" "$work/load.json" >>"$raw" || die "trial $2 failed"
}

# load COMMAND...: in the background, with the kill order to come on descriptor 9
load() {
    rm -f "$work/kill"
    mkfifo "$work/kill"
    "$@" <"$work/kill" >"$work/load.json" 2>>"$work/client.log" &
    load_pid=$!
    pids+=("$load_pid")
    exec 9>"$work/kill"
}

# strike PID: orders the kill and waits for the end of the load
strike() {
    echo "$1" >&9
    exec 9>&-
    wait "$load_pid" || die "the load failed: $(tail -2 "$work/client.log")"
}

# User and system time of a process, in clock ticks.
process_ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{print $12 + $13}'; }
