# bash completion for synaxis; printed by: synaxis completion bash
_synaxis() {
    local word=${COMP_WORDS[COMP_CWORD]} command="${COMP_WORDS[1]} ${COMP_WORDS[2]}" list=
    if [ "$COMP_CWORD" = 1 ]; then
        list="server sim status lock session bench healthcheck completion version help "
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
        "bench lock") list="--nodes --password --timeout --json --help --ttl --quiet --target --seconds --warmup --connections --resources --pipeline --rate --server-pids --gaps --kill-from-stdin --hold " ;;
        "healthcheck"*) list="--nodes --password --timeout --json --help --http " ;;
        "completion"*) list="--nodes --password --timeout --json --help " ;;
        "version"*) list="--nodes --password --timeout --json --help " ;;
        "help"*) list="--nodes --password --timeout --json --help " ;;
        "lock "*) list="run acquire release renew check info list graph force " ;;
        "session "*) list="create keepalive end list " ;;
        "bench "*) list="lock " ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$list" -- "$word")
}
complete -o default -F _synaxis synaxis
