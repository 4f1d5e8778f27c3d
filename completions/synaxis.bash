# bash completion for synaxis; printed by: synaxis completion bash
_synaxis() {
    local word=${COMP_WORDS[COMP_CWORD]} command="${COMP_WORDS[1]} ${COMP_WORDS[2]}" list=
    if [ "$COMP_CWORD" = 1 ]; then
        list="server sim status lock session queue cache bench healthcheck completion version help "
    else
        case "$command" in
        "status"*) list="--nodes --password --timeout --json --help --watch --interval " ;;
        "lock run") list="--nodes --password --timeout --json --help --ttl --wait --mode --owner --meta --kill --warn --grace --quiet " ;;
        "lock acquire") list="--nodes --password --timeout --json --help --ttl --wait --mode --owner --meta " ;;
        "lock release") list="--nodes --password --timeout --json --help " ;;
        "lock renew") list="--nodes --password --timeout --json --help --ttl " ;;
        "lock check") list="--nodes --password --timeout --json --help " ;;
        "lock info") list="--nodes --password --timeout --json --help " ;;
        "lock list") list="--nodes --password --timeout --json --help --match " ;;
        "lock graph") list="--nodes --password --timeout --json --help --dot " ;;
        "lock force") list="--nodes --password --timeout --json --help --reason " ;;
        "session create") list="--nodes --password --timeout --json --help --ttl --name " ;;
        "session keepalive") list="--nodes --password --timeout --json --help " ;;
        "session end") list="--nodes --password --timeout --json --help " ;;
        "session list") list="--nodes --password --timeout --json --help " ;;
        "queue create") list="--nodes --password --timeout --json --help --partitions --replicas --max-deliver --visibility --retention --max-age --backoff --backoff-max --ordered " ;;
        "queue alter") list="--nodes --password --timeout --json --help --replicas --max-deliver --visibility --retention --max-age --backoff --backoff-max " ;;
        "queue delete") list="--nodes --password --timeout --json --help " ;;
        "queue list") list="--nodes --password --timeout --json --help " ;;
        "queue publish") list="--nodes --password --timeout --json --help --quiet --key --key-sep --id --id-prefix --delay --header --file " ;;
        "queue consume") list="--nodes --password --timeout --json --help --quiet --visibility --group --consumer --count --block --no-ack " ;;
        "queue tail") list="--nodes --password --timeout --json --help --interval --count --follow " ;;
        "queue groups") list="--nodes --password --timeout --json --help " ;;
        "queue lag") list="--nodes --password --timeout --json --help --group " ;;
        "queue info") list="--nodes --password --timeout --json --help " ;;
        "queue peek") list="--nodes --password --timeout --json --help --count " ;;
        "queue seek") list="--nodes --password --timeout --json --help --group " ;;
        "queue dlq") list="--nodes --password --timeout --json --help --group --count " ;;
        "queue redrive") list="--nodes --password --timeout --json --help --group --count " ;;
        "queue forget") list="--nodes --password --timeout --json --help --group " ;;
        "cache get") list="--nodes --password --timeout --json --help " ;;
        "cache set") list="--nodes --password --timeout --json --help --ttl --nx --xx " ;;
        "cache del") list="--nodes --password --timeout --json --help " ;;
        "cache state") list="--nodes --password --timeout --json --help " ;;
        "cache stats") list="--nodes --password --timeout --json --help " ;;
        "cache invalidate") list="--nodes --password --timeout --json --help " ;;
        "bench lock") list="--nodes --password --timeout --json --help --ttl --quiet --target --seconds --warmup --connections --resources --pipeline --rate --server-pids --gaps --kill-from-stdin --hold " ;;
        "bench queue") list="--nodes --password --timeout --json --help --quiet --name --seconds --warmup --connections --pipeline --rate --server-pids --kill-from-stdin --partitions --count --batch --bytes --fill --consumers " ;;
        "bench cache") list="--nodes --password --timeout --json --help --quiet --name --seconds --warmup --connections --pipeline --rate --server-pids --kill-from-stdin --bytes --keys --reads --zipf --preload " ;;
        "healthcheck"*) list="--nodes --password --timeout --json --help --http " ;;
        "completion"*) list="--nodes --password --timeout --json --help " ;;
        "version"*) list="--nodes --password --timeout --json --help " ;;
        "help"*) list="--nodes --password --timeout --json --help " ;;
        "lock "*) list="run acquire release renew check info list graph force " ;;
        "session "*) list="create keepalive end list " ;;
        "queue "*) list="create alter delete list publish consume tail groups lag info peek seek dlq redrive forget " ;;
        "cache "*) list="get set del state stats invalidate " ;;
        "bench "*) list="lock queue cache " ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$list" -- "$word")
}
complete -o default -F _synaxis synaxis
