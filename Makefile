# `make help` lists what there is. Each step prints a heading; the first that fails ends the run.

.DEFAULT_GOAL := help
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
# The steps share cargo's target folder and the machine's two cores: one after another, whatever -j says.
.NOTPARALLEL:

# Programs that scripts/setup.sh put into target/venv come first; cargo may not be in a CI's path.
export PATH := $(CURDIR)/target/venv/bin:$(PATH):$(HOME)/.cargo/bin
heading = @printf '\n== %s\n' '$(1)'

## test: all that must pass: formatting, lints, tests, client, docs, licences
.PHONY: test
test: setup fmt layers clippy rust-test bench-build client-check client-test browser-test doc deny
	@printf '\nAll passed.\n'

## setup: install what is missing (memcached, chromium, Node.js, a Python with memcached's clients)
.PHONY: setup
setup:
	$(call heading,setup)
	@scripts/setup.sh

## fmt: is all code formatted?
.PHONY: fmt
fmt:
	$(call heading,cargo fmt)
	@cargo fmt --all --check

## layers: does each part use only what is below it, without circles?
.PHONY: layers
layers:
	$(call heading,layers and circles)
	@scripts/check_layers.py --self-test
	@scripts/check_layers.py

## clippy: lints, warnings are errors
.PHONY: clippy
clippy:
	$(call heading,cargo clippy)
	@cargo clippy --locked --workspace --all-targets -- -D warnings

## rust-test: unit, property, integration and doc tests; replays the fuzzers' corpora
.PHONY: rust-test
# One of the conformance tests uses a library of the client's.
rust-test: client/node_modules/.package-lock.json
	$(call heading,cargo test)
	@cargo test --locked --workspace

## loom: all interleavings of heartbeats, flushes and slots, with one preemption more than in `make rust-test`
.PHONY: loom
PREEMPTIONS ?= 3
loom:
	$(call heading,loom with $(PREEMPTIONS) preemptions)
	@LOOM_MAX_PREEMPTIONS=$(PREEMPTIONS) cargo test --locked --test loom_presence

## shuttle: random interleavings of more users and threads: make shuttle ITERATIONS=100000
.PHONY: shuttle
ITERATIONS ?= 200000
shuttle:
	$(call heading,shuttle: $(ITERATIONS) schedules of each kind)
	@SHUTTLE_ITERATIONS=$(ITERATIONS) cargo test --locked --test shuttle_presence

## soak: what is random, for longer: the above, the store beside memcached, and faults; STORE_CASES=100000 for half an hour
.PHONY: soak
STORE_CASES ?= 20000
soak: setup loom shuttle faults
	$(call heading,the store beside memcached: $(STORE_CASES) sequences)
	@STORE_CASES=$(STORE_CASES) cargo test --locked --release --test it store_differential::

## bench-build: do the benches compile?
.PHONY: bench-build
# Unoptimized, so that the dependencies are those that `cargo test` has built.
bench-build:
	$(call heading,cargo bench --no-run)
	@cargo bench --locked --no-run --profile dev

## client-check: types of the browser client, and is presence.d.ts up to date?
.PHONY: client-check
client-check: client/node_modules/.package-lock.json
	$(call heading,client: types)
	@cd client && npm run --silent check && npm run --silent types:check

## client-test: the browser client against a scripted socket
.PHONY: client-test
client-test: client/node_modules/.package-lock.json
	$(call heading,client: unit tests)
	@cd client && npm test --silent

## browser-test: the demo page in Chromium on the built server
.PHONY: browser-test
# The binary that `cargo test` has built, so that nothing is compiled for it.
browser-test: export PRESENCED_BIN ?= $(abspath $(or $(CARGO_TARGET_DIR),target))/debug/presenced
browser-test: client/node_modules/.package-lock.json
	$(call heading,client: browser tests)
	@cd client && npm run --silent test:browser

## screenshot: take README's picture of the demo page anew (docs/images/demo.png)
.PHONY: screenshot
screenshot: client/node_modules/.package-lock.json
	$(call heading,client: screenshot)
	@cargo build --locked
	@PRESENCED_BIN=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/presenced node client/screenshot.js

# npm writes this file when it is done, so it is newer than the lock file exactly when there is nothing to do.
client/node_modules/.package-lock.json: client/package.json client/package-lock.json
	$(call heading,npm ci)
	@cd client && npm ci --no-audit --no-fund

## doc: the documentation, warnings are errors
.PHONY: doc
doc:
	$(call heading,cargo doc)
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps

## deny: licences, sources and banned crates of the tree
.PHONY: deny
deny:
	$(call heading,cargo deny)
	@if command -v cargo-deny >/dev/null; then \
	    cargo-deny --log-level error --locked check bans licenses sources; \
	else \
	    echo 'left out: no cargo-deny here (cargo install --locked cargo-deny)'; \
	fi

## bench: all criterion suites, or one: make bench SUITE=flush
.PHONY: bench
bench: setup
	$(call heading,cargo bench $(SUITE))
	@cargo bench --locked $(addprefix --bench ,$(SUITE))

## compare: presenced beside its peers: make compare SESSIONS=18000 DURATION=20s PEERS="epoll ws"
.PHONY: compare
compare: setup
	$(call heading,compare)
	@scripts/compare.py $(addprefix --sessions ,$(SESSIONS)) $(addprefix --duration ,$(DURATION)) \
	    $(if $(PEERS),--peers "$(PEERS)")

## compare-memcached: a flush beside other memcached clients: make compare-memcached USERS=200000 CLIENTS="bare pymemcache"
.PHONY: compare-memcached
compare-memcached: setup
	$(call heading,compare-memcached)
	@scripts/compare_memcached.py $(addprefix --users ,$(USERS)) $(if $(CLIENTS),--clients "$(CLIENTS)")

## faults: faults of memcached under load, 50,000 users and 1,000 restarts with each command (twelve minutes): make faults RESTARTS=100
.PHONY: faults
RESTARTS ?= 1000
faults: setup
	$(call heading,faults of memcached, with $(RESTARTS) restarts)
	@FAULT_USERS=50000 FAULT_RESTARTS=$(RESTARTS) cargo test --locked --release --test it faults:: -- --test-threads 1 --nocapture

## fuzz: one target for some time: make fuzz TARGET=replies SECONDS=600 (nightly Rust, cargo-fuzz)
.PHONY: fuzz
TARGET ?= replies
SECONDS ?= 600
# Words that help where they are read.
dictionary_exchange := memcached.dict
dictionary_gate := websocket.dict
dictionary_handshake := handshake.dict
dictionary_pull := pull.dict
dictionary_replies := memcached.dict
dictionary_requests := memcached.dict
dictionary_settings := settings.dict
fuzz:
	$(call heading,cargo fuzz $(TARGET) for $(SECONDS) s)
	@cargo +nightly fuzz --version >/dev/null || \
	    { echo 'needs: rustup toolchain install nightly && cargo install --locked cargo-fuzz' >&2; exit 1; }
	@cd fuzz && mkdir -p target/corpus/$(TARGET) && \
	    cargo +nightly fuzz run $(TARGET) target/corpus/$(TARGET) corpus/$(TARGET) -- \
	    $(addprefix -dict=,$(dictionary_$(TARGET))) -max_len=4096 -max_total_time=$(SECONDS)

## types: write client/presence.d.ts anew
.PHONY: types
types: client/node_modules/.package-lock.json
	@cd client && npm run --silent types

## help: this list
.PHONY: help
help:
	@sed -n 's/^## \([^:]*\): /\1|/p' $(MAKEFILE_LIST) | awk -F '|' '{ printf "  make %-17s %s\n", $$1, $$2 }'
