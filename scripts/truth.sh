#!/usr/bin/env bash
# Measures for how long live users are called offline during each fault (tests/truth), and prints the table of
# docs/truth.md. Takes some minutes, most of them waiting: THREADS rows run at once.
#
#   scripts/truth.sh [FILTER …]    only the rows whose names contain a FILTER
#
# Fails if a row is worse than what is promised; the table is printed all the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly THREADS=${THREADS:-8}
readonly rows=${CARGO_TARGET_DIR:-target}/truth
rm -rf "$rows"

status=0
cargo test --locked --release --test truth -- --test-threads "$THREADS" "$@" >&2 || status=$?

echo '| fault | longest false "offline" | allowed | longest `unknown` |'
echo '| --- | --- | --- | --- |'
shopt -s nullglob
for row in "$rows"/*.row; do
    cat "$row"
done
exit "$status"
