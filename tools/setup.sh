#!/bin/sh
# Installs from Debian what a step needs and is missing; touches nothing else.
#
#   tools/setup.sh run     what ./run needs: compiler, build system, libraries, redis-cli and curl
#   tools/setup.sh test    the same and what ./test needs: cmocka, drivers, promtool, a Redis server, node and npm
#   tools/setup.sh fuzz    clang with libFuzzer
#   tools/setup.sh -n STEP only print what is missing
#
# When nothing is missing it is one dpkg query. It needs root or sudo only when something must be installed.
# promtool is unpacked into .run/tools, because installing Debian's package would start a daemon.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

run_packages="gcc libc6-dev meson ninja-build pkg-config python3 libuv1-dev libjansson-dev libmpack-dev libzstd-dev
libssl-dev libsodium-dev node-llhttp libcmocka-dev redis-tools curl ca-certificates"
test_packages="libhiredis-dev libmsgpack-dev python3-redis iproute2 util-linux procps"
fuzz_packages="clang llvm"

say() { printf '%s\n' "setup: $*" >&2; }

missing_of() {
    # dpkg-query prints one line per known package and complains on stderr about unknown ones.
    have=" $(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        awk '$2 == "installed" { printf "%s ", $1 }')"
    for package in "$@"; do
        case "$have" in
        *" $package "*) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo -- "$@"
    else
        say "these packages are missing and only root can install them: $missing"
        say "run as root: apt-get update && apt-get install --no-install-recommends $missing"
        exit 1
    fi
}

updated=no
update_once() {
    [ "$updated" = no ] || return 0
    say "fetching package lists"
    # One broken third-party list must not stop a machine whose Debian lists are fine; a package not found does.
    as_root apt-get update -qq || say "some package lists could not be fetched; going on with those that could"
    updated=yes
}

install_missing() {
    update_once
    say "installing $(echo "$missing" | wc -w) packages: $missing"
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o Dpkg::Use-Pty=0 $missing | awk '
        /newly installed/ { print "setup:   " $0 }
        /^(Unpacking|Setting up)/ { n++; if (n % 10 == 0) print "setup:   " $0 }
        { fflush() }' >&2
    left=$(missing_of $missing)
    [ -z "$left" ] || { say "could not install: $left"; exit 1; }
    say "installed"
}

unpack_promtool() {
    tool="$root/.run/tools/promtool"
    [ ! -x "$tool" ] && ! command -v promtool >/dev/null 2>&1 || return 0
    say "unpacking promtool into .run/tools (19 MB, checks our metrics)"
    scratch=$(mktemp -d)
    mkdir -p "$root/.run/tools"
    if (cd "$scratch" && chmod 755 . && apt-get download -qq prometheus 2>/dev/null) ||
        { update_once && (cd "$scratch" && apt-get download -qq prometheus 2>/dev/null); }; then
        dpkg-deb --fsys-tarfile "$scratch"/prometheus_*.deb | tar -x -C "$scratch" ./usr/bin/promtool
        mv "$scratch/usr/bin/promtool" "$tool"
    else
        say "prometheus cannot be downloaded: the promtool test will be skipped"
    fi
    rm -rf "$scratch"
}

# Debian's redis-tools brings the whole server under another name; the package redis-server would start a daemon.
link_redis_server() {
    tool="$root/.run/tools/redis-server"
    [ ! -x "$tool" ] && ! command -v redis-server >/dev/null 2>&1 && [ -x /usr/bin/redis-check-rdb ] || return 0
    mkdir -p "$root/.run/tools"
    ln -sf /usr/bin/redis-check-rdb "$tool"
}

dry=no
[ "${1:-}" != -n ] || { dry=yes; shift; }
case "${1:-}" in
run) packages=$run_packages ;;
test)
    packages="$run_packages $test_packages"
    command -v node >/dev/null 2>&1 || packages="$packages nodejs"
    command -v npm >/dev/null 2>&1 || packages="$packages npm"
    ;;
fuzz) packages="$run_packages $fuzz_packages" ;;
*)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

# A machine without dpkg may still have everything: the build says what it lacks.
command -v dpkg-query >/dev/null 2>&1 || { say "not Debian: install the equivalents of: $packages"; exit 0; }
# shellcheck disable=SC2086
missing=$(missing_of $packages)
if [ "$dry" = yes ]; then
    printf '%s\n' "$missing"
    exit 0
fi
[ -z "$missing" ] || install_missing
[ "${1}" != test ] || { unpack_promtool; link_redis_server; }
