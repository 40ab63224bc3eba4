#!/usr/bin/env bash
# Builds all fuzz targets as OSS-Fuzz expects it: for each its program, its seeds, its dictionary and its options in $OUT.
# The environment of OSS-Fuzz says how to instrument: RUSTFLAGS and RUSTUP_TOOLCHAIN.
set -euo pipefail
: "${SRC:?}" "${OUT:?}"

# $1: a folder of fuzz targets
build() {
    local target corpus dictionary host
    cd "$SRC/presenced/$1"
    # Debug assertions are checks, too, and integers must not overflow.
    cargo fuzz build -O --debug-assertions --target-dir target
    host=$(rustc -vV | sed -n 's/^host: //p')
    for target in $(cargo fuzz list); do
        cp "target/$host/release/$target" "$OUT/"
        corpus=corpus/$target
        rm -f "$OUT/${target}_seed_corpus.zip"
        zip -q -j -r "$OUT/${target}_seed_corpus.zip" "$corpus"
        dictionary=$(sed -n "s/^$target = \"\(.*\.dict\)\"$/\1/p" Cargo.toml)
        if [[ -n $dictionary ]]; then
            cp "$dictionary" "$OUT/$target.dict"
        fi
        printf '[libfuzzer]\nmax_len = 4096\n' > "$OUT/$target.options"
    done
}

build protocol/fuzz
build fuzz
