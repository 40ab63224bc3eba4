#!/usr/bin/env bash
# Who may use whom (ARCHITECTURE.md): the arrows between the parts point downward, and what is pure stays pure.
#
# Reads what the code names, not what its comments link to; unit tests may name anything. Prints each offence as
# file:line and ends with 1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# No tokio, no clock, no sockets. A file that is not there is left out, a folder without any is an error.
pure=(
    protocol/src
    session/src/{table,rest,gate,codec,assembly,bucket,wheel,memory,end}.rs
    src/server/message.rs
    presence/src/{pending,record,slot,sync,user_id}.rs
    presence/src/flush/pace.rs
    presence/src/users
    memcached/src/{address,pipeline,ring,values}.rs
    store/src/{item,slab,hash,flush,items,change,tally,execute,meta,told,talk}.rs
    src/limits.rs
)

failed=0
complain() {
    printf '%s\n' "$1" >&2
    failed=1
}

for folder in protocol/src src session/src presence/src memcached/src store/src; do
    if [[ -z $(find "$folder" -name '*.rs' -print -quit 2>/dev/null) ]]; then
        complain "$folder: no Rust file in it; has it moved? (scripts/check-arrows.sh)"
    fi
done

# All code as file:line:text, without comments and without `#[cfg(test)] mod … { … }`, each `use` on one line.
code=$(mktemp)
trap 'rm -f "$code"' EXIT
find protocol/src memcached/src presence/src session/src store/src src -name '*.rs' ! -name tests.rs ! -path '*/tests/*' -print | sort | xargs -r awk '
    function out(line, text) { print FILENAME ":" line ": " text }
    FNR == 1 { in_tests = 0; after_cfg = 0; use_line = 0; use_text = "" }
    { text = $0; sub(/\/\/.*/, "", text) }
    in_tests { if (text ~ /^}/) in_tests = 0; next }
    after_cfg {
        after_cfg = 0
        if (text ~ /^(pub(\([a-z]+\))? )?mod [a-z_0-9]+ \{/) { in_tests = 1; next }
    }
    text ~ /^#\[cfg\(.*test/ { after_cfg = 1 }
    use_line {
        sub(/^ +/, "", text)
        use_text = use_text text " "
        if (text ~ /;/) { out(use_line, use_text); use_line = 0 }
        next
    }
    text ~ /^ *(pub(\([a-z ]+\))? )?use [^;]*$/ { use_line = FNR; use_text = text " "; next }
    text ~ /[^ ]/ { out(FNR, text) }
' >"$code"

# offences WHERE PATTERN WHY: complains of each line of the files (a pattern) that matches.
offences() {
    local where=$1 pattern=$2 why=$3 line
    while IFS= read -r line; do
        complain "$(cut -d: -f1,2 <<<"$line"): $why: $(cut -d: -f3- <<<"$line" | sed 's/^ *//; s/ *$//')"
    done < <(grep -E "^$where:[0-9]+:" "$code" | grep -E "^[^:]+:[0-9]+:.*$pattern" || true)
}

# What names a part at the top of the crate: by its path, within braces, or upward from a file of another part.
part() {
    printf '%s' "((^|[^A-Za-z0-9_:])(crate|super::super(::super)*)::(\{(.*[{, ])?)?$1([^A-Za-z0-9_]|$))"
}

# main.rs is a crate of its own and says presenced::server.
offences 'src/(gateway|pull|admin)/[^:]+' "$(part server)" 'the gateway, pulls and admin must not name server'
# `super` in mod.rs is the crate itself.

impure='tokio(_[a-z]+)?::|mio::|Instant::now|SystemTime::now'
impure+='|std::net([^A-Za-z0-9_]|$)|std::\{(.*[{, ])?net(::|[,}])'
not_pure="(^|[^A-Za-z0-9_])($impure)"
for entry in "${pure[@]}"; do
    if [[ -d $entry ]]; then
        where="${entry//./\\.}/[^:]+"
    else
        where="${entry//./\\.}"
    fi
    offences "$where" "$not_pure" 'no tokio, clock or socket in what is pure'
done

exit "$failed"
