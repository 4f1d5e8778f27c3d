# The queues that bench/queue*.sh compare with: NATS JetStream and RabbitMQ on three nodes, on loopback, with drivers built from bench/*.c.
# Sourced after lib.sh. Redis is lib.sh's.
# shellcheck shell=bash disable=SC2154,SC2034 # what lib.sh sets, and what is set for the scripts

bench_queue_peers() {
    bench_install nats-server rabbitmq-server librabbitmq-dev redis-server redis-tools gcc libc6-dev python3 curl
}

bench_queue_tools() {
    gcc -O2 -pthread -o "$work/probe" bench/probe.c || die "bench/probe.c does not build"
    gcc -O2 -D_GNU_SOURCE -Isrc -o "$work/nats_queue" bench/nats_queue.c src/utils/hist.c src/utils/assert.c || die "bench/nats_queue.c does not build"
    gcc -O2 -D_GNU_SOURCE -Isrc -o "$work/amqp_queue" bench/amqp_queue.c src/utils/hist.c src/utils/assert.c -lrabbitmq ||
        die "bench/amqp_queue.c does not build"
}

# --- NATS: three servers with JetStream. Arrays nats_client, nats_route, nats_http, nats_pid.

nats_start_server() {
    mkdir -p "$work/nats$1"
    cat >"$work/nats$1.conf" <<EOF
server_name: s$1
listen: 127.0.0.1:${nats_client[$1]}
http: 127.0.0.1:${nats_http[$1]}
jetstream { store_dir: "$work/nats$1", max_memory_store: 256MB, max_file_store: 8GB }
cluster { name: bench, listen: 127.0.0.1:${nats_route[$1]}, routes: [$nats_routes] }
EOF
    launch "$work/nats$1.log" nats-server -c "$work/nats$1.conf"
    nats_pid[$1]=$pid
}

nats_ready() { curl -sf --max-time 1 "http://127.0.0.1:${nats_http[$1]}/healthz" | grep -q ok; }

nats_start() {
    local n
    nats_routes=
    for n in 1 2 3; do
        free_port && nats_client[n]=$port
        free_port && nats_route[n]=$port
        free_port && nats_http[n]=$port
        nats_routes="$nats_routes${nats_routes:+, }nats://127.0.0.1:${nats_route[n]}"
    done
    rm -rf "$work"/nats[123]
    for n in 1 2 3; do
        nats_start_server $n
    done
    for n in 1 2 3; do
        wait_until 30 "nats s$n (see $work/nats$n.log)" nats_ready $n
    done
    nats_ports=$(join "${nats_client[1]}" "${nats_client[2]}" "${nats_client[3]}")
}

nats_setup() { "$work/nats_queue" -ports "$nats_ports" setup 2>>"$work/client.log" || die "nats: no stream: $(tail -1 "$work/client.log")"; }

nats_stop() {
    local n
    for n in 1 2 3; do
        quit TERM "${nats_pid[n]}"
    done
}

nats_pids() { join "${nats_pid[1]}" "${nats_pid[2]}" "${nats_pid[3]}"; }

# --- RabbitMQ: three nodes in one cluster, their port mapper (epmd) on a port of its own. Arrays rabbit_port, rabbit_dist, rabbit_pid.

# rabbit_env NUMBER COMMAND...: as that node, with its files under $work
rabbit_env() {
    local n=$1
    shift
    env HOME="$work/rabbit" ERL_EPMD_PORT="$rabbit_epmd" ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME="r$n@localhost" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="${rabbit_port[n]}" RABBITMQ_DIST_PORT="${rabbit_dist[n]}" \
        RABBITMQ_MNESIA_BASE="$work/rabbit/data" RABBITMQ_LOG_BASE="$work/rabbit/log" RABBITMQ_ENABLED_PLUGINS_FILE="$work/rabbit/plugins" \
        RABBITMQ_CONFIG_FILE="$work/rabbit/none" RABBITMQ_CONF_ENV_FILE="$work/rabbit/none" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" "$@"
}

rabbit_bin=/usr/lib/rabbitmq/bin

rabbit_start_node() {
    launch "$work/rabbit/r$1.out" rabbit_env "$1" "$rabbit_bin/rabbitmq-server"
    rabbit_pid[$1]=$pid
    wait_until 60 "rabbitmq r$1 (see $work/rabbit/r$1.out)" port_is_open "${rabbit_port[$1]}"
    pids+=("$(rabbit_beam "$pid")") # ends with the script, as what launch started does
}

rabbit_ctl() {
    local n=$1
    shift
    rabbit_env "$n" "$rabbit_bin/rabbitmqctl" -q "$@" >>"$work/rabbit/ctl.log" 2>&1 || die "rabbitmqctl $*: $(tail -2 "$work/rabbit/ctl.log")"
}

rabbit_start() {
    local n
    free_port && rabbit_epmd=$port
    rm -rf "$work/rabbit"
    mkdir -p "$work/rabbit"
    echo '[].' >"$work/rabbit/plugins"
    for n in 1 2 3; do
        free_port && rabbit_port[n]=$port
        free_port && rabbit_dist[n]=$port
    done
    launch "$work/rabbit/epmd.out" epmd -address 127.0.0.1 -port "$rabbit_epmd"
    rabbit_epmd_pid=$pid
    for n in 1 2 3; do
        rabbit_start_node $n
    done
    for n in 2 3; do
        rabbit_ctl $n stop_app
        rabbit_ctl $n join_cluster r1@localhost
        rabbit_ctl $n start_app
    done
    rabbit_ports=$(join "${rabbit_port[1]}" "${rabbit_port[2]}" "${rabbit_port[3]}")
}

# What the driver declared is a quorum queue with a member on each node.
rabbit_on_three_nodes() {
    rabbit_env 1 "$rabbit_bin/rabbitmqctl" -q list_queues name type members 2>>"$work/rabbit/ctl.log" |
        grep '^bench' | grep quorum | grep r1@ | grep r2@ | grep -q r3@
}

# The processes that do the work: beam.smp below the scripts that started them.
rabbit_pids() {
    local n found=()
    for n in 1 2 3; do
        found+=("$(rabbit_beam "${rabbit_pid[n]}")")
    done
    join "${found[@]}"
}

rabbit_beam() {
    local one=$1 child
    while child=$(pgrep -o -P "$one") && [ "$(cat "/proc/$one/comm")" != beam.smp ]; do
        one=$child
    done
    echo "$one"
}

rabbit_stop() {
    local n beams
    beams=$(rabbit_pids)
    for n in 1 2 3; do
        rabbit_env $n "$rabbit_bin/rabbitmqctl" -q shutdown --timeout 15 >>"$work/rabbit/ctl.log" 2>&1
    done
    for n in ${beams//,/ }; do
        quit TERM "$n"
    done
    for n in 1 2 3; do
        quit TERM "${rabbit_pid[n]}"
    done
    quit TERM "$rabbit_epmd_pid"
}
