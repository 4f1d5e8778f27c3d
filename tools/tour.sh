# The guided tour of ./run demo: sourced by ./run, which has started three nodes. Every command shown is the command that runs.
# shellcheck shell=bash disable=SC2154

tour_failed=0

heading() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Shows a command, runs it, keeps what it printed in $answer.
show() {
    printf '  $ %s\n' "$*"
    answer=$("$@" 2>&1)
    printf '%s\n' "$answer" | sed 's/^/      /'
}
# The value after the line `$1` in the last answer: redis-cli prints a map as alternating lines.
answer_field() { printf '%s\n' "$answer" | awk -v key="$1" 'found { print; exit } $0 == key { found = 1 }'; }
expect() {
    case "$answer" in
    *"$1"*) ;;
    *)
        printf '      ^ expected: %s\n' "$1"
        tour_failed=1
        ;;
    esac
}
cli() { show redis-cli -p "$(resp_of "$1")" "${@:2}"; }
wait_graph_has() {
    local deadline=$((SECONDS + 10))
    until redis-cli -p "$(resp_of 1)" LOCK.WAITGRAPH | grep -q "$1" || [ $SECONDS -ge $deadline ]; do
        sleep 0.05
    done
}

tour_take() {
    heading "1. Take a lock on node 1. Every grant carries a fencing token."
    cli 1 LOCK.ACQUIRE orders EXCLUSIVE OWNER alice TTL 60000
    lock_id=$(answer_field lock_id) token=$(answer_field token)
    expect token
    heading "2. Node 2 knows at once: bob is refused, and told who holds it."
    cli 2 LOCK.ACQUIRE orders EXCLUSIVE OWNER bob
    expect LOCKED
}

tour_wait() {
    heading "3. Bob waits on node 3 (up to a minute); alice releases on node 1; bob has it."
    printf '  $ redis-cli -p %s LOCK.ACQUIRE orders EXCLUSIVE OWNER bob TTL 60000 WAIT 60000 &\n' "$(resp_of 3)"
    redis-cli -p "$(resp_of 3)" LOCK.ACQUIRE orders EXCLUSIVE OWNER bob TTL 60000 WAIT 60000 >"$dir/bob" 2>&1 &
    local waiter=$!
    wait_graph_has bob
    cli 1 LOCK.WAITGRAPH
    cli 1 LOCK.RELEASE orders "$lock_id"
    wait $waiter
    answer=$(cat "$dir/bob")
    printf '%s\n' "$answer" | sed 's/^/      bob: /'
    expect bob
    bob_lock=$(answer_field lock_id)
}

tour_fence() {
    heading "4. Alice wakes up late and still believes in her lock. The resource asks: is token $token the newest?"
    cli 2 LOCK.CHECK orders "$token"
    cli 2 LOCK.RELEASE orders "$lock_id"
    expect STALE
    heading "5. A lock whose holder goes silent is lost after its time: carol asks for 300 ms and vanishes."
    cli 1 LOCK.RELEASE orders "$bob_lock"
    cli 1 LOCK.ACQUIRE orders EXCLUSIVE OWNER carol TTL 300
    cli 2 LOCK.ACQUIRE orders EXCLUSIVE OWNER dave TTL 60000 WAIT 10000
    expect dave
}

tour_deadlock() {
    heading "6. Alice has r1 and waits for r2, bob has r2 and asks for r1: refused at once, with the cycle."
    cli 1 LOCK.ACQUIRE r1 EXCLUSIVE OWNER alice TTL 60000
    cli 2 LOCK.ACQUIRE r2 EXCLUSIVE OWNER bob TTL 60000
    printf '  $ redis-cli -p %s LOCK.ACQUIRE r2 EXCLUSIVE OWNER alice WAIT 20000 &\n' "$(resp_of 1)"
    redis-cli -p "$(resp_of 1)" LOCK.ACQUIRE r2 EXCLUSIVE OWNER alice WAIT 20000 >/dev/null 2>&1 &
    local waiter=$!
    wait_graph_has r2
    cli 2 LOCK.ACQUIRE r1 EXCLUSIVE OWNER bob WAIT 20000
    expect DEADLOCK
    show curl -s "http://127.0.0.1:$(http_of 3)/locks/graph"
    kill $waiter 2>/dev/null
    wait $waiter 2>/dev/null
}

tour_kill() {
    local leader number other
    leader=$(leader_name 1) number=${leader#n}
    other=$((number % 3 + 1))
    heading "7. Kill the leader, $leader, with -9 and go on. The lock and its token are still there."
    printf '  $ kill -9 %s\n' "$(pid_of "$number")"
    kill -9 "$(pid_of "$number")"
    cli $other LOCK.ACQUIRE after-the-kill EXCLUSIVE OWNER erin TTL 60000
    expect token
    cli $other LOCK.ACQUIRE orders EXCLUSIVE OWNER frank
    expect LOCKED
    show curl -s "http://127.0.0.1:$(http_of $other)/raft/state"
    heading "8. $leader comes back and catches up."
    start_node "$number"
    wait_ready "$number"
    show "$bin" status
}

tour_http() {
    heading "9. The same locks by HTTP and JSON."
    show curl -s -X POST "http://127.0.0.1:$(http_of 2)/lock/acquire" -H 'Content-Type: application/json' \
        -d '{"resource_id":"report","lock_type":"exclusive","client_id":"web","ttl_ms":30000}'
    expect fencing_token
    show curl -s "http://127.0.0.1:$(http_of 3)/lock/report"
}

# The group of a topic's partition, by its row in QUEUE.INFO.
group_of_partition() {
    redis-cli -p "$(resp_of 1)" QUEUE.INFO tour | awk -v want="$1" '$0 == "partition" { getline; p = $0 } $0 == "group" && p == want { getline; print; exit }'
}

group_leader() {
    redis-cli -p "$(resp_of 1)" CLUSTER.GROUPS | awk -v want="$1" '$0 == "group" { getline; g = $0 } $0 == "leader" && g == want { getline; print; exit }'
}

tour_queue() {
    heading "10. A queue: publish on one node, consume on another. Acknowledged means on a majority of disks."
    cli 1 QUEUE.CREATE tour PARTITIONS 3 MAXDELIVER 2 BACKOFF 0
    cli 1 QUEUE.PUBLISH tour "parcel 1" KEY berlin
    expect tour:
    cli 2 QUEUE.PUBLISH tour "parcel 2" KEY paris
    cli 3 QUEUE.CONSUME tour GROUP drivers CONSUMER ann COUNT 1 BLOCK 5000
    expect parcel
    receipt=$(answer_field receipt)
    cli 1 QUEUE.ACK tour GROUP drivers "$receipt"
    expect 1
    heading "11. The other one fails twice: it is a dead letter, with its reason, until it is redriven."
    local try
    for try in 1 2; do
        cli 2 QUEUE.CONSUME tour GROUP drivers CONSUMER ann COUNT 1 BLOCK 5000
        receipt=$(answer_field receipt)
        cli 2 QUEUE.NACK tour GROUP drivers "$receipt" REASON "nobody at home ($try)"
    done
    cli 3 QUEUE.DLQ tour GROUP drivers
    expect "nobody at home (2)"
    cli 3 QUEUE.REDRIVE tour GROUP drivers
    expect 1
}

tour_queue_kill() {
    local group leader number other partition
    other=1
    cli 1 QUEUE.CONSUME tour GROUP drivers CONSUMER ann COUNT 1 BLOCK 5000
    expect parcel
    receipt=$(answer_field receipt)
    partition=${receipt%%-*}
    group=$(group_of_partition "$partition")
    leader=$(group_leader "$group") number=${leader#n}
    other=$((number % 3 + 1))
    heading "12. Kill -9 the node that leads its partition, $leader: nothing is lost, the receipt is still good."
    printf '  $ kill -9 %s\n' "$(pid_of "$number")"
    kill -9 "$(pid_of "$number")"
    cli $other QUEUE.PUBLISH tour "parcel 3" KEY berlin
    expect tour:
    cli $other QUEUE.ACK tour GROUP drivers "$receipt"
    expect 1
    cli $other QUEUE.CONSUME tour GROUP drivers CONSUMER ann COUNT 1 BLOCK 5000
    expect "parcel 3"
    cli $other QUEUE.LAG tour GROUP drivers
    start_node "$number"
    wait_ready "$number"
    cli $other QUEUE.DELETE tour
}

# The state of a key's line on a node, by CACHE.STATE.
line_state() {
    redis-cli -p "$(resp_of 1)" CACHE.STATE "$1" | awk -v want="n$2" '$0 == "node" { getline; n = $0 } $0 == "state" && n == want { getline; print; exit }'
}

# How many groups are not led by the first node of their place on the ring: leadership goes there seconds after a start, and takes copies along.
groups_away() {
    redis-cli -p "$(resp_of 1)" CLUSTER.GROUPS | awk '$0 == "leader" { getline; l = $0 } $0 == "replicas" { getline; getline; n += $0 != l } END { print n + 0 }'
}

wait_places() {
    local deadline=$((SECONDS + 30))
    until [ "$(groups_away)" = 0 ] || [ $SECONDS -ge $deadline ]; do
        sleep 0.1
    done
}

line_is() {
    local state deadline=$((SECONDS + 10))
    state=$(line_state "$1" "$2")
    while [ "$state" = unknown ] && [ $SECONDS -lt $deadline ]; do
        state=$(line_state "$1" "$2") # it was slow to answer
    done
    printf '    node %s: %s\n' "$2" "$state"
    [ "$state" = "$3" ] || { printf '  NOT AS EXPECTED: line of %s on node %s should be %s\n' "$1" "$2" "$3" && tour_failed=1; }
}

tour_cache() {
    heading "13. A cache: written and read on node 2, which owns the only copy (E); read on node 3, and both share it (S)."
    wait_places
    cli 2 SET price 10
    expect OK
    cli 2 GET price
    expect 10
    line_is price 2 E
    cli 3 GET price
    expect 10
    cli 1 CACHE.STATE price
    line_is price 2 S
    line_is price 3 S
    heading "14. A write on node 1 takes both copies away (I) before it is acknowledged: nobody reads the old price again."
    cli 1 SET price 12
    expect OK
    line_is price 2 I
    line_is price 3 I
    cli 2 GET price
    expect 12
    cli 1 DEL price
}

tour_write_back() {
    local first=$dir
    heading "15. Three new nodes, with CACHE_WRITE_POLICY=back: a write stays in its owner's line, modified (M), until somebody wants it."
    stop_cluster
    dir=$first/back
    rm -rf "$dir"
    mkdir -p "$dir"
    export CACHE_WRITE_POLICY=back CACHE_FLUSH_INTERVAL=60000
    start_cluster
    unset CACHE_WRITE_POLICY CACHE_FLUSH_INTERVAL
    wait_places
    cli 2 SET price 21
    expect OK
    line_is price 2 M
    printf '  A read on node 3: node 2 writes it to memory on the way, and both share it.\n'
    cli 3 GET price
    expect 21
    line_is price 2 S
    line_is price 3 S
    printf '  A write on node 3 makes it the owner; the copy of node 2 is gone before the reply.\n'
    cli 3 SET price 22
    expect OK
    line_is price 3 M
    line_is price 2 I
    cli 1 GET price
    expect 22
    stop_cluster
    dir=$first
}

tour() {
    local resource
    redis-cli -p "$(resp_of 1)" PING >/dev/null || die "redis-cli is missing: tools/setup.sh run"
    for resource in orders r1 r2 after-the-kill report; do
        redis-cli -p "$(resp_of 1)" LOCK.FORCE $resource REASON "the tour begins" >/dev/null 2>&1
    done
    redis-cli -p "$(resp_of 1)" QUEUE.DELETE tour >/dev/null 2>&1
    tour_take
    tour_wait
    tour_fence
    tour_deadlock
    tour_kill
    tour_http
    tour_queue
    tour_queue_kill
    tour_cache
    tour_write_back
    rm -f "$dir/bob"
    [ $tour_failed = 0 ] || { stop_cluster && die "the tour did not go as its text says"; }
    heading "That was it. README.md has five minutes by hand; docs/locks.md, docs/queue.md and docs/cache.md say what is promised."
}
