#!/usr/bin/env bash
# Makes rings.txt with the real clients; see README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O1 -o "$work/libmemcached" libmemcached.c -lmemcached
(cd "$work" && npm install --silent --no-audit --no-fund memcached@2.2.2 hashring@3.2.0 2>/dev/null >&2)
"$work/libmemcached" <servers.txt >rings.txt
NODE_PATH="$work/node_modules" node npm.cjs <servers.txt >>rings.txt
